"""Which records a step has: a pure function of the seed and the step number.

    position = step · batch + place ─► pool, by weight ─► the pool's next record, in the order of its epoch

Without running state, every process can compute any step at any time, and a resumed run continues with exactly the
next sample.
"""

import zlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import gcd, lcm
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .permutation import Permutation

MAX_LISTED = 1 << 20  # records of a pool whose order is a sorted list; larger pools use `Permutation`
MAX_PERIOD = 100_000  # positions after which the pattern of pools repeats; finer weights are rounded to it


class MixtureOrder:
    """Shuffled training order of one or several pools of records.

    Without weights, all pools form one endless sequence of epochs, each of which has every record once in an order of
    its own. A batch may span two epochs, so batches are always full and no record is left over. With weights, each pool
    is such a sequence, and positions are dealt to the pools so that after any number of samples each pool is less than
    one sample away from its share: a batch of 128 at 2:1:1 holds 64, 32 and 32.

    Attributes:
        steps_per_epoch: steps after which every record was seen; with weights, every record of the pool with the
            largest weight (the first such), while smaller pools repeat and larger ones are not exhausted.
    """

    def __init__(
        self, pools: Mapping[str, Sequence[int]], *, batch: int, seed: int, weights: Mapping[str, float] | None = None
    ) -> None:
        """Compute the pattern of pools.

        Args:
            pools: name → indices of its records.
            batch: samples per step, over all processes.
            seed: of the shuffling; 0 or more.
            weights: name → share, in any unit; 0 drops a pool. None: every record once per epoch.

        Raises:
            UsageError: no records, an empty pool, or weights that do not match the pools.
        """
        if batch < 1 or seed < 0:
            raise UsageError(f"expected a batch of 1 or more and a seed of 0 or more, got batch {batch}, seed {seed}.")
        self.batch, self.seed = batch, seed
        self.shares = None if weights is None else _whole_shares(weights, pools)
        if self.shares is None:
            pools = {"": joined_places(list(pools.values()))}
        self._pools = {n: joined_places([pools[n]]) for n in (pools if self.shares is None else self.shares)}
        empty = [name for name, pool in self._pools.items() if not len(pool)]
        if empty or not self._pools:
            kinds = f" of kind {', '.join(empty)}" if any(empty) else ""
            raise UsageError(f"no records{kinds} to train on; add some, or remove the kind from the mixture.")
        self._names = list(self._pools)
        self._pattern = spread([1] if self.shares is None else list(self.shares.values()))
        ones = self._pattern[:, None] == np.arange(len(self._names))
        self._before = np.concatenate([np.zeros((1, len(self._names)), np.int64), ones.cumsum(0)])
        self._orders: OrderedDict[tuple[int, int], NDArray[np.int64] | Permutation] = OrderedDict()
        self.steps_per_epoch = self._steps_to_cover(int(np.argmax(self._before[-1])))

    def step(self, n: int) -> list[int]:
        """The `batch` record indices of optimizer step n ≥ 0."""
        return [self._record(position) for position in range(n * self.batch, (n + 1) * self.batch)]

    def describe(self) -> str:
        """One line per pool, for the user."""
        total = int(self._before[-1].sum())
        if self.shares is None:
            return (
                f"{len(self._pools[''])} records, each once per epoch of {self.steps_per_epoch} steps of {self.batch}"
            )
        lines = []
        seen = self.steps_per_epoch * self.batch
        for k, (name, pool) in enumerate(self._pools.items()):
            share = int(self._before[-1][k]) / total
            lines.append(
                f"{name}: {share:.1%} of each batch; {len(pool)} records, seen {self._count(k, seen) / len(pool):.2f} "
                f"times per epoch of {self.steps_per_epoch} steps of {self.batch}"
            )
        return "\n".join(lines)

    def _record(self, position: int) -> int:
        period = len(self._pattern)
        k = int(self._pattern[position % period])
        pool = self._pools[self._names[k]]
        epoch, place = divmod(self._count(k, position), len(pool))
        return int(pool[self._order(k, epoch)[place]])

    def _count(self, k: int, position: int) -> int:
        """How many of the positions before this one belong to pool k."""
        rounds, rest = divmod(position, len(self._pattern))
        return rounds * int(self._before[-1][k]) + int(self._before[rest][k])

    def _order(self, k: int, epoch: int) -> NDArray[np.int64] | Permutation:
        """The order of pool k in an epoch."""
        key = (k, epoch)
        seeds = [self.seed, zlib.crc32(self._names[k].encode()), epoch]
        if key not in self._orders and len(self._pools[self._names[k]]) > MAX_LISTED:
            self._orders[key] = Permutation(len(self._pools[self._names[k]]), seeds)
        if key not in self._orders:
            # raw bits of a bit generator are the only random numbers that numpy guarantees across versions
            source = np.random.Philox(np.random.SeedSequence(seeds))
            bits = source.random_raw(len(self._pools[self._names[k]]))
            self._orders[key] = np.argsort(bits, kind="stable")
            while len(self._orders) > 2 * len(self._names):  # a step may span two epochs
                self._orders.popitem(last=False)
        self._orders.move_to_end(key)
        return self._orders[key]

    def _steps_to_cover(self, k: int) -> int:
        """Steps until every record of pool k was seen."""
        rounds, rest = divmod(len(self._pools[self._names[k]]), int(self._before[-1][k]))
        positions = rounds * len(self._pattern) + bisect_left(self._before[:, k], rest)
        return -(-positions // self.batch)


class SequentialOrder:
    """Every record once, unshuffled, for evaluation; the last step may be short."""

    def __init__(self, records: Sequence[int], *, batch: int) -> None:
        if batch < 1 or not len(records):
            raise UsageError(f"expected 1 or more records in batches of 1 or more, got {len(records)} and {batch}.")
        self.records, self.batch = records, batch
        self.steps_per_epoch = -(-len(records) // batch)

    def step(self, n: int) -> list[int]:
        """At most `batch` record indices of step n; empty after the last."""
        return list(self.records[n * self.batch : (n + 1) * self.batch])


def joined_places(pools: Sequence[Sequence[int]]) -> Sequence[int]:
    """The records of several pools: a range if they follow each other, else a list."""
    ranges = [pool for pool in pools if isinstance(pool, range) and pool.step == 1]
    if pools and len(ranges) == len(pools) and all(a.stop == b.start for a, b in pairwise(ranges)):
        return range(ranges[0].start, ranges[-1].stop)
    listed = np.concatenate([np.asarray(pool, np.int64) for pool in pools]) if pools else np.zeros(0, np.int64)
    return cast("Sequence[int]", listed)


def spread(shares: Sequence[int]) -> NDArray[np.int64]:
    """The pool of each of sum(shares) positions, mixed as evenly as possible.

    After any number of positions, each pool's count is less than one from its exact share. Picking the pool that is
    furthest behind does not guarantee that with many pools; picking, among those eligible, the one whose deadline is
    first does (Tijdeman 1980, The chairman assignment problem).
    """
    total, bound = sum(shares), max(2 * len(shares) - 2, 1)
    scale = [lcm(*shares) // share for share in shares]
    behind = [0] * len(shares)  # total · (exact share − count)
    chosen = np.empty(total, np.int64)
    for position in range(total):
        behind = [b + share for b, share in zip(behind, shares, strict=True)]
        # the bound is meaningless for a single pool
        eligible = [k for k, b in enumerate(behind) if b * bound >= total] if len(shares) > 1 else [0]
        k = min(eligible, key=lambda k: ((total * (bound - 1) - bound * behind[k]) * scale[k], k))
        behind[k] -= total
        chosen[position] = k
    return chosen


def _whole_shares(weights: Mapping[str, float], pools: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The weights as integers without a common divisor, zeros dropped."""
    if set(weights) != set(pools):
        raise UsageError(
            f"the mixture names {', '.join(weights) or 'nothing'}, the records are of {', '.join(pools) or 'no kind'}; "
            "give each kind of record a weight, 0 to drop it."
        )
    wrong = {name: weight for name, weight in weights.items() if not 0 <= weight < float("inf")}
    if wrong or not any(weights.values()):
        raise UsageError(f"the weights are {dict(weights)}; expected numbers of 0 or more, at least one above 0.")
    exact = {name: Fraction(str(weight)) for name, weight in weights.items() if weight}
    unit = lcm(*(w.denominator for w in exact.values()))
    whole = {name: int(weight * unit) for name, weight in exact.items()}
    total = sum(whole.values()) // gcd(*whole.values())
    if total > MAX_PERIOD:
        total = sum(whole.values())
        whole = {name: max(round(Fraction(w * MAX_PERIOD, total)), 1) for name, w in whole.items()}
    divisor = gcd(*whole.values())
    return {name: w // divisor for name, w in whole.items()}
