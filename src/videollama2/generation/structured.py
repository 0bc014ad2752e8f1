"""Structured output: the answer follows a JSON schema, because no other token can be chosen.

    schema ── schema_text ──► canonical JSON text ── Grammars.start ──► Grammar, one per sequence
    logits [V] ── Grammar.mask ──► −∞ where the schema does not continue ── choose ──► Grammar.accept

llguidance computes the masks (docs/decisions/0014). It is an extra and imported where it is used.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingExtra, UsageError

MAX_SCHEMA_CHARACTERS = 200_000
# Python's own separators. If white space were free, a weak model could emit line breaks until its limit.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": False}


def schema_text(schema: Any) -> str:
    """A schema as canonical JSON text.

    Args:
        schema: a mapping, its JSON text, or a pydantic model class.

    Raises:
        UsageError: not a JSON schema, or a part of it that is not supported; MissingExtra: no llguidance.
    """
    if hasattr(schema, "model_json_schema"):
        schema = schema.model_json_schema()
    try:
        value = json.loads(schema) if isinstance(schema, str) else schema
        if not isinstance(value, Mapping):
            raise UsageError(f"schema is {value!r:.80}; expected a JSON schema, which is an object.")
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"the schema is not JSON: {error}; expected a JSON schema.") from error
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise UsageError(f"the schema has {len(text):,} characters; expected at most {MAX_SCHEMA_CHARACTERS:,}")
    _grammar_text(text)
    return text


def with_layout(schema: str) -> dict[str, Any]:
    """A schema that another user of llguidance follows in the same layout."""
    return {**json.loads(schema), "x-guidance": _LAYOUT}


class Grammar:
    """Which tokens may follow in one sequence."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def finished(self) -> bool:
        """Whether the JSON is complete and nothing can follow."""
        return bool(self._matcher.is_stopped())

    def mask(self, logits: Tensor) -> Tensor:
        """Logits [V] as float32, −∞ for tokens that the schema does not allow here.

        Raises:
            UsageError: the schema is too complex to follow.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise UsageError(f"the schema can't be followed: {_reason(self._matcher.get_error())}; simplify it.")
        allowed = np.unpackbits(bits, bitorder="little")[: len(logits)].astype(bool)
        return logits.float().masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)

    def accept(self, token: int) -> None:
        """Advance by a token that the mask allows."""
        if not self._matcher.consume_token(token):
            raise UsageError(f"the schema can't be followed: {_reason(self._matcher.get_error())}; simplify it.")


class Grammars:
    """Starts grammars for one tokenizer. Thread-safe.

    Reading the tokenizer takes seconds for a vocabulary of 150,000; it happens once, on first use.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, stop_ids: Sequence[int]) -> None:
        """`vocab_size`: number of logits."""
        self._tokenizer, self._size, self._stop_ids = tokenizer, max(vocab_size, len(tokenizer)), list(stop_ids)
        self._lock = threading.Lock()
        self._read: Any = None

    def read_tokenizer(self) -> None:
        """Read the tokenizer, unless that has been done."""
        with self._lock:
            if self._read is None:
                _library()
                from llguidance.hf import from_tokenizer

                self._read = from_tokenizer(self._tokenizer, n_vocab=self._size, eos_token=self._stop_ids or None)

    def start(self, schema: str) -> Grammar:
        """A new grammar, at the beginning of its text."""
        self.read_tokenizer()
        llguidance = _library()
        matcher = llguidance.LLMatcher(self._read, _grammar_text(schema), log_level=0)
        if matcher.is_error():
            raise UsageError(f"the schema can't be used: {_reason(matcher.get_error())}.")
        return Grammar(matcher)


@lru_cache(maxsize=64)
def _grammar_text(schema: str) -> str:
    """llguidance's form of a schema, once it is known to be valid."""
    llguidance = _library()
    grammar: str = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_LAYOUT)
    if problem := llguidance.LLMatcher.validate_grammar(grammar):
        raise UsageError(f"the schema can't be used: {_reason(problem)}.")
    return grammar


def _reason(problem: str) -> str:
    """The library's message on one line."""
    return " ".join(problem.split())[:300]


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise MissingExtra("structured output requires llguidance: pip install 'videollama2[structured]'") from None
    return llguidance
