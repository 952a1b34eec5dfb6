"""The chained plugins: what they cost, and what they execute."""

from __future__ import annotations

import json
import os
import re
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


def execution_lines(suites: dict[str, str]) -> list[str]:
    """The table of executed tools."""
    by_suite = {suite: executed(directory) for suite, directory in suites.items()}
    lines = ["| plugin and verb | ours | reference |", "|---|---|---|"]
    for step, ours in by_suite["ours"].items():
        lines.append(f"| {step} | {ours} | {by_suite['reference'][step]} |")
    return lines
