"""How figures are written: shares in percent, "of N" unchanged, differences with their sign; and text made harmless."""

import re
from collections.abc import Mapping
from typing import Any

ABLATED = {"none": "all modalities", "audio": "without audio", "video": "without video", "text-only": "text only"}
"""Titles of a report's columns, by ablation."""


def is_share(metric: str) -> bool:
    """Whether a metric runs from 0 to 1; otherwise its name has the range (`score_of_5`)."""
    return re.search(r"_of_\d+$", metric) is None


def named(metric: str) -> str:
    """`score_of_5` → "score (of 5)", `token_f1` → "token f1"."""
    return re.sub(r"_of_(\d+)$", r" (of \1)", metric).replace("_", " ")


def number(metric: str, value: float | None, *, signed: bool = False) -> str:
    """A share in percent with one decimal, everything else with two; a dash for None."""
    if value is None:
        return "–"
    shown, places = (round(100 * value, 1), 1) if is_share(metric) else (round(value, 2), 2)
    # zero has no sign, not even -0.0
    text = f"{shown:{'+' if signed else ''}.{places}f}" if shown else f"{0:.{places}f}"
    return text.replace("-", "−")


def unit(metric: str) -> str:
    """The unit after a figure: " %" of a share."""
    return " %" if is_share(metric) else ""


def interval(metric: str, figure: Mapping[str, Any], *, signed: bool = False) -> str:
    """`61.0 to 70.2`, or a dash if there is no interval. `figure`: {value, low, high}."""
    low, high = figure.get("low"), figure.get("high")
    if low is None or high is None:
        return "–"
    return f"{number(metric, low, signed=signed)} to {number(metric, high, signed=signed)}"


def chance(p: float | None) -> str:
    """A probability with three decimals, "< 0.001" if it is smaller."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def two(value: float | None) -> str:
    """A number with two decimals; a dash for None."""
    return "–" if value is None else f"{round(value, 2) + 0:.2f}".replace("-", "−")


def many(count: int, thing: str = "item") -> str:
    """`1 item`, `1,200 items`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def plain(text: str, most: int = 2000) -> str:
    """Text of a model or a file: unprintable characters are escaped (line breaks stay), and long text is cut."""
    cut, left = text[:most], len(text) - most
    safe = "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in cut)
    return safe + (f" … ({left:,} more characters)" if left > 0 else "")
