"""A continuous batch: sequences join and leave between steps, and each is decoded as if alone.

    join: prompts [1, L_i, D] ── prefill ──► first tokens
    step: the newest token of every sequence ── one forward pass ──► one more token each

This is the only decoder: `Engine.answer`, `stream`, `batch` and the server differ only in when sequences join. One
cache holds the keys and values of all sequences. A finished sequence keeps its slot, unused, until half of the slots
are free or another joins: a few idle rows cost less than copying the cache and recording the CUDA graph again.
"""

import contextlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from .prefill import BeginningsCache, prefill, slides, stacked
from .prompt import PromptAccount, PromptEmbeddings
from .sampling import GenerateOptions
from .sequence import ActiveSequence, newest_tokens
from .steps import DecodeSteps


class Batch:
    """Sequences decoded together. Use from one thread; `lock` is held while a step is computed, never in between."""

    def __init__(
        self,
        model: Any,
        lock: AbstractContextManager[Any] | None = None,
        beginnings: BeginningsCache | None = None,
    ) -> None:
        self._model, self._beginnings = model, beginnings
        self._lock = contextlib.nullcontext() if lock is None else lock
        self._slots: list[ActiveSequence] = []  # of each row of the cache; some are done
        self._cache: DynamicCache | None = None
        self._steps: DecodeSteps | None = None

    @property
    def sequences(self) -> list[ActiveSequence]:
        """The sequences that are still being generated."""
        return [s for s in self._slots if not s.done]

    @property
    def can_join(self) -> bool:
        """Whether sequences can join: not while a sliding-window cache is in use, as padding would corrupt it."""
        return not (self._slots and _slides(self._cache))

    @torch.inference_mode()
    def join(self, *new: ActiveSequence, cache: DynamicCache | None = None) -> list[str]:
        """Compute prompts and first tokens (prefill.py); returns each sequence's text that is now final.

        Args:
            cache: for each of `new`, what comes before its `embeds` (of equal length); it grows with the batch.

        Raises:
            torch.OutOfMemoryError, …: no sequence has joined, and the running ones are unchanged.
        """
        with self._lock:
            started = time.perf_counter()
            groups = prefill(self._model, new, cache, self._beginnings)
            pieces: dict[ActiveSequence, str] = {}
            for group in groups:
                pieces.update(zip(group.sequences, push(group.sequences, group.logits), strict=True))
            seconds = time.perf_counter() - started
            for sequence in new:
                sequence.embeds = None
                sequence.seconds.append(sequence.account.seconds + seconds)
            for group in groups:
                if any(not s.done for s in group.sequences):
                    self._merge(group.sequences, group.cache, group.steps)
        return [pieces[sequence] for sequence in new]

    @torch.inference_mode()
    def step(self) -> list[tuple[ActiveSequence, str]]:
        """One more token for every sequence, with the text that is now final; finished ones leave."""
        with self._lock:
            started = time.perf_counter()
            self._free_slots()
            if self._steps is None:
                return []
            logits = self._steps.decode(newest_tokens(self._slots, self._steps.mask.device))
            active = [(i, s) for i, s in enumerate(self._slots) if not s.done]
            sequences = [s for _, s in active]
            kept = logits if len(active) == len(self._slots) else logits[[i for i, _ in active]]
            pieces = push(sequences, kept)
            seconds = time.perf_counter() - started
            for sequence in sequences:
                sequence.seconds.append(seconds)
            self._free_slots()
        return list(zip(sequences, pieces, strict=True))

    def close(self) -> None:
        """End all sequences; a cache that was passed to `join` is left complete."""
        with self._lock:
            if self._steps is not None:
                self._steps.close()
            self.clear()

    def clear(self) -> None:
        """Drop all sequences and the cache, e.g. after the model failed."""
        self._slots, self._cache, self._steps = [], None, None

    def _free_slots(self) -> None:
        """Free the slots of finished sequences, when worthwhile."""
        active = len(self.sequences)
        if not active:
            self.close()
        elif 2 * active <= len(self._slots):
            self._compact()

    def _compact(self) -> None:
        stay = [i for i, s in enumerate(self._slots) if not s.done]
        if len(stay) == len(self._slots) or self._steps is None or self._cache is None:
            return
        self._steps.close()
        self._slots = [self._slots[i] for i in stay]
        mask, length = self._steps.mask[stay], self._steps.mask.shape[1]
        # padding that only those who left needed
        unused = 0 if _slides(self._cache) else int((mask.cumsum(1) == 0).all(0).sum())
        for layer in self._cache.layers:
            window = slice(unused, length) if unused else slice(None)
            layer.keys = layer.keys[stay, :, window].contiguous()
            layer.values = layer.values[stay, :, window].contiguous()
        self._begin(self._cache, mask[:, unused:])

    def _merge(self, new: list[ActiveSequence], cache: DynamicCache, steps: DecodeSteps) -> None:
        self._compact()
        if self._steps is None or self._cache is None:
            self._slots, self._cache, self._steps = new, cache, steps
            return
        self._steps.close()
        ours, theirs = self._steps.mask, steps.mask
        width = max(ours.shape[1], theirs.shape[1])
        merged = [
            (stacked([a.keys, b.keys], width), stacked([a.values, b.values], width))
            for a, b in zip(self._cache.layers, cache.layers, strict=True)
        ]
        for layer, (keys, values) in zip(self._cache.layers, merged, strict=True):
            layer.keys, layer.values = keys, values
        self._slots = [*self._slots, *new]
        self._begin(self._cache, torch.cat([nn.functional.pad(m, (width - m.shape[1], 0)) for m in (ours, theirs)]))

    def _begin(self, cache: DynamicCache, mask: Tensor) -> None:
        self._steps = DecodeSteps(self._model, cache, mask, max(s.tokens_left for s in self._slots))


def generate(
    model: Any,
    prompts: Sequence[Tensor],
    options: GenerateOptions,
    stop_ids: Sequence[int],
    cache: DynamicCache | None = None,
) -> list[list[int]]:
    """The ids that each prompt [L_i, D] generates, decoded in one batch.

    Args:
        options: with the checkpoint's defaults filled in.
        stop_ids: ids that end a sequence; its last id is one of them, or it has reached `max_new_tokens`.
        cache: as for `Batch.join`.

    Raises:
        NumericsError: a logit is NaN or infinite.
    """
    sequences = [
        ActiveSequence(PromptEmbeddings(p[None], PromptAccount()), options, lambda ids: "", stop_ids) for p in prompts
    ]
    batch = Batch(model)
    batch.join(*sequences, cache=cache)
    while batch.sequences:
        batch.step()
    for sequence in sequences:
        if sequence.error is not None:
            raise sequence.error
    return [sequence.ids for sequence in sequences]


def push(sequences: Sequence[ActiveSequence], logits: Tensor) -> list[str]:
    """Give each sequence its row of logits [B, V]; returns the text that is now final."""
    best, finite = logits.argmax(-1).tolist(), torch.isfinite(logits).all(-1).tolist()
    return [s.push(row, b, f) for s, row, b, f in zip(sequences, logits, best, finite, strict=True)]


def _slides(cache: DynamicCache | None) -> bool:
    return cache is None or slides(cache)
