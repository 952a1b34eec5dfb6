"""The other interface plugins, IPAM and sbr, as far as this kernel has their links."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.node import Call, sh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NETNS = "/run/netns/bench"
VERBS = ("ADD", "CHECK", "DEL")
LEASED = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/16"}]]}
STATIC = {"type": "static", "addresses": [{"address": "10.9.0.5/16", "gateway": "10.9.0.1"}]}
PLUGINS: dict[str, dict[str, Any]] = {
    "loopback": {},
    "ptp": {"ipam": LEASED},
    "macvlan": {"master": "bench0", "ipam": LEASED},
    "host-device": {"device": "bench0", "ipam": STATIC},
    "static": {"ipam": STATIC},
    "tap": {"ipam": LEASED},
    "flannel": {"delegate": {"bridge": "br1"}},
    "dhcp": {"ipam": {"type": "dhcp"}},
    "sbr": {},
}
SUBNET_ENV = """FLANNEL_NETWORK=10.8.0.0/16
FLANNEL_SUBNET=10.8.1.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""


def document(plugin: str) -> dict[str, Any]:
    """A plugin's request, ADD's and DEL's."""
    return {"cniVersion": "1.0.0", "name": "bench", "type": plugin, **PLUGINS[plugin]}


def prepare() -> None:
    """A device with a far end, and what flanneld writes."""
    sh("ip", "link", "add", "bench0", "type", "veth", "peer", "bench1")
    for name in ("bench0", "bench1"):
        sh("ip", "link", "set", name, "up")
    Path("/run/flannel").mkdir(exist_ok=True)
    Path("/run/flannel/subnet.env").write_text(SUBNET_ENV, encoding="utf-8")


def life(plugin: str, suites: dict[str, str]) -> Callable[[str], dict[str, float]]:
    """ADD, CHECK, DEL of a plugin in a fresh namespace."""
    ports = count()

    def sample(directory: str) -> dict[str, float]:
        call = Call(directory, plugin)
        request = document(plugin)
        if plugin == "dhcp":
            suite = next(name for name, place in suites.items() if place == directory)
            request["ipam"] = {"type": "dhcp", "daemonSocketPath": socket_of(suite)}
        sh("ip", "netns", "add", "bench")
        if plugin == "dhcp":
            port = f"port{next(ports)}"  # the last one goes some time after its namespace
            sh("ip", "-n", "lan", "link", "add", port, "type", "veth", "peer", "eth0")
            sh("ip", "-n", "lan", "link", "set", "eth0", "netns", "bench")
            sh("ip", "-n", "lan", "link", "set", port, "master", "lan0", "up")
        if plugin == "sbr":
            request["prevResult"] = attach()
        found = {}
        for verb in VERBS:
            seconds, stdout = call(verb, request, netns=NETNS)
            found[f"{plugin} {verb}"] = seconds
            if verb == "ADD":
                request["prevResult"] = json.loads(stdout)
        sh("ip", "netns", "del", "bench")
        return found

    return sample


def attach() -> dict[str, Any]:
    """An interface as a plugin before made it."""
    sh("ip", "-n", "bench", "link", "add", "eth0", "type", "veth", "peer", "other")
    sh("ip", "-n", "bench", "address", "add", "10.7.0.2/24", "dev", "eth0")
    for name in ("eth0", "other"):
        sh("ip", "-n", "bench", "link", "set", name, "up")
    return {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": NETNS}],
        "ips": [{"address": "10.7.0.2/24", "gateway": "10.7.0.1", "interface": 0}],
    }


def socket_of(suite: str) -> str:
    """Where a suite's DHCP daemon listens."""
    return f"/run/cni-bench-{suite}.sock"


@contextlib.contextmanager
def dhcp_network(suites: dict[str, str]) -> Iterator[None]:
    """A bridge with Debian's dnsmasq, and each suite's daemon."""
    sh("ip", "netns", "add", "lan")
    sh("ip", "-n", "lan", "link", "add", "lan0", "type", "bridge")
    sh("ip", "-n", "lan", "address", "add", "192.168.1.1/24", "dev", "lan0")
    sh("ip", "-n", "lan", "link", "set", "lan0", "up")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dnsmasq = [
        *("ip", "netns", "exec", "lan", "dnsmasq", "--keep-in-foreground", "--port=0"),
        *("--conf-file=/dev/null", "--user=root", "--pid-file", "--no-ping", "--interface=lan0"),
        *("--dhcp-range=192.168.1.5,192.168.1.250,255.255.255.0,10m", "--leasefile-ro"),
    ]
    started = [subprocess.Popen(dnsmasq, **quiet)]
    for suite, directory in suites.items():
        argv = [os.path.join(directory, "dhcp"), "daemon", "-socketpath", socket_of(suite)]
        started.append(subprocess.Popen(argv, **quiet))
    try:
        while not all(os.path.exists(socket_of(suite)) for suite in suites):
            time.sleep(0.05)
        time.sleep(0.5)
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait()
