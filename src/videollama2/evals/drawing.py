"""Plots of a report as SVG inside its page: stacked outcomes, and figures with their intervals.

Colours are the page's variables, so a plot follows light and dark; every plot has its numbers in a table beside it.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from .markdown import OUTCOMES
from .wording import number, plain

WIDTH, _LEFT, _RIGHT, _ROW = 460, 150, 58, 24
_LONGEST = 21  # characters of a label


def text(value: str, most: int = 2000) -> str:
    """Any text, harmless inside a page and inside an attribute."""
    return html.escape(plain(value, most), quote=True)


def stacked(rows: Sequence[tuple[str, Mapping[str, int]]], label: str) -> str:
    """One bar for each row, as long as its items, of its four outcomes."""
    most = max((sum(counts.values()) for _, counts in rows), default=0)
    drawn = []
    for i, (name, counts) in enumerate(rows):
        x, y = float(_LEFT), 4 + _ROW * i
        drawn.append(_label(name, y))
        for outcome in OUTCOMES:
            width = (WIDTH - _LEFT - _RIGHT) * counts[outcome] / most if most else 0
            drawn.append(
                f'<rect class="{outcome}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="17">'
                f"<title>{text(name)}: {counts[outcome]:,} {outcome}</title></rect>"
            )
            x += width
        drawn.append(f'<text class="n" x="{x + 6:.1f}" y="{y + 13}">{sum(counts.values()):,}</text>')
    return _svg("".join(drawn), _ROW * len(rows) + 6, label)


def intervals(
    rows: Sequence[tuple[str, Mapping[str, Any]]], metric: str, label: str, *, most: float = 1.0,
    line: float | None = None,
) -> str:  # fmt: skip
    """A dot for each figure and a line for its interval, from 0 to `most`.

    Args:
        rows: name and figure ({value, low, high}).
        line: where a dashed line is drawn (guessing).
    """
    height = _ROW * len(rows) + 22
    bottom = height - 20
    drawn = []
    for part in range(5):
        value, x = number(metric, most * part / 4), _x(most * part / 4, most)
        drawn.append(f'<line class="grid" x1="{x}" y1="0" x2="{x}" y2="{bottom}"/>')
        drawn.append(f'<text class="n" x="{x}" y="{height - 5}" text-anchor="middle">{value}</text>')
    if line is not None:
        drawn.append(
            f'<line class="guess" x1="{_x(line, most)}" y1="0" x2="{_x(line, most)}" y2="{bottom}">'
            f"<title>guessing: {number(metric, line)}</title></line>"
        )
    for i, (name, figure) in enumerate(rows):
        y = 4 + _ROW * i
        drawn.append(_label(name, y))
        if figure["value"] is None:
            continue
        if figure["low"] is not None:
            low, high = _x(figure["low"], most), _x(figure["high"], most)
            drawn.append(f'<line class="ci" x1="{low}" y1="{y + 9}" x2="{high}" y2="{y + 9}"/>')
        drawn.append(f'<circle class="dot" cx="{_x(figure["value"], most)}" cy="{y + 9}" r="5"/>')
        drawn.append(
            f'<text class="n" x="{WIDTH - 4}" y="{y + 13}" text-anchor="end">{number(metric, figure["value"])}</text>'
        )
    return _svg("".join(drawn), height, label)


def _x(value: float, most: float) -> str:
    share = min(max(value / most, 0.0), 1.0)
    return f"{_LEFT + (WIDTH - _LEFT - _RIGHT) * share:.1f}"


def _label(name: str, y: float) -> str:
    short = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    return f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{text(short)}<title>{text(name)}</title></text>'


def _svg(drawn: str, height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(label)}">{drawn}</svg>'
