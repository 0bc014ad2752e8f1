"""Uncertainty of figures: seeded bootstrap intervals, paired tests, agreement.

The bootstrap draws media, not questions: ten questions about one clip tend to be right or wrong together, and an
interval that takes them as ten independent observations is too narrow. One set of draws serves every figure of a
report, so figures of the same items can be subtracted draw by draw (a paired bootstrap).

    draws = Draws(groups)                      # groups[i]: the media file of item i
    draws.ratios(right, scored)                # f64[B, K]: K figures in each of the B draws
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SAMPLES, SEED, LEVEL = 2000, 0, 0.95
_HELD = 4_000_000  # most draws in memory at once
_Z = 1.959963984540054  # of a normal distribution, half of 1 - LEVEL lies beyond it

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; both ends are None if there is none (a single media file).

    Attributes:
        by: the method. A bootstrap of items that are all right (or all wrong) has no width, which is meaningless;
            Wilson's interval replaces it.
    """

    value: float
    low: float | None
    high: float | None
    by: Literal["bootstrap", "wilson"] | None = "bootstrap"


class Draws:
    """B seeded draws with replacement of the groups that items belong to, shared by everything measured with it.

    Args:
        groups: of each item. Items of a group are drawn together.
    """

    def __init__(self, groups: Sequence[Hashable], samples: int = SAMPLES, seed: int = SEED) -> None:
        places: dict[Hashable, int] = {}
        self.of_item = np.array([places.setdefault(g, len(places)) for g in groups], dtype=np.int64)
        self.groups, self.samples, self._seed = len(places), samples, seed

    def weights(self) -> Iterator[NDArray[np.int64]]:
        """How often each group is drawn: i64[b, groups], in blocks whose b add up to the number of draws."""
        generator = np.random.default_rng(self._seed)
        block = max(1, min(self.samples, _HELD // max(self.groups, 1)))
        if not self.groups:  # no items
            yield np.zeros((self.samples, 0), dtype=np.int64)
            return
        for start in range(0, self.samples, block):
            count = min(block, self.samples - start)
            drawn = generator.integers(self.groups, size=(count, self.groups))
            drawn += np.arange(count)[:, None] * self.groups  # a multinomial draw is a count of uniform ones
            yield np.bincount(drawn.ravel(), minlength=count * self.groups).reshape(count, self.groups)

    def ratios(self, numerators: Floats, denominators: Floats) -> Floats:
        """K ratios of sums over the drawn items.

        Args:
            numerators, denominators: f64[items, K], or f64[items] for one ratio.

        Returns:
            f64[B, K], or f64[B]; NaN if a draw's denominator is 0.
        """
        (found,) = self.ratios_of_parts([(np.arange(len(self.of_item)), numerators, denominators)])
        return found

    def ratios_of_parts(self, parts: Sequence[tuple[NDArray[np.int64], Floats, Floats]]) -> list[Floats]:
        """As `ratios`, for several parts of the items at once.

        Args:
            parts: places of items, with their numerators and denominators: f64[places] or f64[places, K].
        """
        summed: list[tuple[NDArray[np.int64], Floats, Floats]] = []
        for places, numerators, denominators in parts:
            known, of_item = np.unique(self.of_item[places], return_inverse=True)
            top, bottom = (_by_group(np.asarray(a, float), of_item, len(known)) for a in (numerators, denominators))
            summed.append((known, top, bottom))
        found: list[list[Floats]] = [[] for _ in parts]
        for block in self.weights():
            for (groups, above, below), ratios in zip(summed, found, strict=True):
                part = (block if len(groups) == self.groups else block[:, groups]).astype(np.float64)
                top, bottom = part @ above, part @ below
                with np.errstate(invalid="ignore", divide="ignore"):
                    ratios.append(np.where(bottom > 0, top / bottom, np.nan))
        return [np.concatenate(ratios) for ratios in found]

    def items(self, count: int) -> Iterator[list[int]]:
        """The first `count` draws, as places of items, repeated as often as they were drawn."""
        order = np.arange(len(self.of_item))
        left = count
        for block in self.weights():
            for drawn in block[:left]:
                yield np.repeat(order, drawn[self.of_item]).tolist()
            left -= min(left, len(block))
            if not left:
                return


def interval(draws: Floats) -> tuple[float, float] | None:
    """The middle 95 % of f64[B] draws; None if fewer than half of them are finite."""
    known = draws[np.isfinite(draws)]
    if 2 * len(known) < len(draws) or not len(known):
        return None
    low, high = np.percentile(known, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def two_sided(draws: Floats) -> float | None:
    """Two-sided p of a difference, from its f64[B] draws; None if fewer than half of them are finite.

    Never 0: B draws can't resolve p below about 2 / B.
    """
    known = draws[np.isfinite(draws)]
    if 2 * len(known) < len(draws) or not len(known):
        return None
    least = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (least + 1) / (len(known) + 1))


def wilson(right: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, valid also if all or none are right (Wilson 1927)."""
    if count <= 0:
        return 0.0, 1.0
    share, spread = right / count, _Z * _Z / count
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    # exact ends are returned exactly, without rounding
    return (0.0 if right <= 0 else max(0.0, middle - half)), (1.0 if right >= count else min(1.0, middle + half))


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p of McNemar's test (1947).

    Args:
        first_only, second_only: items that only one of two runs has right. If both runs are equally good, each item
            falls on either side like a fair coin.
    """
    count, least = first_only + second_only, min(first_only, second_only)
    term, tail = 1, 0
    for i in range(least + 1):
        tail += term
        term = term * (count - i) // (i + 1)  # binomials, one from the other
    return min(1.0, 2 * tail / 2**count)


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Agreement of two raters beyond chance (Cohen 1960); 1: always, 0: as by chance.

    None if it is undefined: no items, or both always give the same single label.
    """
    pairs = list(zip(first, second, strict=True))
    if not pairs:
        return None
    labels = sorted({label for pair in pairs for label in pair}, key=repr)
    expected = math.fsum(first.count(label) * second.count(label) for label in labels) / len(pairs) ** 2
    if expected == 1:
        return None
    observed = sum(a == b for a, b in pairs) / len(pairs)
    return (observed - expected) / (1 - expected)


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation, ties sharing their mean rank; None if either side is constant."""
    if len(first) != len(second):
        raise ValueError(f"expected equally many values, got {len(first)} and {len(second)}")
    x, y = _ranks(first), _ranks(second)
    if not len(x) or not x.std() or not y.std():
        return None
    return float(np.mean((x - x.mean()) * (y - y.mean())) / (x.std() * y.std()))


def _by_group(values: Floats, of_item: NDArray[np.int64], groups: int) -> Floats:
    """Sums of f64[items] or f64[items, K] over each group."""
    if values.ndim == 1:
        return np.bincount(of_item, values, minlength=groups).astype(np.float64)
    return np.stack([_by_group(column, of_item, groups) for column in values.T], axis=1)


def _ranks(values: Sequence[float]) -> Floats:
    _, place, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks
