"""How figures are written: shares in percent, what is "of N" as it is, differences with their sign."""

import re
from collections.abc import Mapping
from typing import Any

ABLATED = {"none": "everything", "audio": "without sound", "video": "without pictures", "text-only": "text only"}
"""Columns of a report by the modality that is taken away."""

Figure = Mapping[str, Any]  # value, low, high (stats.Estimate as plain data)


def is_share(metric: str) -> bool:
    """Whether a metric runs from 0 to 1; else its name says how far (`score_of_5`)."""
    return re.search(r"_of_\d+$", metric) is None


def named(metric: str) -> str:
    """`score_of_5` → "score (of 5)", `token_f1` → "token f1"."""
    return re.sub(r"_of_(\d+)$", r" (of \1)", metric).replace("_", " ")


def number(metric: str, value: float | None, *, signed: bool = False) -> str:
    """A share in percent with one decimal, everything else with two; a dash for nothing."""
    if value is None:
        return "–"
    shown, places = (round(100 * value, 1), 1) if is_share(metric) else (round(value, 2), 2)
    # a zero has no sign, and -0.0 is one
    text = f"{shown:{'+' if signed else ''}.{places}f}" if shown else f"{0:.{places}f}"
    return text.replace("-", "−")


def unit(metric: str) -> str:
    """What stands behind a figure: " %" of a share."""
    return " %" if is_share(metric) else ""


def interval(metric: str, figure: Figure, *, signed: bool = False) -> str:
    """`61.0 to 70.2`, or a dash where there is none."""
    low, high = figure.get("low"), figure.get("high")
    if low is None or high is None:
        return "–"
    return f"{number(metric, low, signed=signed)} to {number(metric, high, signed=signed)}"


def chance(p: float | None) -> str:
    """A probability: three decimals, or that it is less."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def many(count: int, thing: str = "item") -> str:
    """`1 item`, `1,200 items`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def plain(text: str, most: int = 2000) -> str:
    """Text of a model or a file: what isn't printable is escaped (line breaks stay), what is too long is cut."""
    cut, left = text[:most], len(text) - most
    safe = "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in cut)
    return safe + (f" … ({left:,} more characters)" if left > 0 else "")
