"""``make bench``: ours and the reference's executables in turns; medians, ratios and spread.

python -m bench [--reference DIR] [--rounds N] [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench import chained, interfaces
from bench.node import Call, conf, sh

OURS = os.path.abspath("dist/bin")
PAGE = Path("docs/performance.md")
BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"
LEASES = 60_000

Sample = Callable[[str], dict[str, float]]


def compare(
    rounds: int, suites: dict[str, str], sample: Sample
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each step by suite; the suites take turns, the first round only warms up."""
    found: dict[str, dict[str, list[float]]] = {}
    for n in range(rounds + 1):
        for suite, directory in suites.items():
            for step, seconds in sample(directory).items():
                if n:
                    found.setdefault(step, {}).setdefault(suite, []).append(seconds)
    return found


def version(directory: str) -> dict[str, float]:
    """VERSION of a built executable."""
    return {"VERSION": Call(directory, "bridge")("VERSION")[0]}


def whole_life(*subnets: str, label: str) -> Sample:
    """ADD, CHECK, DEL of a bridge network with host-local and ipMasq."""

    def sample(directory: str) -> dict[str, float]:
        bridge = Call(directory, "bridge")
        document = conf("1.0.0", *subnets)
        sh("ip", "netns", "add", "bench")
        netns = "/run/netns/bench"
        add_s, stdout = bridge("ADD", document, netns=netns)
        checked = {**document, "prevResult": json.loads(stdout)}
        check_s, _ = bridge("CHECK", checked, netns=netns)
        del_s, _ = bridge("DEL", checked, netns=netns)
        sh("ip", "netns", "del", "bench")
        return {
            f"bridge ADD{label}": add_s,
            f"bridge CHECK{label}": check_s,
            f"bridge DEL{label}": del_s,
        }

    return sample


def lease_cost(count: int, suites: dict[str, str]) -> Sample:
    """host-local's ADD, DEL, and DEL of an unknown container over ``count`` leases.

    Each suite works in a folder of its own that the reference's format fills; the first ADD, in
    which ours reads them all once, belongs to the warm-up.
    """
    names = {directory: suite for suite, directory in suites.items()}

    def sample(directory: str) -> dict[str, float]:
        host_local = Call(directory, "host-local")
        document = conf(ipMasq=False)
        document["ipam"]["dataDir"] = lease_folder(count, names[directory])
        add_s, _ = host_local("ADD", document, netns="/run/netns/x")
        del_s, _ = host_local("DEL", document, netns="/run/netns/x")
        unknown_s, _ = host_local("DEL", document, "unknown", netns="/run/netns/x")
        return {
            f"host-local ADD, {count} leases": add_s,
            f"host-local DEL, {count} leases": del_s,
            f"host-local DEL unknown, {count} leases": unknown_s,
        }

    return sample


def lease_folder(count: int, suite: str) -> str:
    """Where a suite's leases are."""
    return f"/run/leases-{suite}-{count}"


def write_leases(count: int, suite: str) -> None:
    """Leases as the reference writes them."""
    folder = Path(lease_folder(count, suite)) / "bench"
    folder.mkdir(parents=True)
    for i in range(count):
        n = i + 2
        (folder / f"10.9.{n >> 8}.{n & 255}").write_bytes(f"c{i}\r\neth0".encode())
    last = count + 1
    (folder / "last_reserved_ip.0").write_bytes(f"10.9.{last >> 8}.{last & 255}".encode())


def first_add(suites: dict[str, str]) -> float:
    """Seconds of the one ADD that finds 60,000 leases another suite wrote."""
    write_leases(LEASES, "first")
    document = conf(ipMasq=False)
    document["ipam"]["dataDir"] = lease_folder(LEASES, "first")
    seconds, _ = Call(suites["ours"], "host-local")("ADD", document, netns="/run/netns/x")
    return seconds


