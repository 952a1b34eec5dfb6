"""``make bench``: ours and the reference's executables in turns; medians, ratios and spread.

python -m bench [--reference DIR] [--rounds N] [--write]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import chained, interfaces, plot, pods
from bench.node import Call, conf, sh
from bench.server import Server, served

OURS = os.path.abspath("dist/bin")
PAGE = Path("docs/performance.md")
DATA = PAGE.with_suffix(".json")
PLOT = PAGE.with_suffix(".svg")
STANDALONE = "standalone"
"""Our executables while no server is there; what is called "ours" is served."""
BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"
LEASES = 60_000

Sample = Callable[[str], dict[str, float]]


Found = dict[str, dict[str, list[float]]]
"""Seconds by step and suite."""


class Bench:
    """The suites, and the server that serves the calls of ours.

    Args:
        reference: the other suite's executables.
        rounds: how many samples of everything.
    """

    def __init__(self, reference: str, rounds: int) -> None:
        self.suites = {"ours": OURS, STANDALONE: OURS, "reference": reference}
        self.rounds = rounds
        self.server = Server(OURS)
        self._standalone = 0
        self._before = self.server.status()

    def compare(
        self, sample: Sample, suites: dict[str, str] | None = None, rounds: int = 0
    ) -> Found:
        """Seconds of each step by suite; they take turns, the first round only warms up."""
        found: Found = {}
        for n in range((rounds or self.rounds) + 1):
            for suite, directory in (suites or self.suites).items():
                with self._with_server_or_not(suite):
                    for step, seconds in sample(directory).items():
                        if n:
                            found.setdefault(step, {}).setdefault(suite, []).append(seconds)
        return found

    @contextlib.contextmanager
    def _with_server_or_not(self, suite: str) -> Iterator[None]:
        if suite != STANDALONE:
            yield
            return
        before = sum(self.server.status()["fallbacks"].values())
        with self.server.away():
            yield
        self._standalone += sum(self.server.status()["fallbacks"].values()) - before

    def finish(self) -> str:
        """Stop the server; a line that says what it served.

        Raises:
            SystemExit: a call that should have been served was not.
        """
        after = self.server.status()
        self.server.close()
        calls, fallbacks = served(self._before, after)
        if fallbacks != self._standalone:
            raise SystemExit(f"{fallbacks - self._standalone} calls were not served: {after}")
        whole, own = (after["server"]["memoryKiB"][key] / 1024 for key in ("server", "child"))
        memory = f"its memory is {whole:.0f} MiB, a child's own {own:.1f} MiB"
        return f"- the server served {calls} calls, and none fell back; {memory}"


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


def measure(bench: Bench) -> tuple[Found, list[str]]:
    """All figures, and the lines that follow the table."""
    suites = bench.suites
    found = bench.compare(version, rounds=2 * bench.rounds)
    found |= bench.compare(pods.chain)
    without = {name: place for name, place in suites.items() if name != STANDALONE}
    for at_once, which in ((1, without), (4, without), (16, suites)):
        together = partial(pods.per_second, in_flight=at_once, count=32)
        found |= bench.compare(together, which, rounds=3)
    found |= bench.compare(whole_life(label=""))
    found |= bench.compare(whole_life("10.9.0.0/16", "fd00:9::/64", label=", dual stack"))
    for count in (10, LEASES):
        for suite in suites:
            write_leases(count, suite)
        found |= bench.compare(lease_cost(count, suites))
    found |= bench.compare(chained.lives)
    interfaces.prepare()
    reference = suites["reference"]
    ours = {name: place for name, place in suites.items() if name != "reference"}
    with interfaces.dhcp_network({"ours": OURS, "reference": reference}):
        for plugin in interfaces.PLUGINS:
            which = suites if os.path.exists(os.path.join(reference, plugin)) else ours
            found |= bench.compare(interfaces.life(plugin, which), which)
    for existing in chained.EXISTING:
        # a server in this namespace serves no call of another: these hosts have none
        alone = {STANDALONE: OURS}
        for backend in ("iptables", "nftables"):
            which = alone | ({"reference": reference} if backend == "iptables" else {})
            found |= bench.compare(chained.add_cost(existing, {"backend": backend}), which)
    once = f"- ours, the first ADD over {LEASES} leases of another suite: {first_add(suites):.1f} s"
    lines = [*ratios(found), once, bench.finish()]
    lines += chained.connection_lines(chained.connection_cost(OURS, bench.rounds))
    executed = chained.execution_lines({"ours": OURS, "reference": reference})
    return found, [*lines, "", "Tools that each verb executes:", "", *executed]


def table(found: Found) -> list[str]:
    """Medians in milliseconds, their ratio to the reference's, and the spread of the samples."""
    head = ["step", "served", STANDALONE, "reference", "served ratio", "standalone ratio"]
    lines = [f"| {' | '.join([*head, 'spread: served', STANDALONE, 'reference'])} |"]
    lines.append("|---" * 9 + "|")
    for step, by_suite in found.items():
        samples = [by_suite.get(suite) for suite in ("ours", STANDALONE, "reference")]
        medians = [f"{statistics.median(s) * 1000:.1f}" if s else "-" for s in samples]
        compared = [ratio(by_suite, suite) for suite in ("ours", STANDALONE)]
        cells = [step, *medians, *(f"{r:.2f}" if r else "-" for r in compared)]
        lines.append(f"| {' | '.join([*cells, *(spread(s) if s else '-' for s in samples)])} |")
    return lines


def ratio(by_suite: dict[str, list[float]], suite: str) -> float:
    """Median by the reference's median, 0 where one of them is missing."""
    if suite not in by_suite or "reference" not in by_suite:
        return 0.0
    return statistics.median(by_suite[suite]) / statistics.median(by_suite["reference"])


def spread(samples: list[float]) -> str:
    """First and third quartile in milliseconds."""
    first, _, third = statistics.quantiles(samples, n=4)
    return f"{first * 1000:.1f} to {third * 1000:.1f}"


def ratios(found: Found) -> list[str]:
    """How our own cost grows."""
    median = {step: statistics.median(s.get("ours") or s[STANDALONE]) for step, s in found.items()}
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
    bench = Bench(options.reference, options.rounds)
    found, lines = measure(bench)
    heading = "Imports of a standalone process for a bridge ADD:"
    report = "\n".join([*table(found), "", *lines, "", heading, "", *import_times()])
    print(report)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        tail = rest.partition(END)[2]
        plotted = f"![ratios to the reference's medians]({PLOT.name})"
        PAGE.write_text(f"{head}{BEGIN}\n{plotted}\n\n{report}\n{END}{tail}", encoding="utf-8")
        DATA.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        compared = {
            step: {suite: ratio(by_suite, suite) for suite in ("ours", STANDALONE)}
            for step, by_suite in found.items()
        }
        PLOT.write_text(plot.bars(compared), encoding="utf-8")


main()
