"""The chained plugins: what they cost, what they execute, and how that grows with ports."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench.node import Call, conf, sh

CHAINED: dict[str, dict[str, Any]] = {
    "portmap": {"runtimeConfig": {"portMappings": []}},
    "bandwidth": {
        "ingressRate": 8_000_000,
        "ingressBurst": 800_000,
        "egressRate": 8_000_000,
        "egressBurst": 800_000,
    },
    "tuning": {"sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "mtu": 1400},
    "firewall": {"backend": "iptables"},
}
PORT = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
NETNS = "/run/netns/bench"
EXISTING = (10, 1000)
PORTS = (10, 10_000)


class Chain:
    """A pod on a bridge, for the plugins behind it.

    Args:
        directory: the executables of one suite.
        subnets: the pod's.
    """

    def __init__(self, directory: str, *subnets: str) -> None:
        self._bridge = Call(directory, "bridge")
        self._document = conf("1.0.0", *subnets, ipMasq=False)
        sh("ip", "netns", "add", "bench")
        _, stdout = self._bridge("ADD", self._document, netns=NETNS)
        self.result: dict[str, Any] = json.loads(stdout)

    def request(self, plugin: str, **over: Any) -> dict[str, Any]:
        """A plugin's request behind this pod's bridge."""
        identity = {"cniVersion": "1.0.0", "name": "bench", "type": plugin}
        return {**identity, **CHAINED[plugin], "prevResult": self.result, **over}

    def close(self) -> None:
        """The pod goes."""
        self._bridge("DEL", {**self._document, "prevResult": self.result}, netns=NETNS)
        sh("ip", "netns", "del", "bench")


def ports(count: int, first: int = 8080) -> dict[str, Any]:
    """Capability arguments with that many published ports."""
    listed = [{**PORT, "hostPort": first + i, "containerPort": 80 + i} for i in range(count)]
    return {"runtimeConfig": {"portMappings": listed}}


def lives(directory: str) -> dict[str, float]:
    """ADD, CHECK and DEL of each chained plugin; portmap with one port, IPv4 and IPv6.

    CHECK of portmap is left out: Debian's reference never passes it on dual stack.
    """
    chain = Chain(directory, "10.9.0.0/16", "fd00:9::/64")
    found = {}
    for plugin in CHAINED:
        call = Call(directory, plugin)
        document = chain.request(plugin, **(ports(1) if plugin == "portmap" else {}))
        for verb in ("ADD", "CHECK", "DEL"):
            if (plugin, verb) != ("portmap", "CHECK"):
                found[f"{plugin} {verb}"] = call(verb, document, netns=NETNS)[0]
    chain.close()
    return found


def executed(directory: str) -> dict[str, str]:
    """The tools that each verb executes, counted by strace; the plugin itself is left out."""
    chain = Chain(directory, "10.9.0.0/16", "fd00:9::/64")
    found = {}
    for plugin, label, over in (
        ("portmap", "portmap, no ports", {}),
        ("portmap", "portmap, 1 port", ports(1)),
        ("portmap", "portmap, 100 ports", ports(100)),
        ("bandwidth", "bandwidth", {}),
        ("tuning", "tuning", {}),
        ("firewall", "firewall", {}),
    ):
        document = chain.request(plugin, **over)
        for verb in ("ADD", "CHECK", "DEL"):
            found[f"{label}: {verb}"] = _traced(directory, plugin, verb, document)
    chain.close()
    return found


def _traced(directory: str, plugin: str, verb: str, document: dict[str, Any]) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        trace = f"{scratch}/trace"
        wrapper = ("strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", trace)
        call = Call(directory, plugin, wrapper=wrapper)
        call(verb, document, netns=NETNS, may_fail=plugin == "portmap" and verb == "CHECK")
        lines = Path(trace).read_text(encoding="utf-8").splitlines()
    paths = [m[1] for line in lines if (m := re.search(r'execve\("([^"]*)".* = 0$', line))]
    tools = Counter(os.path.basename(p) for p in paths if not p.startswith(directory))
    return ", ".join(f"{count} {name}" for name, count in sorted(tools.items())) or "none"


def add_cost(existing: int, over: dict[str, Any]) -> Any:
    """Portmap's ADD of one port where other containers have published ``existing``."""
    prepared: dict[str, str] = {}

    def sample(directory: str) -> dict[str, float]:
        call = Call(directory, "portmap", host=prepared.get(directory, ""))
        if directory not in prepared:
            prepared[directory] = call.host = f"ports{existing}-{len(prepared)}-{over['backend']}"
            _publish(call, existing, over)
        document = _published(2, ports(1, 8000), over)
        seconds, _ = call("ADD", document, "mine", NETNS_OF_PORTS)
        call("DEL", document, "mine", NETNS_OF_PORTS)
        return {f"portmap ADD on {over['backend']}, {existing} ports": seconds}

    return sample


