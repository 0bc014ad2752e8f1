"""What judging may cost at most: requests, tokens, money. Nothing is sent that could go beyond it."""

import threading
from dataclasses import dataclass

from ...errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Cap:
    """The most that one invocation may spend; None: no limit. Prices are per million tokens, in any currency."""

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "money", "price_in", "price_out"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UsageError(f"a budget's {name} is {value}; expected 0 or more")
        if self.money is not None and (self.price_in is None or self.price_out is None):
            raise UsageError("a budget of money needs the prices of a million tokens, read and written")

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Money that so many tokens cost."""
        return (tokens_in * (self.price_in or 0.0) + tokens_out * (self.price_out or 0.0)) / 1e6


class Spent(Exception):
    """The budget has no room for one more request."""


class Budget:
    """What is spent and what is held for requests under way; used by many threads.

    A request is sent only when the most that it can cost fits, and what it did cost replaces that afterwards. So
    the cap holds however many are under way.
    """

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self.calls = self.tokens_in = self.tokens_out = 0
        self._held_in = self._held_out = 0
        self._lock = threading.Lock()

    @property
    def money(self) -> float:
        """What the spent tokens cost."""
        return self.cap.cost(self.tokens_in, self.tokens_out)

    def hold(self, tokens_in: int, tokens_out: int) -> None:
        """Keep room for one request of at most so many tokens.

        Raises:
            Spent: there is none.
        """
        with self._lock:
            cap, read = self.cap, self.tokens_in + self._held_in + tokens_in
            written = self.tokens_out + self._held_out + tokens_out
            if cap.calls is not None and self.calls >= cap.calls:
                raise Spent(f"the budget of {cap.calls} requests is used up")
            if cap.tokens is not None and read + written > cap.tokens:
                raise Spent(f"the budget of {cap.tokens} tokens has no room for one more request")
            if cap.money is not None and cap.cost(read, written) > cap.money:
                raise Spent(f"the budget of {cap.money:g} in money has no room for one more request")
            self.calls += 1
            self._held_in += tokens_in
            self._held_out += tokens_out

    def settle(self, held: tuple[int, int], used: tuple[int, int]) -> None:
        """Replace what was held for a request by what it used."""
        with self._lock:
            self._held_in -= held[0]
            self._held_out -= held[1]
            self.tokens_in += used[0]
            self.tokens_out += used[1]
