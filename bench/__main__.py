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


def lease_cost(count: int, writer: str) -> Sample:
    """host-local's ADD, DEL, and DEL of an unknown container with ``count`` leases there."""

    def sample(directory: str) -> dict[str, float]:
        host_local = Call(directory, "host-local")
        document = conf(ipMasq=False)
        document["ipam"]["dataDir"] = f"/run/leases-{writer}-{count}"
        label = f"host-local {{}}, {count} leases ({writer})"
        add_s, _ = host_local("ADD", document, netns="/run/netns/x")
        del_s, _ = host_local("DEL", document, netns="/run/netns/x")
        unknown_s, _ = host_local("DEL", document, "unknown", netns="/run/netns/x")
        return {
            label.format("ADD"): add_s,
            label.format("DEL"): del_s,
            label.format("DEL unknown"): unknown_s,
        }

    return sample


def write_leases(count: int, writer: str) -> None:
    """Leases as ``writer`` leaves them: the reference's files, or with our index over them."""
    folder = Path(f"/run/leases-{writer}-{count}/bench")
    folder.mkdir(parents=True)
    for i in range(count):
        n = i + 2
        (folder / f"10.9.{n >> 8}.{n & 255}").write_bytes(f"c{i}\r\neth0".encode())
    last = count + 1
    (folder / "last_reserved_ip.0").write_bytes(f"10.9.{last >> 8}.{last & 255}".encode())


def measure(reference: str, rounds: int) -> list[str]:
    """The lines of the report."""
    suites = {"ours": OURS, "reference": reference}
    found = compare(rounds * 2, suites, version)
    found |= compare(rounds, suites, whole_life(label=""))
    found |= compare(rounds, suites, whole_life("10.9.0.0/16", "fd00:9::/64", label=", dual stack"))
    for count in (10, LEASES):
        for writer in ("ours", "reference"):
            write_leases(count, writer)
            directory = {writer: suites[writer]} if writer == "ours" else suites
            found |= compare(max(3, rounds // 3), directory, lease_cost(count, writer))
    lines = ["| step | ours ms | reference ms | ratio | spread ours | spread reference |"]
    lines.append("|---|---|---|---|---|---|")
    for step, by_suite in found.items():
        lines.append(row(step, by_suite))
    lines += ["", *ratios(found)]
    return lines


def row(step: str, by_suite: dict[str, list[float]]) -> str:
    """A line of the table; spread is the middle half of the samples."""
    ours = by_suite.get("ours", [])
    theirs = by_suite.get("reference", [])
    cells = [f"{statistics.median(s) * 1000:.1f}" if s else "-" for s in (ours, theirs)]
    both = bool(ours and theirs)
    ratio = f"{statistics.median(ours) / statistics.median(theirs):.2f}" if both else "-"
    return f"| {step} | {cells[0]} | {cells[1]} | {ratio} | {spread(ours)} | {spread(theirs)} |"


def spread(samples: list[float]) -> str:
    """First and third quartile in milliseconds."""
    if len(samples) < 3:
        return "-"
    first, _, third = statistics.quantiles(samples, n=4)
    return f"{first * 1000:.1f} to {third * 1000:.1f}"


def ratios(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """How our own cost grows."""
    median = {step: statistics.median(s["ours"]) for step, s in found.items() if "ours" in s}
    dual = median["bridge ADD, dual stack"] / median["bridge ADD"]
    lines = [f"- ours, bridge ADD: dual stack costs {dual:.2f} of IPv4 alone"]
    for writer in ("ours", "reference"):
        for step in ("ADD", "DEL", "DEL unknown"):
            few = median[f"host-local {step}, 10 leases ({writer})"]
            many = median[f"host-local {step}, {LEASES} leases ({writer})"]
            lines.append(
                f"- ours, host-local {step}: with {LEASES} leases {many / few:.2f} of that with 10 "
                f"(leases written by {writer})"
            )
    return lines


def import_times() -> list[str]:
    """What a fresh process spends on imports for a bridge ADD: the ten most expensive modules."""
    modules = "cni_plugins.main, cni_plugins.verbs, bridge.plugin, cni_plugins.host.links, pyroute2"
    code = f"import {modules}"
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
