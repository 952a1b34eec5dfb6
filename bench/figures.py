"""What is measured, in groups, each a part of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from bench import chained, connections, interfaces, leases, networks, pods, published
from bench.node import Call
from bench.runs import OURS, REFERENCE, SERVED, STANDALONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.runs import Bench, Found

IN_FLIGHT = {1: 12, 4: 24, 16: 32}
"""Pods at once, and pods in all."""
_POD_ROUNDS = 3


def version(bench: Bench) -> Found:
    """VERSION, which the launcher answers itself, served or not."""

    def sample(directory: str) -> dict[str, float]:
        call = Call(directory, "bridge")
        call("VERSION")  # what ran before has filled the caches with other things
        return {"VERSION": call("VERSION")[0]}

    return bench.compare(sample, rounds=4 * bench.rounds)


def chain(bench: Bench) -> Found:
    """The five plugins of a pod."""
    return bench.compare(pods.chain)


def pods_per_second(bench: Bench) -> Found:
    """Many pods, some at once."""
    found: Found = {}
    served_too = {SERVED: OURS, REFERENCE: bench.suites[REFERENCE]}
    for at_once, count in IN_FLIGHT.items():
        together = partial(pods.per_second, in_flight=at_once, count=count)
        found |= bench.compare(together, served_too, rounds=_POD_ROUNDS)
    together = partial(pods.per_second, in_flight=16, count=16)
    alone = bench.compare(together, {STANDALONE: OURS}, rounds=_POD_ROUNDS)
    for step, by_suite in alone.items():
        found[step] |= by_suite
    return found


def bridge(bench: Bench) -> Found:
    """One pod on a network, of one family and of both."""
    found = bench.compare(networks.life())
    subnets = ("10.9.0.0/16", "fd00:9::/64")
    return found | bench.compare(networks.life(*subnets, label=", dual stack"))


def crowds(bench: Bench) -> Found:
    """One pod more on a bridge with many."""
    found: Found = {}
    for count in networks.CROWDS:
        with networks.crowd(count) as name:
            label = f", {count} pods on it"
            found |= bench.compare(networks.life(label=label, bridge=name))
    return found


def leased(bench: Bench) -> Found:
    """host-local by the number of leases."""
    found: Found = {}
    for count in leases.COUNTS:
        for suite in bench.suites:
            leases.write(count, suite)
        found |= bench.compare(leases.cost(count, bench.suites))
        for suite in bench.suites:
            leases.remove(count, suite)
    seconds = leases.first_add(OURS)
    many = leases.COUNTS[-1]
    bench.notes.append(
        f"- ours, the first ADD over {many} leases of another suite: {seconds:.1f} s"
    )
    return found


def behind_a_bridge(bench: Bench) -> Found:
    """Each chained plugin."""
    return bench.compare(chained.lives)


def others(bench: Bench) -> Found:
    """Every other plugin whose links this kernel has."""
    found: Found = {}
    interfaces.prepare()
    reference = bench.suites[REFERENCE]
    ours = {name: place for name, place in bench.suites.items() if name != REFERENCE}
    with interfaces.dhcp_network({SERVED: OURS, REFERENCE: reference}):
        for plugin in interfaces.PLUGINS:
            is_there = os.path.exists(os.path.join(reference, plugin))
            which = bench.suites if is_there else ours
            found |= bench.compare(interfaces.life(plugin, which), which)
    return found


def connected(bench: Bench) -> Found:
    """New connections through published ports."""
    with bench.server.away():  # its hosts are network namespaces only
        found = connections.cost(OURS, bench.rounds)
    bench.notes += connections.lines(found)
    return {}


def executed(bench: Bench) -> Found:
    """Tools, which are counted and not timed."""
    with bench.server.away():  # strace follows the children of the executable
        lines = chained.execution_lines({SERVED: OURS, REFERENCE: bench.suites[REFERENCE]})
    bench.tables["Tools that each verb executes"] = lines
    return {}


def imports(bench: Bench) -> Found:
    """What a fresh process spends on imports for a bridge ADD: the ten most expensive modules."""
    code = (
        "import cni_plugins.main, cni_plugins.verbs, bridge.plugin, host_local_ipam.plugin\n"
        "from cni_plugins.host.links import Links; Links.open()"
    )
    argv = [sys.executable, "-X", "importtime", "-c", code]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stderr.splitlines()
    rows = [line.split("|") for line in listed if line.count("|") == 2 and "cumulative" not in line]
    rows.sort(key=lambda r: int(r[1]), reverse=True)
    bench.tables["Imports of a standalone process for a bridge ADD"] = [
        "| module | cumulative ms |",
        "|---|---|",
        *(f"| {r[2].strip()} | {int(r[1]) / 1000:.1f} |" for r in rows[:10]),
    ]
    return {}


GROUPS: dict[str, Callable[[Bench], Found]] = {
    "version": version,
    "chain": chain,
    "pods-per-second": pods_per_second,
    "bridge": bridge,
    "crowds": crowds,
    "leases": leased,
    "chained": behind_a_bridge,
    "others": others,
    "ports": published.measure,
    "connections": connected,
    "tools": executed,
    "start": imports,
}
"""By the name that ``--only`` is matched with."""
