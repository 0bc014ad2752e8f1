"""Do questions give their answers away? Asked without any medium, they should be answered no better than by guessing.

Guessing takes each option as often as any other. How likely it is right as often as text alone was, or more often, is
exact (a Poisson-binomial tail); of the whole and of every category, at a level that is divided by their number.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .items import Outcome, Result

LEVEL = 0.01  # that one of a report's warnings is false


def leaks(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Where the text-only column is better than guessing: items, right, expected, p; the whole has no column.

    Args:
        results: of the text-only column; those without options or public answers are left out.
    """
    known = [result for result in results if result.truth and result.choices]
    groups: dict[tuple[str, str] | None, list[Result]] = {None: known} if known else {}
    for result in known:
        for category in result.categories.items():
            groups.setdefault(category, []).append(result)
    found = []
    for group, members in groups.items():
        column, value = group or (None, None)
        right = sum(result.outcome is Outcome.RIGHT for result in members)
        chances = [1 / len(result.choices) for result in members]
        p = tail(chances, right)
        if p * len(groups) < LEVEL:
            told = {"items": len(members), "right": right, "expected": sum(chances), "p": p}
            found.append({"column": column, "value": value, **told})
    return found


def tail(chances: Sequence[float], count: int) -> float:
    """The probability that `count` or more of independent events happen, each with its own chance."""
    counts = np.zeros(len(chances) + 1)
    counts[0] = 1.0
    for n, chance in enumerate(chances):
        counts[1 : n + 2] = counts[1 : n + 2] * (1 - chance) + counts[: n + 1] * chance
        counts[0] *= 1 - chance
    return float(min(1.0, counts[count:].sum()))
