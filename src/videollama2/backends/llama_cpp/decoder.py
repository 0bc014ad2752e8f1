"""Generation by llama.cpp: the same batches, sessions and beginnings as with torch, on slots of one memory."""

import contextlib
import time
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...generation.batch import push
from ...generation.decoder import DecodingBatch, Prefix
from ...generation.prefill import beginning_key, same_beginnings
from ...generation.sequence import ActiveSequence
from .context import Cells, CellSlot, Weights

_BEGINNINGS = 32  # of earlier prompts, that a server keeps


class LlamaCppDecoder:
    """Runs the language model of a GGUF file. See `generation.decoder.Decoder`.

    Attributes:
        cells: keys and values of all sequences.
    """

    engine = "llama.cpp"
    max_batch: int | None = 64  # half of the sequences in memory: sessions and shared beginnings have the others

    def __init__(self, weights: Weights, *, threads: int, max_positions: int) -> None:
        self.cells = Cells(weights, threads)
        self.weights, self._type = weights.file.path.name, weights.file.type_name
        self._max_positions = max_positions
        self._beginnings: dict[Hashable, CellSlot] = {}

    @property
    def arithmetic(self) -> str:
        """The file's type."""
        return self._type

    @property
    def max_positions(self) -> int:
        """The longest prompt and answer."""
        return self._max_positions

    def batch(self, lock: AbstractContextManager[Any], beginnings: Any) -> DecodingBatch:
        """An empty batch."""
        return LlamaCppBatch(self.cells, lock, None if beginnings is None else self._beginnings)

    def prefix_cache(self) -> Prefix:
        """For one session."""
        return SlotPrefix(self.cells)


class SlotPrefix:
    """The slot of a session's last prompt and answer. It is emptied if its memory is needed.

    Attributes:
        ids: of the positions in the slot.
    """

    def __init__(self, cells: Cells) -> None:
        self.ids: list[int] = []
        self._cells = cells
        self._slot: CellSlot | None = None

    def take(self, ids: Sequence[int]) -> CellSlot:
        """The slot, cut to the prefix it shares with `ids`."""
        slot, self._slot = self._slot, None
        if slot is None:
            return self._cells.slot()
        self._cells.unpark(slot)
        shared = 0
        for ours, theirs in zip(self.ids[: slot.length], ids[:-1], strict=False):
            if ours != theirs:
                break
            shared += 1
        slot.cut(shared)
        return slot

    def give_back(self, cache: CellSlot, ids: Sequence[int]) -> None:
        """Keep the slot, which has the beginning of `ids`."""
        self._slot, self.ids = cache, list(ids[: cache.length])
        self._cells.park(cache)


class LlamaCppBatch:
    """Sequences decoded together. See `generation.batch.Batch`."""

    can_join = True

    def __init__(
        self, cells: Cells, lock: AbstractContextManager[Any] | None, beginnings: dict[Hashable, CellSlot] | None = None
    ) -> None:
        self._cells, self._beginnings = cells, beginnings
        self._lock = contextlib.nullcontext() if lock is None else lock
        self._slots: dict[ActiveSequence, CellSlot] = {}

    @property
    def sequences(self) -> list[ActiveSequence]:
        """The sequences that are still being generated."""
        return [sequence for sequence in self._slots if not sequence.done]

    @torch.inference_mode()
    def join(self, *new: ActiveSequence, cache: Any = None) -> list[str]:
        """Compute prompts and first tokens; returns each sequence's text that is now final.

        Args:
            cache: the slot of what comes before the `embeds` of `new`, which is then one sequence.
        """
        with self._lock:
            started = time.perf_counter()
            slots = self._begin(new) if cache is None else [cache]
            rows = [_rows(s, 0 if cache is not None else slot.length) for s, slot in zip(new, slots, strict=True)]
            logits = self._cells.prefill(list(zip(slots, rows, strict=True)))
            pieces = push(new, logits)
            if cache is None and self._beginnings is not None:
                self._keep(new, slots)
            seconds = time.perf_counter() - started
            for sequence, slot in zip(new, slots, strict=True):
                sequence.embeds = None
                sequence.seconds.append(sequence.account.seconds + seconds)
                self._slots[sequence] = slot
            self._leave()
        return pieces

    @torch.inference_mode()
    def step(self) -> list[tuple[ActiveSequence, str]]:
        """One more token for every sequence, with the text that is now final; finished ones leave."""
        with self._lock:
            started = time.perf_counter()
            self._leave()
            active = list(self._slots)
            if not active:
                return []
            logits = self._cells.step([(self._slots[s], s.ids[-1]) for s in active])
            pieces = push(active, logits)
            seconds = time.perf_counter() - started
            for sequence in active:
                sequence.seconds.append(seconds)
            self._leave()
        return list(zip(active, pieces, strict=True))

    def close(self) -> None:
        """End all sequences; a slot that was passed to `join` is left complete."""
        self.clear()

    def clear(self) -> None:
        """Drop all sequences."""
        self._slots = {}

    def _leave(self) -> None:
        self._slots = {sequence: slot for sequence, slot in self._slots.items() if not sequence.done}

    def _begin(self, new: Sequence[ActiveSequence]) -> list[CellSlot]:
        """A slot for each, with the beginning that it shares with others or with an earlier prompt."""
        slots: dict[ActiveSequence, CellSlot] = {}
        unknown = []
        for sequence in new:
            key, length = beginning_key(sequence)
            known = None if self._beginnings is None or key is None else self._beginnings.get(key)
            if known is not None and known.length == length:
                self._cells.park(known)  # used now, so evicted last
                slots[sequence] = known.copy(length)
            else:
                unknown.append(sequence)
        for length, members in same_beginnings(unknown):
            if len(members) == 1:
                slots[members[0]] = self._cells.slot()
                continue
            first = self._cells.slot()
            self._cells.prefill([(first, _rows(members[0], 0)[:length])])
            slots |= {sequence: first.copy(length) for sequence in members}
        return [slots[sequence] for sequence in new]

    def _keep(self, new: Sequence[ActiveSequence], slots: Sequence[CellSlot]) -> None:
        """Keep the beginnings of prompts for later ones."""
        assert self._beginnings is not None
        for sequence, slot in zip(new, slots, strict=True):
            key, length = beginning_key(sequence)
            if key is None:
                continue
            kept = self._beginnings.pop(key, None)
            if kept is None or kept.length != length:
                kept = slot.copy(length)
                self._cells.park(kept)
            self._beginnings[key] = kept  # the most recent last
            if len(self._beginnings) > _BEGINNINGS:
                self._beginnings.pop(next(iter(self._beginnings)))


def _rows(sequence: ActiveSequence, skipped: int) -> NDArray[np.float32]:
    assert sequence.embeds is not None
    rows: NDArray[np.float32] = sequence.embeds[0, skipped:].float().cpu().numpy()
    return rows
