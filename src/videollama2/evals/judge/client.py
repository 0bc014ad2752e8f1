"""A judge: a model behind an OpenAI-compatible endpoint, with a cache, retries and a budget.

A question that fails is `Unanswered`, after a bounded number of retries with growing pauses. A judge that rejects every
request, or keeps failing, is given up, so that a dead server costs minutes and not days.
"""

import json
import logging
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import UsageError
from .budget import Budget, Spent
from .cache import Cache, Reply, key_of
from .http import Endpoint, Refused, Unanswered, post, read_endpoint

logger = logging.getLogger(__name__)

OURS = frozenset({"model", "messages", "stream", "n", "tools", "functions"})  # of a request's body; never overridden
_LONGEST = 300  # characters of an error
Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A judge's address and parameters.

    Attributes:
        endpoint: base URL ("https://api.example.org/v1").
        model: its name there.
        parameters: further fields of a request (temperature, max_tokens, seed…); part of the cache's key.
        key: sent as a bearer token; never written, logged or shown.
    """

    endpoint: Endpoint
    model: str
    parameters: Mapping[str, Any]
    key: str | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Its name in judgements; the manifest has the endpoint."""
        return self.model


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Timeouts and retries.

    Attributes:
        timeout_s: for one request, from connecting to the last byte.
        retries: of a request that may succeed later.
        first_pause_s: before the first retry; doubled with each.
        longest_pause_s: a request whose server wants a longer one (Retry-After) is not retried.
        give_up_after: consecutive questions without a reply.
    """

    timeout_s: float = 60.0
    retries: int = 5
    first_pause_s: float = 1.0
    longest_pause_s: float = 120.0
    give_up_after: int = 20

    def __post_init__(self) -> None:
        if not (0 < self.timeout_s <= 3600 and 0 <= self.retries <= 20 and self.give_up_after >= 1):
            raise UsageError(
                f"a timeout of {self.timeout_s:g} s with {self.retries} retries is not possible; expected a timeout of "
                "up to 3600 s and 0 to 20 retries."
            )
        if not (0 <= self.first_pause_s <= self.longest_pause_s <= 3600):
            raise UsageError("pauses between tries lie between 0 and 3600 s, the first no longer than the longest.")


def judge_at(endpoint: str, model: str, parameters: Mapping[str, Any], key_variable: str | None = None) -> Judge:
    """A judge whose API key is taken from an environment variable.

    Args:
        parameters: of each request; None drops the field.
        key_variable: name of the variable. None: no key is sent, so that none goes to an endpoint it isn't for.

    Raises:
        UsageError: bad endpoint or model, a reserved parameter, a variable that is not set or not a key.
    """
    to = read_endpoint(endpoint)
    if not model.strip():
        raise UsageError("expected the name of a model of the endpoint (--judge-model).")
    if taken := sorted(OURS & parameters.keys()):
        raise UsageError(f"a judge's request has its own {', '.join(taken)}; remove it from the parameters.")
    key = None if key_variable is None else _key(key_variable)
    if key and to.scheme == "http" and not to.is_near:
        logger.warning("the judge's key is sent to %s without encryption; use https where there is one", to.host)
    given = {name: value for name, value in parameters.items() if value is not None}
    return Judge(endpoint=to, model=model, parameters=given, key=key)


def _key(variable: str) -> str:
    # neither the name nor the value is shown: a key given in place of its variable's name would be in the message
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UsageError(
            "the environment variable for the judge's key is not set; pass the variable's name, not the key."
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError("the environment variable for the judge's key holds characters that no key has.")
    return value


class Client:
    """A client of one judge; used by many threads."""

    def __init__(self, judge: Judge, cache: Cache, budget: Budget, patience: Patience) -> None:
        self.judge = judge
        self.cached = 0
        self._cache, self._budget, self._patience = cache, budget, patience
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._not_before = 0.0  # a server that asks one thread to wait is left alone by all
        self._in_a_row = 0
        self._given_up: str | None = None

    def ask(self, messages: Messages, take: int = 0) -> tuple[str, Reply]:
        """The judge's reply, and its key in the cache.

        Args:
            take: number of earlier requests with these messages; a sampling judge replies differently to each.

        Raises:
            Unanswered: there is no reply; the message says why.
            Spent: the budget is used up.
            StorageError: the cache can't be written.
        """
        body = {"model": self.judge.model, **self.judge.parameters, "messages": [dict(m) for m in messages]}
        key = key_of(self.judge.endpoint.public, body, take)
        if (known := self._cache.get(key)) is not None:
            with self._lock:
                self.cached += 1
            return key, known
        try:
            reply = self._reply(body)
        except Unanswered as error:
            self._failed(error)
            raise Unanswered(self._told(error), again=False) from None  # the cause has the unhidden text
        with self._lock:
            self._in_a_row = 0
        self._cache.put(key, reply)
        return key, reply

    def stop(self) -> None:
        """Send nothing more; waiting threads return at once."""
        self._given_up = self._given_up or "judging was stopped"
        self._stopped.set()

    def _reply(self, body: Mapping[str, Any]) -> Reply:
        patience = self._patience
        for attempt in range(patience.retries + 1):
            self._wait()
            try:
                return self._once(body)
            except Unanswered as error:
                pause = patience.first_pause_s * 2**attempt * random.uniform(0.5, 1.0)
                pause = min(pause, patience.longest_pause_s) if error.wait is None else error.wait
                if not error.again or attempt == patience.retries:
                    raise
                if pause > patience.longest_pause_s:
                    why = f"it asks to wait {pause:.0f} s, more than {patience.longest_pause_s:g} s: {error}"
                    raise Unanswered(why, again=False) from error
                if error.wait is not None:
                    with self._lock:
                        self._not_before = max(self._not_before, time.monotonic() + pause)
                self._stopped.wait(pause)
        raise AssertionError("the last try returns or raises")

    def _wait(self) -> None:
        """Until the server may be asked."""
        while self._given_up is None and (left := self._not_before - time.monotonic()) > 0:
            self._stopped.wait(left)
        if self._given_up is not None:
            raise Unanswered(f"not asked: {self._given_up}", again=False)

    def _once(self, body: Mapping[str, Any]) -> Reply:
        """One request, within the budget."""
        held = _most_tokens(body)
        self._budget.hold(*held)
        used = held  # a request that was sent and failed is assumed to cost the most
        try:
            headers = {} if self.judge.key is None else {"Authorization": f"Bearer {self.judge.key}"}
            value = post(self.judge.endpoint, body, headers, self._patience.timeout_s)
            usage = value.get("usage")
            tokens = [_count(usage, "prompt_tokens"), _count(usage, "completion_tokens")]
            used = (held[0] if tokens[0] is None else tokens[0], held[1] if tokens[1] is None else tokens[1])
        except Unanswered as error:
            used = held if error.sent else (0, 0)
            raise
        finally:
            self._budget.settle(held, used)
        served = value.get("model")
        return Reply(
            text=self._harmless(_text(value)),
            served=self._harmless(served) if isinstance(served, str) else None,
            tokens_in=tokens[0],
            tokens_out=tokens[1],
        )

    def _failed(self, error: Unanswered) -> None:
        with self._lock:
            self._in_a_row += 1
            if self._given_up is not None:
                return
            if isinstance(error, Refused):
                self._given_up = f"the judge refused an earlier question ({self._told(error)})"
            elif self._in_a_row >= self._patience.give_up_after:
                self._given_up = f"the judge left {self._in_a_row} questions in a row without a reply"
            if self._given_up is not None:
                logger.warning("%s is given up: %s", self.judge.label, self._given_up)

    def _told(self, error: Unanswered) -> str:
        text = self._harmless(str(error))
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"

    def _harmless(self, text: str) -> str:
        """Text of the server, without our secrets that it may echo."""
        for secret in (self.judge.key, self.judge.endpoint.query):
            text = text.replace(secret, "[hidden]") if secret else text
        return text


def _most_tokens(body: Mapping[str, Any]) -> tuple[int, int]:
    """The most tokens that a request reads and writes: a text has at most as many tokens as bytes."""
    read = sum(len(m["content"].encode("utf-8", "surrogatepass")) + 16 for m in body["messages"])
    limits = [body.get("max_tokens"), body.get("max_completion_tokens")]
    # without our own limit it is unknown; most servers have one below this
    return read, max((n for n in limits if type(n) is int), default=4096)


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 1 << 40 else None


def _text(value: Mapping[str, Any]) -> str:
    """The text of the first choice.

    Raises:
        Unanswered: there is none.
    """
    if value.get("error"):  # some gateways report failures with status 200
        raise Unanswered(f"the reply is an error: {_written(value['error'])}", again=True)
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise Unanswered("the reply has no choices[0].message; the endpoint is not OpenAI-compatible", again=False)
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    if not isinstance(content, str) or not content.strip():
        why = f" (it refused: {_written(message['refusal'])})" if message.get("refusal") else ""
        cut = f"; finish_reason {_written(first['finish_reason'])}" if first and first.get("finish_reason") else ""
        raise Unanswered(f"the reply has no text{why}{cut}", again=False)
    return content


def _written(value: Any) -> str:
    """A value of a reply as text, however odd."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except (ValueError, RecursionError):
        return "something that can't be written"


__all__ = ["Client", "Judge", "Messages", "Patience", "Refused", "Spent", "Unanswered", "judge_at"]
