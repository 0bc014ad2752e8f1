"""A random order of any number of records without a list of them: a permutation that is computed place by place.

A Feistel network over the smallest even number of bits that holds n, walked until it lands below n (Black and Rogaway
2002, Ciphers with arbitrary finite domains). Ten million records shuffled by a list would take 80 MB and a second per
epoch and process; this takes neither.
"""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 4
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio
_STIR = np.uint64(0xBF58476D1CE4E5B9)  # of splitmix64


class Permutation:
    """The numbers 0 … n - 1 in an order that depends on the seeds alone.

    Args:
        n: how many; 1 or more.
        seeds: integers of 0 or more.
    """

    def __init__(self, n: int, seeds: list[int]) -> None:
        self._n = n
        self._half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
        # raw bits of a bit generator are the only random numbers that numpy guarantees across versions
        self._keys = np.random.Philox(np.random.SeedSequence(seeds)).random_raw(_ROUNDS)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, place: int) -> int:
        return int(self.at(np.array([place]))[0])

    def at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers at these places, each from 0 to n - 1."""
        found = self._encrypted(places.astype(np.uint64))
        while (outside := found >= self._n).any():
            found[outside] = self._encrypted(found[outside])
        return found.astype(np.int64)

    def _encrypted(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """A permutation of all numbers of 2 · half bits."""
        half = np.uint64(self._half)
        mask = np.uint64((1 << self._half) - 1)
        left, right = numbers >> half, numbers & mask
        for key in self._keys:
            mixed = (right + key) * _MIX
            mixed ^= mixed >> np.uint64(29)
            mixed *= _STIR
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        return (left << half) | right
