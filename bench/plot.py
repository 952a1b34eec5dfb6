"""A picture of the ratios."""

from __future__ import annotations

import math
from html import escape

_LINE, _LEFT, _WIDTH = 22, 300, 560
_LEAST, _MOST = 0.05, 50.0
_COLOURS = {"ours": "#2a6f97", "standalone": "#c9ada7"}


def bars(ratios: dict[str, dict[str, float]]) -> str:
    """An SVG: a line of bars for each step, from 1 on a logarithmic scale; 0 is not drawn."""
    drawn = {step: values for step, values in ratios.items() if any(values.values())}
    height = _LINE * (len(drawn) + 3)
    served, standalone = _COLOURS.values()
    size = f'width="{_LEFT + _WIDTH + 20}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="16">median by the reference\'s median</text>',
        f'<text x="{_LEFT}" y="16" fill="{served}">served</text>',
        f'<text x="{_LEFT + 60}" y="16" fill="{standalone}">standalone</text>',
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
    return "\n".join([*parts, "</svg>", ""])


def _x(value: float) -> int:
    share = math.log(min(max(value, _LEAST), _MOST) / _LEAST) / math.log(_MOST / _LEAST)
    return _LEFT + round(share * _WIDTH)
