"""The interface between generation and what computes the language model: this process's torch, or another engine.

    Runner, Session, the server ── Decoder ─┬─ TorchDecoder: transformers' model (batch.py)
                                            └─ backends/llama_cpp: a GGUF file

A decoder turns prompt embeddings into logits and keeps the keys and values; the rest of generation (sampling, stopping,
detokenising, receipts) is the same for all.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .batch import Batch
from .fp16_linear import arithmetic
from .prefill import BeginningsCache
from .prefix import PrefixCache
from .sequence import ActiveSequence


class SequenceCache(Protocol):
    """Keys and values of one sequence."""

    def get_seq_length(self) -> int:
        """Positions in it."""


class Prefix(Protocol):
    """What a session keeps of its last prompt and answer; see `PrefixCache`.

    Attributes:
        ids: of the positions in the cache.
    """

    ids: list[int]

    def take(self, ids: Sequence[int]) -> Any:
        """The cache, cut to the prefix it shares with `ids`; it belongs to the caller until `give_back`."""

    def give_back(self, cache: Any, ids: Sequence[int]) -> None:
        """Store the cache, which has the beginning of `ids`, for the next prompt."""


class DecodingBatch(Protocol):
    """Sequences decoded together; see `Batch`, which has the meaning of each method."""

    @property
    def sequences(self) -> list[ActiveSequence]:
        """Those that are still being generated."""

    @property
    def can_join(self) -> bool:
        """Whether sequences can join now."""

    def join(self, *new: ActiveSequence, cache: Any = None) -> list[str]:
        """Compute prompts and first tokens; returns each sequence's text that is now final."""

    def step(self) -> list[tuple[ActiveSequence, str]]:
        """One more token for every sequence, with the text that is now final."""

    def close(self) -> None:
        """End all sequences; a cache that was passed to `join` is left complete."""

    def clear(self) -> None:
        """Drop all sequences, e.g. after the model failed."""


class Decoder(Protocol):
    """What computes the language model.

    Attributes:
        engine: its name in receipts and flags.
        arithmetic: what computes the products of the language model, for receipts.
        weights: the file that its weights come from, if they are not the checkpoint's own.
        max_positions: the longest prompt and answer.
        max_batch: the most sequences to decode together; None: any number.
    """

    engine: str
    weights: str
    max_batch: int | None

    @property
    def arithmetic(self) -> str: ...

    @property
    def max_positions(self) -> int: ...

    def batch(self, lock: AbstractContextManager[Any], beginnings: BeginningsCache | None) -> DecodingBatch:
        """An empty batch; `beginnings`: of prompts, for sequences that join."""

    def prefix_cache(self) -> Prefix:
        """For one session."""


class TorchDecoder:
    """Runs the language model of a transformers model."""

    engine, weights = "torch", ""
    max_batch: int | None = None

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def arithmetic(self) -> str:
        """As in receipts."""
        return arithmetic(self._model)

    @property
    def max_positions(self) -> int:
        """As its configuration has it."""
        return int(self._model.config.max_positions)

    def batch(self, lock: AbstractContextManager[Any], beginnings: BeginningsCache | None) -> DecodingBatch:
        """See `Batch`."""
        return Batch(self._model, lock, beginnings)

    def prefix_cache(self) -> Prefix:
        """See `PrefixCache`."""
        return PrefixCache(self._model)
