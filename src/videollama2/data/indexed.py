"""A sequence whose items are made when they are asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T", covariant=True)


class Indexed(Sequence[T], Generic[T]):
    """Places below zero and slices, for a class that has items at the places 0 to len - 1."""

    @abstractmethod
    def at(self, place: int) -> T:
        """The item at a place, 0 or more and less than len."""

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self.at(k) for k in range(*place.indices(len(self)))]
        return self.at(range(len(self))[place])
