"""What a published port costs where many are published already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.chained import ports
from bench.node import Call, Host, sh
from bench.runs import OURS, REFERENCE, Limit
from bench.server import Server

if TYPE_CHECKING:
    from bench.runs import Bench, Found

COUNTS = (10, 1_000, 10_000)
NETNS = "/run/netns/ports-pod"
LIMIT_S = 30.0
"""For publishing the ports that are there before."""
_PORTS_EACH = 500
_FEW_ROUNDS = 5


def measure(bench: Bench) -> Found:
    """Portmap's ADD and DEL of one port, by backend and by the ports of other containers."""
    found: Found = {}
    sh("ip", "netns", "add", "ports-pod")
    for backend in ("iptables", "nftables"):
        for existing in COUNTS:
            found |= _beside(bench, existing, backend)
    sh("ip", "netns", "del", "ports-pod")
    return found


def _beside(bench: Bench, existing: int, backend: str) -> Found:
    suites = dict(bench.suites)
    if backend == "nftables":
        del suites[REFERENCE]  # Debian's has no such backend
    hosts = {directory: Host() for directory in dict.fromkeys(suites.values())}
    server = Server(OURS, hosts[OURS])
    for directory, host in hosts.items():
        published = _publish(directory, host, existing, backend)
        if published < existing:
            bench.notes.append(
                f"- {_name(bench, directory)} on {backend} had published {published} of {existing}"
                f" ports after {LIMIT_S:.0f} s, and was given up"
            )
            suites = {name: place for name, place in suites.items() if place != directory}

    def sample(directory: str) -> dict[str, float]:
        call = Call(directory, "portmap", host=hosts[directory])
        document = request(2, ports(1, 8000), backend)
        step = f"on {backend}, {existing} ports"
        return {
            f"portmap {verb} {step}": call(verb, document, "mine", NETNS)[0]
            for verb in ("ADD", "DEL")
        }

    rounds = bench.rounds if existing <= COUNTS[1] else min(bench.rounds, _FEW_ROUNDS)
    found = bench.compare(sample, suites, rounds=rounds, servers=(server,))
    bench.end(server)
    for host in hosts.values():
        host.close()
    return found


def _name(bench: Bench, directory: str) -> str:
    return next(name for name, place in bench.suites.items() if place == directory)


def _publish(directory: str, host: Host, existing: int, backend: str) -> int:
    """A bridge, and containers of so many ports in all; how many that became."""
    for words in (
        "link add br0 type bridge",
        "address add 10.9.0.1/16 dev br0",
        "link set br0 up",
    ):
        sh(*host.enter, "ip", *words.split())
    limit = Limit(LIMIT_S)
    call = Call(directory, "portmap", host=host)
    each = min(existing, 10 if directory != OURS else _PORTS_EACH)
    for first in range(0, existing, each):
        if limit.is_over:
            return first
        document = request(10 + first // each, ports(each, 10_000 + first), backend)
        call("ADD", document, f"other{first}", NETNS)
    return existing


def request(n: int, given: dict[str, Any], backend: str) -> dict[str, Any]:
    """Portmap's request for the n-th container of a bridge."""
    address = f"10.9.{n // 250}.{n % 250 + 2}/16"
    result = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": NETNS}],
        "ips": [{"address": address, "gateway": "10.9.0.1", "interface": 1}],
    }
    identity = {"cniVersion": "1.0.0", "name": "bench", "type": "portmap"}
    return {**identity, **given, "backend": backend, "prevResult": result}
