"""Pictures: ratios as bars, and costs by what they grow with as lines."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE, _LEFT, _WIDTH = 22, 300, 560
_LEAST, _MOST = 0.05, 50.0
_COLOURS = {"ours": "#2a6f97", "standalone": "#c9ada7", "reference": "#6c757d"}
_NAMES = {"ours": "served", "standalone": "standalone", "reference": "reference"}
_PANEL_WIDTH, _PANEL_HEIGHT, _MARGIN = 230, 180, 46


def _svg(width: int, height: int, parts: list[str]) -> str:
    size = f'width="{width}" height="{height}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    )
    return "\n".join(
        [head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""]
    )


def bars(ratios: dict[str, dict[str, float]]) -> str:
    """An SVG: a line of bars for each step, from 1 on a logarithmic scale; 0 is not drawn."""
    drawn = {step: values for step, values in ratios.items() if any(values.values())}
    height = _LINE * (len(drawn) + 3)
    parts = [
        '<text x="10" y="16">median by the reference\'s median</text>',
        f'<text x="{_LEFT}" y="16" fill="{_COLOURS["ours"]}">served</text>',
        f'<text x="{_LEFT + 60}" y="16" fill="{_COLOURS["standalone"]}">standalone</text>',
    ]
    for mark in (0.1, 0.35, 1, 3, 10, 30):
        x = _x(mark)
        parts.append(f'<text x="{x}" y="36" text-anchor="middle">{mark}</text>')
        parts.append(f'<path d="M{x} 42V{height}" stroke="#ccc"/>')
    for n, (step, values) in enumerate(drawn.items()):
        y = _LINE * (n + 2)
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(step)}</text>')
        for m, (suite, value) in enumerate(values.items()):
            if value:
                left, right = sorted((_x(1), _x(value)))
                parts.append(
                    f'<rect x="{left}" y="{y + 3 + 8 * m}" width="{max(1, right - left)}" '
                    f'height="7" fill="{_COLOURS[suite]}"/>'
                )
    return _svg(_LEFT + _WIDTH + 20, height, parts)


def _x(value: float) -> int:
    share = math.log(min(max(value, _LEAST), _MOST) / _LEAST) / math.log(_MOST / _LEAST)
    return _LEFT + round(share * _WIDTH)


Lines = dict[str, dict[int, float]]
"""Milliseconds by count, by suite."""


def panels(what: str, drawn: dict[str, Lines]) -> str:
    """An SVG: a panel for each step, both scales logarithmic, the same for all of them."""
    points = [
        (count, ms) for by in drawn.values() for line in by.values() for count, ms in line.items()
    ]
    counts = sorted({count for count, _ in points})
    low = 10 ** math.floor(math.log10(min(ms for _, ms in points)))
    high = 10 ** math.ceil(math.log10(max(ms for _, ms in points)))
    parts = []
    for n, suite in enumerate(_COLOURS):
        name, x = _NAMES[suite], 10 + 90 * n
        parts.append(f'<text x="{x}" y="16" fill="{_COLOURS[suite]}">{name}</text>')
    parts.append(f'<text x="290" y="16">milliseconds by the number of {escape(what)}</text>')
    for n, (name, by_suite) in enumerate(drawn.items()):
        left = _MARGIN + n * (_PANEL_WIDTH + _MARGIN)
        parts += _panel(left, name, by_suite, (counts, low, high))
    return _svg(len(drawn) * (_PANEL_WIDTH + _MARGIN) + 20, _PANEL_HEIGHT + 2 * _MARGIN, parts)


def _panel(
    left: int, name: str, by_suite: Lines, scales: tuple[Sequence[int], float, float]
) -> list[str]:
    counts, low, high = scales
    bottom = _MARGIN + _PANEL_HEIGHT

    def x(count: int) -> float:
        share = math.log(count / counts[0]) / math.log(counts[-1] / counts[0])
        return round(left + share * _PANEL_WIDTH, 1)

    def y(ms: float) -> float:
        return round(bottom - math.log(ms / low) / math.log(high / low) * _PANEL_HEIGHT, 1)

    parts = [f'<text x="{left}" y="{_MARGIN - 8}">{escape(name)}</text>']
    for count in counts:
        parts.append(f'<path d="M{x(count)} {_MARGIN}V{bottom}" stroke="#eee"/>')
        parts.append(f'<text x="{x(count)}" y="{bottom + 16}" text-anchor="middle">{count}</text>')
    mark = low
    while mark <= high:
        parts.append(f'<path d="M{left} {y(mark)}H{left + _PANEL_WIDTH}" stroke="#ccc"/>')
        parts.append(f'<text x="{left - 4}" y="{y(mark) + 4}" text-anchor="end">{mark:g}</text>')
        mark *= 10
    for suite, line in by_suite.items():
        colour = _COLOURS[suite]
        places = [(x(count), y(ms)) for count, ms in sorted(line.items())]
        path = " ".join(f"{a},{b}" for a, b in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in places]
    return parts
