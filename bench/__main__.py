"""``make bench``: ours and the reference's executables in turns; medians, ratios and spread.

python -m bench [--reference DIR] [--rounds N] [--only PATTERN] [--serve=OPTIONS]
                [--write | --out DIR]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from pathlib import Path

from bench import plot, report
from bench.figures import GROUPS
from bench.runs import OURS, SERVED, STANDALONE, Bench, Found

DOCS = Path("docs")
PAGE = "performance.md"
_MARKS = "<!-- {} begin -->\n", "<!-- {} end -->"


def main() -> None:
    """Measure, print, and keep the figures where that is wanted."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--reference", default="/usr/lib/cni", help="the other suite's executables")
    parser.add_argument("--rounds", type=int, default=11, help="samples of everything, at least 2")
    parser.add_argument("--only", default="", help=f"groups that match: {', '.join(GROUPS)}")
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="options of cnictl serve")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", action="store_true", help="keep the figures in docs/")
    where.add_argument("--out", type=Path, help="write the page and its pictures to a directory")
    options = parser.parse_args()
    if options.write and (options.only or options.serve):
        parser.error("the page's figures are those of one whole run: --write alone")
    if options.rounds < 2:
        parser.error("a spread needs 2 rounds")
    bench = Bench(options.reference, options.rounds, tuple(options.serve.split()))
    found: Found = {}
    for name, measure in GROUPS.items():
        if re.search(options.only, name):
            began = time.monotonic()
            found |= measure(bench)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    bench.end(bench.server)
    goals = report.goals(found, bench.memory, _size_mib(OURS))
    notes = [
        *report.rates(found),
        *report.growths(found),
        *bench.notes,
        f"- the servers served {bench.served} calls, and none fell back",
    ]
    tables = [part for title, t in bench.tables.items() for part in ("", f"{title}:", "", *t)]
    lines = [*report.table(found), "", *notes, *tables]
    print("\n".join(["", *goals, "", *lines]))
    place = DOCS if options.write else options.out
    if place:
        place.mkdir(exist_ok=True)
        _keep(place, found, goals, lines)


def _keep(place: Path, found: Found, goals: list[str], lines: list[str]) -> None:
    """Write the page, its pictures, and the samples."""
    pictures = {"performance.svg": ("ratios to the reference's medians", _bars(found))}
    for what, (counts, steps) in report.GROWTHS.items():
        drawn = {name: _lines(found, step, counts) for name, step in steps.items()}
        drawn = {name: by_suite for name, by_suite in drawn.items() if by_suite}
        if drawn:
            title = f"costs by the number of {what}"
            pictures[f"performance-{what}.svg"] = (title, plot.panels(what, drawn))
    for name, (_, svg) in pictures.items():
        (place / name).write_text(svg, encoding="utf-8")
    shown = [f"![{title}]({name})\n" for name, (title, _) in pictures.items()]
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    page = _replace(page, "goals", goals)
    page = _replace(page, "figures", [*shown, *lines])
    (place / PAGE).write_text(page, encoding="utf-8")
    samples = json.dumps(found, indent=1) + "\n"
    (place / "performance.json").write_text(samples, encoding="utf-8")


def _replace(page: str, name: str, lines: list[str]) -> str:
    begin, end = (mark.format(name) for mark in _MARKS)
    head, found, rest = page.partition(begin)
    assert found, f"{PAGE} has no place for {name}"
    return head + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]


def _bars(found: Found) -> str:
    ratios: dict[str, dict[str, float]] = {}
    for step in found:
        for suite in (SERVED, STANDALONE):
            ratio = report.compared(found, step, suite)
            ratios.setdefault(step, {})[suite] = ratio.median if ratio else 0.0
    return plot.bars(ratios)


def _lines(found: Found, step: str, counts: tuple[int, ...]) -> plot.Lines:
    """Medians in milliseconds by suite and count."""
    lines: plot.Lines = {}
    for count in counts:
        for suite, samples in found.get(step.format(count), {}).items():
            lines.setdefault(suite, {})[count] = statistics.median(samples) * 1000
    return lines


def _size_mib(directory: str) -> float:
    """What a directory takes on disk."""
    files = [path for path in Path(directory).rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files) / (1 << 20)


main()
