"""A benchmark's figures with their intervals: of the whole, of each category, and of the difference of two columns.

Most figures are means over items, and a draw of the bootstrap is then a weighted mean: all of them come from one
product of matrices. Whether a figure is one is tried and not asked: what `Benchmark.metrics` says of single items
must give what it says of all of them, and of drawn ones. Figures that are no means (F1, CIDEr, a mean over classes)
are computed again for each of fewer draws.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property

import numpy as np

from .items import Benchmark, Result
from .stats import Draws, Estimate, Floats, interval, wilson

RECOMPUTED = 200  # draws of a figure that is no mean
_TRIED = 3  # draws on which a figure must be a mean to count as one

Values = Mapping[str, float]


def groups_of(*columns: Sequence[Result]) -> dict[str, Hashable]:
    """What each item is about, by its id: its medium in any of the columns, else itself."""
    found: dict[str, Hashable] = {}
    for result in (r for column in columns for r in column):
        if result.media is not None:
            found[result.id] = ("medium", result.media)
        else:
            found.setdefault(result.id, ("item", result.id))
    return found


class Measured:
    """Results of one column, in the order of the draws' items, and what is measured on them.

    Args:
        draws: made of the groups of these results (and, for a difference, shared with the other column).
    """

    def __init__(self, benchmark: Benchmark, results: Sequence[Result], draws: Draws) -> None:
        self._metrics, self.results, self.draws = benchmark.metrics, list(results), draws

    @cached_property
    def values(self) -> dict[str, float]:
        """Every figure of the whole."""
        return self._of(range(len(self.results)))

    @cached_property
    def singles(self) -> dict[str, Floats]:
        """Of each figure that is a mean, what each item gives: f64[items], NaN where the item is not part of it."""
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
        drawn = self.drawn()
        return {name: self._estimate(name, value, drawn[name], None) for name, value in self.values.items()}

    def drawn(self) -> dict[str, Floats]:
        """Of every figure, what it is in each draw: f64[B]; of those that are no means, in the first few only."""
        means = self._mean_draws(list(self.singles), [None])
        found = {name: means[:, i] for i, name in enumerate(self.singles)}
        again = [name for name in self.values if name not in found]
        if again:
            each = [self._of(items) for items in self.draws.items(RECOMPUTED)]
            found |= {name: np.array([one.get(name, math.nan) for one in each]) for name in again}
        return {name: found[name] for name in self.values}

    def categories(self, column: str, metric: str) -> dict[str, tuple[dict[str, float], Estimate | None]]:
        """Of each value of a column of categories: all figures, and the named one with its interval."""
        places: dict[str, list[int]] = {}
        for i, result in enumerate(self.results):
            if column in result.categories:
                places.setdefault(result.categories[column], []).append(i)
        drawn: Sequence[Floats]
        if metric in self.singles:
            drawn = list(self._mean_draws([metric], list(places.values())).T)
        else:
            drawn = [self._category_draws(metric, items) for items in places.values()]
        found: dict[str, tuple[dict[str, float], Estimate | None]] = {}
        for (value, items), draws in zip(places.items(), drawn, strict=True):
            figures = self._of(items)
            main = figures.get(metric)
            found[value] = figures, None if main is None else self._estimate(metric, main, draws, items)
        return found

    def _of(self, items: Sequence[int]) -> dict[str, float]:
        figures = self._metrics([self.results[i] for i in items]) if len(items) else {}
        return {name: float(value) for name, value in figures.items() if math.isfinite(value)}

    def _mean_draws(self, names: Sequence[str], subsets: Sequence[Sequence[int] | None]) -> Floats:
        """Drawn means of each name in each subset: f64[B, names × subsets]."""
        shape = (len(self.results), len(names) * len(subsets))
        above, below = np.zeros(shape), np.zeros(shape)
        for k, (name, subset) in enumerate((n, s) for n in names for s in subsets):
            at = np.arange(shape[0]) if subset is None else np.array(subset)
            values = self.singles[name][at]
            above[at, k], below[at, k] = np.nan_to_num(values), np.isfinite(values)
        return self.draws.ratios(above, below)

    def _category_draws(self, metric: str, items: Sequence[int]) -> Floats:
        inside = set(items)
        each = [self._of([i for i in drawn if i in inside]) for drawn in self.draws.items(RECOMPUTED)]
        return np.array([one.get(metric, math.nan) for one in each])

    def _estimate(self, name: str, value: float, drawn: Floats, items: Sequence[int] | None) -> Estimate:
        at = list(range(len(self.results)) if items is None else items)
        values = self.singles[name][at] if name in self.singles else np.full(0, np.nan)
        known = values[np.isfinite(values)]
        groups = len({int(g) for g, v in zip(self.draws.of_item[at], values, strict=False) if math.isfinite(v)})
        if len(known) and set(known.tolist()) in ({0.0}, {1.0}):
            # as many independent facts as there are media, and not as there are questions
            return Estimate(value, *wilson(value * groups, groups), by="wilson")
        found = interval(drawn)
        if found is None or (name in self.singles and groups < 2) or self.draws.groups < 2:
            return Estimate(value, None, None, by=None)
        return Estimate(value, *found)


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _same(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
