"""Limits on what judging costs: requests, tokens, money. No request is sent that could exceed them."""

import threading
from dataclasses import dataclass

from ...errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Cap:
    """Limits of one invocation; None: no limit. Prices are per million tokens, in any currency."""

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "money", "price_in", "price_out"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UsageError(f"budget: expected {name} of 0 or more, got {value}.")
        if self.money is not None and (self.price_in is None or self.price_out is None):
            raise UsageError("a budget of money needs both prices per million tokens (--price-in, --price-out).")

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """The price of these tokens."""
        return (tokens_in * (self.price_in or 0.0) + tokens_out * (self.price_out or 0.0)) / 1e6


class Spent(Exception):
    """The budget has no room for one more request."""


class Budget:
    """Spent and reserved tokens; used by many threads.

    A request is sent only if its highest possible cost fits, and its actual cost replaces that afterwards. So the cap
    holds for any number of concurrent requests.
    """

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self.calls = self.tokens_in = self.tokens_out = 0
        self._held_in = self._held_out = 0
        self._lock = threading.Lock()

    @property
    def money(self) -> float:
        """The price of the spent tokens."""
        return self.cap.cost(self.tokens_in, self.tokens_out)

    def hold(self, tokens_in: int, tokens_out: int) -> None:
        """Reserve tokens for one request.

        Raises:
            Spent: they exceed the cap.
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
        """Replace a request's reserved tokens by the tokens it used."""
        with self._lock:
            self._held_in -= held[0]
            self._held_out -= held[1]
            self.tokens_in += used[0]
            self.tokens_out += used[1]
