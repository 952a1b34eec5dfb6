"""Tables and lines from figures."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from bench import leases, networks, published
from bench.figures import IN_FLIGHT
from bench.pods import whole
from bench.runs import REFERENCE, SERVED, STANDALONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.runs import Found

_SUITES = {SERVED: "served", STANDALONE: "standalone", REFERENCE: "reference"}
_BACKENDS = ("iptables", "nftables")


class Goal(NamedTuple):
    """What a step may cost, in parts of the reference's median; 0 for what is only reported.

    ``is_rate``: a rate counts, so it is the reference's time by ours, and more is better.
    """

    what: str
    step: str
    served: float
    standalone: float
    is_rate: bool = False


GOALS = (
    Goal("VERSION", "VERSION", 1.0, 12),
    Goal("chain ADD", "chain ADD", 0.35, 3),
    Goal("chain CHECK", "chain CHECK", 0.35, 4),
    Goal("chain DEL", "chain DEL", 0.35, 2),
    Goal("pods per second, 16 at once", whole(16), 2.5, 0, is_rate=True),
)
MEMORY_GOALS = {
    "server": ("memory of the server", "80 MiB"),
    "child": ("a child's own memory", "10 MiB"),
}

GROWTHS: dict[str, tuple[Sequence[int], dict[str, str]]] = {
    "leases": (
        leases.COUNTS,
        {
            f"host-local {verb}": f"host-local {verb}, {{}} leases"
            for verb in ("ADD", "DEL", "DEL unknown")
        },
    ),
    "ports": (
        published.COUNTS,
        {
            f"portmap {verb} on {backend}": f"portmap {verb} on {backend}, {{}} ports"
            for backend in _BACKENDS
            for verb in ("ADD", "DEL")
        },
    ),
    "pods": (
        networks.CROWDS,
        {f"bridge {verb}": f"bridge {verb}, {{}} pods on it" for verb in ("ADD", "CHECK", "DEL")},
    ),
}
"""By what costs may grow: the counts, and the names of steps with a place for a count."""


class Compared(NamedTuple):
    """A suite's samples in parts of the reference's median."""

    median: float
    first: float
    third: float

    @property
    def spread(self) -> str:
        """The quartiles."""
        return f"{self.first:.2f} to {self.third:.2f}"


def compared(found: Found, step: str, suite: str, *, is_rate: bool = False) -> Compared | None:
    """None where one of them was not measured."""
    by_suite = found.get(step, {})
    if suite not in by_suite or REFERENCE not in by_suite:
        return None
    reference = statistics.median(by_suite[REFERENCE])
    first, _, third = statistics.quantiles(by_suite[suite], n=4, method="inclusive")
    median = statistics.median(by_suite[suite])
    if is_rate:
        return Compared(reference / median, reference / third, reference / first)
    return Compared(median / reference, first / reference, third / reference)


def goals(found: Found, memory: dict[str, int], size_mib: float) -> list[str]:
    """What was wanted, and what was reached."""
    lines = [
        "| what | goal served | reached | spread | goal standalone | reached | spread |",
        "|---" * 7 + "|",
    ]
    for goal in GOALS:
        cells = [goal.what]
        for suite, wanted in ((SERVED, goal.served), (STANDALONE, goal.standalone)):
            reached = compared(found, goal.step, suite, is_rate=goal.is_rate)
            least = "at least " if goal.is_rate else ""
            cells.append(f"{least}{wanted:g}" if wanted else "report")
            cells += [f"{reached.median:.2f}", reached.spread] if reached else ["-", "-"]
        lines.append(f"| {' | '.join(cells)} |")
    for key, (what, most) in MEMORY_GOALS.items():
        if key in memory:
            lines.append(f"| {what} | {most} | {memory[key] / 1024:.1f} MiB | | | | |")
    lines.append(f"| size of dist/bin | report | {size_mib:.1f} MiB | | | | |")
    return lines


def table(found: Found) -> list[str]:
    """Medians in milliseconds, their ratio to the reference's, and the spread of the samples."""
    head = ["step", *_SUITES.values(), "served ratio", "standalone ratio"]
    spreads = [f"spread: {name}" for name in _SUITES.values()]
    lines = [f"| {' | '.join([*head, *spreads])} |", "|---" * 9 + "|"]
    for step, by_suite in found.items():
        samples = [by_suite.get(suite) for suite in _SUITES]
        medians = [f"{statistics.median(s) * 1000:.1f}" if s else "-" for s in samples]
        ratios = [compared(found, step, suite) for suite in (SERVED, STANDALONE)]
        cells = [step, *medians, *(f"{r.median:.2f}" if r else "-" for r in ratios)]
        lines.append(f"| {' | '.join([*cells, *(_spread(s) if s else '-' for s in samples)])} |")
    return lines


def _spread(samples: list[float]) -> str:
    """First and third quartile in milliseconds."""
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return f"{first * 1000:.1f} to {third * 1000:.1f}"


def rates(found: Found) -> list[str]:
    """Pods per second."""
    lines = []
    for at_once in IN_FLIGHT:
        by_suite = found.get(whole(at_once), {})
        if SERVED not in by_suite:
            continue
        parts = []
        for suite, name in _SUITES.items():
            if suite in by_suite:
                part = f"{name} {1 / statistics.median(by_suite[suite]):.1f}"
                ratio = compared(found, whole(at_once), suite, is_rate=True)
                if ratio and suite != REFERENCE:
                    part += f" ({ratio.median:.2f} of the reference's)"
                parts.append(part)
        lines.append(f"- pods per second, ADD and DEL, {at_once} at once: {', '.join(parts)}")
    return lines


def growths(found: Found) -> list[str]:
    """How costs grow."""
    lines = []
    for what, (counts, steps) in GROWTHS.items():
        for name, step in steps.items():
            parts = []
            for suite, label in _SUITES.items():
                few, many = (
                    found.get(step.format(n), {}).get(suite) for n in (counts[0], counts[-1])
                )
                if few and many:
                    grown = statistics.median(many) / statistics.median(few)
                    parts.append(f"{label} {grown:.2f}")
            if parts:
                many_of = f"{counts[-1]} {what} by {counts[0]}"
                lines.append(f"- {name}, its cost with {many_of}: {', '.join(parts)}")
    return lines
