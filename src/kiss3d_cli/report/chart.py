"""Bars as inline SVG: names and numbers keep their size while the bars take the width there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_ROW, _BAR, _GAP = 36, 8, 3


@dataclass(frozen=True)
class Bar:
    """One row.

    Attributes:
        name: at its left.
        text: the number with its unit, at its right.
        values: one bar each, not negative; the second and later ones have their own colour.
    """

    name: str
    text: str
    values: tuple[float, ...]


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A chart of all rows on one scale. Empty without rows."""
    if not rows:
        return ""
    largest = max((value for row in rows for value in row.values), default=0) or 1
    high = _ROW + (_BAR + _GAP) * (max(len(row.values) for row in rows) - 1)
    parts = [
        f'<svg class="chart" role="img" width="100%" height="{high * len(rows)}">',
        f"<title>{escape(title)}</title>",
    ]
    for number, row in enumerate(rows):
        top = number * high
        parts.append(f'<text x="0" y="{top + 14}">{escape(row.name)}</text>')
        parts.append(f'<text x="100%" y="{top + 14}" text-anchor="end" class="number">{escape(row.text)}</text>')
        for order, value in enumerate(row.values):
            y = top + 20 + order * (_BAR + _GAP)
            width = 100 * value / largest
            parts.append(f'<rect x="0" y="{y}" width="100%" height="{_BAR}" rx="3" class="track"/>')
            parts.append(f'<rect x="0" y="{y}" width="{width:.2f}%" height="{_BAR}" rx="3" class="bar bar-{order}"/>')
    return "".join(parts) + "</svg>"
