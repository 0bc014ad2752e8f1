"""A benchmark's figures with their intervals: of the whole, of each category, and of the difference of two columns.

Most figures are means over items. A draw of the bootstrap is then a weighted mean, and one matrix product gives all
draws. Whether a figure is a mean is tested, not declared: the mean of `Benchmark.metrics` over single items must equal
its value for all of them, and for drawn ones. Other figures (F1, a mean over classes) are recomputed for fewer draws.
"""

import math
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..benchmark import Benchmark
from ..items import Result
from ..loop import MISSING
from ..stats import Draws, Estimate, Floats, interval, wilson
from .wording import is_share

RECOMPUTED = 200  # draws of a figure that is not a mean
_TRIED = 3  # draws on which a figure is tested for being a mean


def groups_of(*columns: Sequence[Result]) -> dict[str, Hashable]:
    """What each item is about, by its id: its media file in any column, a missing file, else itself."""
    found: dict[str, Hashable] = {}
    for result in (r for column in columns for r in column):
        if result.media is not None:
            found[result.id] = ("medium", result.media)
        elif result.error is not None and result.error.startswith(MISSING):
            found.setdefault(result.id, ("missing", result.error))  # the error names the file
        else:
            found.setdefault(result.id, ("item", result.id))
    return found


class Category(NamedTuple):
    """The results of one category, their figures, and the main one with its interval, if it has one."""

    results: list[Result]
    figures: dict[str, float]
    main: Estimate | None


class Measured:
    """The figures of one column's results.

    Args:
        results: in the order of the draws' items.
        draws: of the groups of these results; for a difference, shared with the other column.
    """

    def __init__(self, benchmark: Benchmark, results: Sequence[Result], draws: Draws) -> None:
        self._metrics, self.results, self.draws = benchmark.metrics, list(results), draws

    @cached_property
    def values(self) -> dict[str, float]:
        """Every figure of the whole."""
        return self._of(range(len(self.results)))

    @cached_property
    def singles(self) -> dict[str, Floats]:
        """Each item's value of every figure that is a mean: f64[items], NaN if the item does not count in it."""
        single = [self._of([i]) for i in range(len(self.results))]
        columns = {name: np.array([one.get(name, math.nan) for one in single]) for name in self.values}
        tried: list[Sequence[int]] = [range(len(self.results)), *self.draws.items(_TRIED)]
        expected = [self._of(items) for items in tried]
        return {
            name: column
            for name, column in columns.items()
            if all(_same(_mean(column[list(at)]), want.get(name)) for at, want in zip(tried, expected, strict=True))
        }

    def estimates(self) -> dict[str, Estimate]:
        """Every figure of the whole with its interval."""
        return {name: self._estimate(name, value, self.drawn[name], None) for name, value in self.values.items()}

    @cached_property
    def drawn(self) -> dict[str, Floats]:
        """Every figure in each draw: f64[B]; figures that are not means have the first few draws only."""
        whole = range(len(self.results))
        found = dict(zip(self.singles, self._drawn_means([(name, whole) for name in self.singles]), strict=True))
        again = [name for name in self.values if name not in found]
        if again:
            each = [self._of(items) for items in self.draws.items(RECOMPUTED)]
            found |= {name: np.array([one.get(name, math.nan) for one in each]) for name in again}
        return {name: found[name] for name in self.values}

    def categories(self, column: str, metric: str) -> dict[str, "Category"]:
        """By value of a column of categories: all figures, and the named one with its interval."""
        places: dict[str, list[int]] = {}
        for i, result in enumerate(self.results):
            if column in result.categories:
                places.setdefault(result.categories[column], []).append(i)
        if metric in self.singles:
            drawn = self._drawn_means([(metric, items) for items in places.values()])
        else:
            drawn = [self._category_draws(metric, items) for items in places.values()]
        found: dict[str, Category] = {}
        for (value, items), draws in zip(places.items(), drawn, strict=True):
            figures = self._of(items)
            main = figures.get(metric)
            sure = None if main is None else self._estimate(metric, main, draws, items)
            found[value] = Category([self.results[i] for i in items], figures, sure)
        return found

    def _of(self, items: Sequence[int]) -> dict[str, float]:
        figures = self._metrics([self.results[i] for i in items]) if len(items) else {}
        return {name: float(value) for name, value in figures.items() if math.isfinite(value)}

    def _drawn_means(self, wanted: Sequence[tuple[str, Sequence[int]]]) -> list[Floats]:
        """Drawn means of figures, each over some of the items: f64[B] each."""
        parts = []
        for name, items in wanted:
            places = np.array(items, dtype=np.int64)
            values = self.singles[name][places]
            parts.append((places, np.nan_to_num(values), np.isfinite(values).astype(np.float64)))
        return self.draws.ratios_of_parts(parts)

    def _category_draws(self, metric: str, items: Sequence[int]) -> Floats:
        inside = set(items)
        each = [self._of([i for i in drawn if i in inside]) for drawn in self.draws.items(RECOMPUTED)]
        return np.array([one.get(metric, math.nan) for one in each])

    def _estimate(self, name: str, value: float, drawn: Floats, items: Sequence[int] | None) -> Estimate:
        at = list(range(len(self.results)) if items is None else items)
        values = self.singles[name][at] if name in self.singles else np.full(0, np.nan)
        known = values[np.isfinite(values)]
        groups = len({int(g) for g, v in zip(self.draws.of_item[at], values, strict=False) if math.isfinite(v)})
        if len(known) and is_share(name) and set(known.tolist()) in ({0.0}, {1.0}):
            # the independent observations are media, not questions
            return Estimate(value, *wilson(value * groups, groups), by="wilson")
        found = interval(drawn)
        alike = len(known) > 0 and bool((known == known[0]).all())  # no draw can differ, which tells nothing
        if found is None or alike or (name in self.singles and groups < 2) or self.draws.groups < 2:
            return Estimate(value, None, None, by=None)
        return Estimate(value, *found)


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _same(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