NETNS_OF_PORTS = "/run/netns/ports-pod"


def _publish(call: Call, existing: int, over: dict[str, Any]) -> None:
    """A host of its own, where containers of ten ports each are published."""
    sh("ip", "netns", "add", call.host)
    sh("ip", "netns", "add", "ports-pod", check=False)
    sh("ip", "-n", call.host, "link", "add", "br0", "type", "bridge")
    sh("ip", "-n", call.host, "address", "add", "10.9.0.1/16", "dev", "br0")
    sh("ip", "-n", call.host, "link", "set", "br0", "up")
    for i in range(existing // 10):
        document = _published(i + 10, ports(10, 10_000 + 10 * i), over)
        call("ADD", document, f"{call.host}-{i}", NETNS_OF_PORTS)


def _published(n: int, given: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    address = f"10.9.{n // 250}.{n % 250 + 2}/16"
    result = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": NETNS_OF_PORTS}],
        "ips": [{"address": address, "gateway": "10.9.0.1", "interface": 1}],
    }
    identity = {"cniVersion": "1.0.0", "name": "bench", "type": "portmap"}
    return {**identity, **given, **over, "prevResult": result}


def connection_cost(directory: str, rounds: int) -> dict[int, list[float]]:
    """Seconds of new connections through nftables with few and with many published ports.

    Two hosts take turns, each with a client outside and a server in a pod.
    """
    found: dict[int, list[float]] = {count: [] for count in PORTS}
    servers = [_connected(directory, count) for count in PORTS]
    try:
        for _ in range(rounds):
            for count in PORTS:
                found[count] += _connect(f"client{count}", count)
    finally:
        for server in servers:
            server.kill()
            server.wait()
    return found


def _connected(directory: str, count: int) -> subprocess.Popen[bytes]:
    host, client, pod = f"host{count}", f"client{count}", f"pod{count}"
    for name in (host, client, pod):
        sh("ip", "netns", "add", name)
    for name, peer, address in ((client, "out0", "192.0.2.1"), (pod, "pod0", "10.9.0.1")):
        inside = address.rpartition(".")[0] + ".2"
        sh("ip", "-n", host, "link", "add", peer, "type", "veth", "peer", "eth0", "netns", name)
        sh("ip", "-n", host, "address", "add", f"{address}/24", "dev", peer)
        sh("ip", "-n", host, "link", "set", peer, "up")
        sh("ip", "-n", name, "address", "add", f"{inside}/24", "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "eth0", "up")
        sh("ip", "-n", name, "route", "add", "default", "via", address)
    sh("ip", "netns", "exec", host, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    listed = [{**PORT, "hostPort": 20_000 + i} for i in range(count)]
    document = _published(0, {"runtimeConfig": {"portMappings": listed}}, {"backend": "nftables"})
    netns = f"/run/netns/{pod}"
    Call(directory, "portmap", host=host)("ADD", document, f"c{count}", netns)
    code = (
        "import socket\nwith socket.create_server(('', 80), backlog=1024) as s:\n"
        " print('ready', flush=True)\n while True: s.accept()[0].close()"
    )
    argv = ["ip", "netns", "exec", pod, "python3", "-c", code]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    return server


def _connect(client: str, count: int) -> list[float]:
    """Seconds of 200 new connections to ports spread over all that are published."""
    step = max(1, count // 200)
    code = f"""
import json, socket, time
found = []
for i in range(200):
    began = time.perf_counter()
    s = socket.create_connection(("192.0.2.1", 20000 + i * {step} % {count}))
    found.append(time.perf_counter() - began)
    s.recv(1)
    s.close()
print(json.dumps(found))
"""
    answer: list[float] = json.loads(sh("ip", "netns", "exec", client, "python3", "-c", code))
    return answer


def connection_lines(found: dict[int, list[float]]) -> list[str]:
    """What the report says of connections."""
    few, many = (statistics.median(found[count]) for count in PORTS)
    costs = f"{few * 1e6:.0f} µs with {PORTS[0]} ports, {many * 1e6:.0f} µs with {PORTS[1]}"
    ratio = f"{many / few:.2f} of it"
    return [f"- ours, a new connection through portmap on nftables: {costs}, {ratio}"]


def execution_lines(suites: dict[str, str]) -> list[str]:
    """The table of executed tools."""
    by_suite = {suite: executed(directory) for suite, directory in suites.items()}
    lines = ["| plugin and verb | ours | reference |", "|---|---|---|"]
    for step, ours in by_suite["ours"].items():
        lines.append(f"| {step} | {ours} | {by_suite['reference'][step]} |")
    return lines