def measure(reference: str, rounds: int) -> list[str]:
    """The lines of the report."""
    suites = {"ours": OURS, "reference": reference}
    found = compare(rounds * 2, suites, version)
    found |= compare(rounds, suites, whole_life(label=""))
    found |= compare(rounds, suites, whole_life("10.9.0.0/16", "fd00:9::/64", label=", dual stack"))
    for count in (10, LEASES):
        for suite in suites:
            write_leases(count, suite)
        found |= compare(rounds, suites, lease_cost(count, suites))
    found |= compare(rounds, suites, chained.lives)
    interfaces.prepare()
    with interfaces.dhcp_network(suites):
        for plugin in interfaces.PLUGINS:
            theirs = os.path.join(reference, plugin)
            which = suites if os.path.exists(theirs) else {"ours": OURS}
            found |= compare(rounds, which, interfaces.life(plugin, which))
    for existing in chained.EXISTING:
        for backend in ("iptables", "nftables"):
            which = suites if backend == "iptables" else {"ours": OURS}
            sample = chained.add_cost(existing, {"backend": backend})
            found |= compare(rounds, which, sample)
    lines = ["| step | ours ms | reference ms | ratio | spread ours | spread reference |"]
    lines.append("|---|---|---|---|---|---|")
    for step, by_suite in found.items():
        lines.append(row(step, by_suite))
    once = f"- ours, the first ADD over {LEASES} leases of another suite: {first_add(suites):.1f} s"
    lines += ["", *ratios(found), once]
    lines += chained.connection_lines(chained.connection_cost(OURS, rounds))
    lines += ["", "Tools that each verb executes:", "", *chained.execution_lines(suites)]
    return lines


def row(step: str, by_suite: dict[str, list[float]]) -> str:
    """A line of the table; spread is the middle half of the samples."""
    ours, theirs = by_suite["ours"], by_suite.get("reference")
    if theirs is None:
        return f"| {step} | {statistics.median(ours) * 1000:.1f} | - | - | {spread(ours)} | - |"
    cells = [f"{statistics.median(s) * 1000:.1f}" for s in (ours, theirs)]
    ratio = f"{statistics.median(ours) / statistics.median(theirs):.2f}"
    return f"| {step} | {cells[0]} | {cells[1]} | {ratio} | {spread(ours)} | {spread(theirs)} |"


def spread(samples: list[float]) -> str:
    """First and third quartile in milliseconds."""
    first, _, third = statistics.quantiles(samples, n=4)
    return f"{first * 1000:.1f} to {third * 1000:.1f}"


def ratios(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """How our own cost grows."""
    median = {step: statistics.median(s["ours"]) for step, s in found.items()}
    dual = median["bridge ADD, dual stack"] / median["bridge ADD"]
    lines = [f"- ours, bridge ADD: dual stack costs {dual:.2f} of IPv4 alone"]
    for step in ("ADD", "DEL", "DEL unknown"):
        few = median[f"host-local {step}, 10 leases"]
        many = median[f"host-local {step}, {LEASES} leases"]
        lines.append(f"- ours, host-local {step}: {LEASES} leases cost {many / few:.2f} of 10")
    few_ports, many_ports = chained.EXISTING
    for backend in ("iptables", "nftables"):
        few = median[f"portmap ADD on {backend}, {few_ports} ports"]
        many = median[f"portmap ADD on {backend}, {many_ports} ports"]
        lines.append(
            f"- ours, portmap ADD on {backend}: where {many_ports} ports are published it costs "
            f"{many / few:.2f} of where {few_ports} are"
        )
    return lines


def import_times() -> list[str]:
    """What a fresh process spends on imports for a bridge ADD: the ten most expensive modules."""
    code = (
        "import cni_plugins.main, cni_plugins.verbs, bridge.plugin, host_local_ipam.plugin\n"
        "from cni_plugins.host.links import Links; Links.open()"
    )
    argv = [sys.executable, "-X", "importtime", "-c", code]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stderr.splitlines()
    rows = [line.split("|") for line in listed if line.count("|") == 2 and "cumulative" not in line]
    rows.sort(key=lambda r: int(r[1]), reverse=True)
    return [
        "| module | cumulative ms |",
        "|---|---|",
        *(f"| {r[2].strip()} | {int(r[1]) / 1000:.1f} |" for r in rows[:10]),
    ]


def main() -> None:
    """Measure, print, and with --write keep the figures in docs/performance.md."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--reference", default="/usr/lib/cni", help="the other suite's executables")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="keep the figures in the docs")
    options = parser.parse_args()
    table = measure(options.reference, options.rounds)
    report = "\n".join(
        [*table, "", "Imports of a fresh process for a bridge ADD:", "", *import_times()]
    )
    print(report)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        tail = rest.partition(END)[2]
        PAGE.write_text(f"{head}{BEGIN}\n{report}\n{END}{tail}", encoding="utf-8")


main()
