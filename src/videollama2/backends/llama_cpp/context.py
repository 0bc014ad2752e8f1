"""The language model in llama.cpp: a file's weights, and the keys and values of sequences.

    Weights   a GGUF file, mapped into memory
    Cells     keys and values of up to 128 sequences, in one memory that grows as they do
    CellSlot      one sequence's share of it; what is freed with its last reference

Used by one thread at a time: callers hold the engine's lock.
"""

import contextlib
import ctypes
import logging
import signal
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_float, c_int8, c_int32
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...device import ram
from ...errors import NumericsError, OutOfMemory, WeightsError
from . import library
from .header import GgufFile

logger = logging.getLogger(__name__)

_SEQUENCES = 128
_POSITIONS = 2048  # of the first memory, and the unit in which it grows
_BATCH = 512  # positions computed in one pass
_NO_ROOM = 1  # a result of llama_decode


class Weights:
    """A file's weights."""

    def __init__(self, file: GgufFile) -> None:
        """Map them into memory.

        Raises:
            MissingExtra: llama.cpp is missing or can't be used. WeightsError: it rejects the file.
        """
        self.library, self.file = library.load(), file
        params = self.library.llama_model_default_params()
        params.n_gpu_layers = 0
        # repacked copies double the memory, and compute prompts more slowly (docs/log.md)
        params.use_extra_bufts = False
        self.library.complaints()
        self.pointer = self.library.llama_model_load_from_file(str(file.path).encode(), params)
        if not self.pointer:
            raise WeightsError(f"llama.cpp can't load {file.path}: {self.library.complaints() or 'unknown reason'}.")
        self.vocab_size = int(self.library.llama_vocab_n_tokens(self.library.llama_model_get_vocab(self.pointer)))
        weakref.finalize(self, self.library.llama_model_free, self.pointer)


class CellSlot:
    """One sequence.

    Attributes:
        length: its positions in memory.
    """

    def __init__(self, cells: "Cells", number: int) -> None:
        self.cells, self.number, self.length = cells, number, 0
        weakref.finalize(self, cells.unused.append, number)

    def get_seq_length(self) -> int:
        """As transformers' caches name it."""
        return self.length

    def cut(self, length: int) -> None:
        """Forget all but the first positions."""
        self.cells.remove(self.number, length)
        self.length = length

    def copy(self, length: int) -> "CellSlot":
        """Another sequence with the same first positions, which stay in memory once."""
        made = self.cells.slot()
        self.cells.share(self.number, made.number, length)
        made.length = length
        return made


class Cells:
    """Keys and values of all sequences.

    Attributes:
        unused: numbers of freed sequences, whose positions are still in memory.
    """

    def __init__(self, weights: Weights, threads: int) -> None:
        self._weights, self._library, self._threads = weights, weights.library, threads
        self._free = list(range(_SEQUENCES))[::-1]
        self._parked: dict[int, weakref.ref[CellSlot]] = {}  # slots that may be evicted, the least recently used first
        self.unused: deque[int] = deque()
        self._context: Any = None
        self._size = 0
        self._stop = threading.Event()
        self._abort = library.AbortCallback(lambda _: self._stop.is_set())
        self._finalizer: Any = None

    @property
    def size(self) -> int:
        """Positions in memory, used or not."""
        return self._size

    def slot(self) -> CellSlot:
        """A new, empty sequence; if all are in use, a parked one is evicted."""
        self._reclaim()
        while not self._free:
            if not self._evict():
                raise OutOfMemory(f"more than {_SEQUENCES} sequences are in use; close some, or ask fewer at once.")
            self._reclaim()
        return CellSlot(self, self._free.pop())

    def park(self, slot: CellSlot) -> None:
        """Keep a sequence that nobody computes, as long as there is room."""
        self._parked.pop(slot.number, None)
        self._parked[slot.number] = weakref.ref(slot)

    def unpark(self, slot: CellSlot) -> None:
        """A sequence is in use again."""
        self._parked.pop(slot.number, None)

    def remove(self, number: int, start: int) -> None:
        """Forget a sequence's positions from `start` on."""
        if self._context is not None:
            self._library.llama_memory_seq_rm(self._library.llama_get_memory(self._context), number, start, -1)

    def share(self, source: int, target: int, length: int) -> None:
        """Make the first positions of one sequence those of another, too."""
        if self._context is not None:
            memory = self._library.llama_get_memory(self._context)
            self._library.llama_memory_seq_cp(memory, source, target, 0, length)

    def prefill(self, prompts: Sequence[tuple[CellSlot, NDArray[np.float32]]]) -> Tensor:
        """Embeddings [L_i, D] that continue their sequences → logits float32 [B, V] after each; all of them or none."""
        lengths = [slot.length for slot, _ in prompts]
        try:
            return self._prefill(prompts)
        except BaseException:
            for (slot, _), length in zip(prompts, lengths, strict=True):
                slot.cut(length)
            raise

    def _prefill(self, prompts: Sequence[tuple[CellSlot, NDArray[np.float32]]]) -> Tensor:
        rows = [(slot, slot.length + i) for slot, embeds in prompts for i in range(len(embeds))]
        embeds = np.ascontiguousarray(np.concatenate([values for _, values in prompts]), np.float32)
        ends = set(np.cumsum([len(values) for _, values in prompts]) - 1)
        self._make_room(len(rows))
        logits = []
        step = min(_BATCH, self._size)  # llama.cpp's own limit of one pass
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            wanted = [first + i in ends for i in range(len(part))]
            logits += self._positions(part, wanted, embeds=embeds[first : first + len(part)])
        return torch.stack(logits)

    def step(self, newest: Sequence[tuple[CellSlot, int]]) -> Tensor:
        """The newest token of each sequence → logits float32 [B, V] of the next."""
        self._make_room(len(newest))
        rows = [(slot, slot.length) for slot, _ in newest]
        tokens = np.array([token for _, token in newest], np.int32)
        return torch.stack(self._positions(rows, [True] * len(rows), tokens=tokens))

    # ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _reclaim(self) -> None:
        """Free what belongs to slots that no longer exist."""
        while self.unused:
            number = self.unused.popleft()
            self._parked.pop(number, None)
            self.remove(number, 0)
            self._free.append(number)

    def _evict(self) -> bool:
        """Empty the parked sequence that was used longest ago; whether there was one."""
        while self._parked:
            number = next(iter(self._parked))
            slot = self._parked.pop(number)()
            if slot is not None and slot.length:
                slot.cut(0)
                return True
        return False

    def _make_room(self, more: int) -> None:
        self._reclaim()
        if self._context is None:
            self._grow(more)

    def _grow(self, more: int) -> bool:
        """Replace the memory by one with room for `more` positions besides the present ones; whether it fits."""
        size = -(-(self._size + more + 1) // _POSITIONS) * _POSITIONS
        if self._context is not None and 2 * size * self._position_bytes() > ram().available:
            return False
        made = self._new_context(size)
        if made is None:
            if self._context is None:
                raise OutOfMemory(
                    f"llama.cpp found no memory for {size} positions ({self._library.complaints()}); "
                    "use a smaller file type or a shorter prompt."
                )
            return False
        if self._context is not None:
            self._move(made)
        self._context, self._size = made, size
        self._finalizer = weakref.finalize(self, _free_context, self._library, made, self._weights)
        self._library.llama_set_abort_callback(made, self._abort, None)
        return True

    def _new_context(self, size: int) -> Any:
        params = self._library.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = size, _BATCH, _BATCH
        params.n_seq_max = params.n_outputs_max = _SEQUENCES
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = self._threads
        exact = self._weights.file.type_name == "F32"
        params.type_k = params.type_v = library.F32 if exact else library.F16
        params.flash_attn_type = 0 if exact else 1  # it rounds to 16 bits inside
        return self._library.llama_init_from_model(self._weights.pointer, params)

    def _move(self, target: Any) -> None:
        """Copy all sequences into another memory, and free this one."""
        found = self._library
        data = np.empty(found.llama_state_get_size(self._context), np.uint8)
        written = found.llama_state_get_data(self._context, data.ctypes.data, data.nbytes)
        found.llama_state_set_data(target, data.ctypes.data, written)
        self._finalizer()

    def _position_bytes(self) -> int:
        file = self._weights.file
        heads, width = file.setting("attention.head_count_kv"), file.setting("attention.key_length")
        return int(2 * file.setting("block_count") * heads * width * (4 if file.type_name == "F32" else 2))

    # ── computing ──────────────────────────────────────────────────────────────────────────────────────────────

    def _positions(
        self,
        rows: Sequence[tuple[CellSlot, int]],
        wanted: Sequence[bool],
        *,
        embeds: NDArray[np.float32] | None = None,
        tokens: NDArray[np.int32] | None = None,
    ) -> list[Tensor]:
        """Compute positions, each (slot, place), and return the logits that are wanted."""
        batch, _held = _batch(rows, wanted, embeds, tokens)
        try:
            self._compute(batch)
        except BaseException:  # some of the positions may be in memory
            for slot, _ in rows:
                slot.cut(slot.length)
            raise
        for slot, place in rows:
            slot.length = place + 1
        return [self._logits(i) for i, want in enumerate(wanted) if want]

    def _compute(self, batch: library.BatchStruct) -> None:
        """Run a batch, making room for it if necessary."""
        while result := self._run(batch):
            if result != _NO_ROOM:
                raise NumericsError(f"llama.cpp failed (code {result}): {self._library.complaints() or 'no reason'}.")
            if not self._grow(batch.n_tokens) and not self._evict():
                raise OutOfMemory(
                    f"no memory for {batch.n_tokens} more positions beside the {self._size} in use; "
                    "ask about fewer or shorter media, or close sessions."
                )

    def _run(self, batch: library.BatchStruct) -> int:
        with self._interruptible():
            return int(self._library.llama_decode(self._context, batch))

    def _logits(self, index: int) -> Tensor:
        found = self._library.llama_get_logits_ith(self._context, index)
        if not found:
            raise NumericsError(f"llama.cpp returned no logits: {self._library.complaints()}.")
        return torch.from_numpy(np.ctypeslib.as_array(found, (self._weights.vocab_size,)).copy())

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C end a computation between two operations of its graph instead of after it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.getsignal(signal.SIGINT)
        if not callable(previous):  # ignored, or not Python's
            yield
            return
        caught: list[tuple[int, Any]] = []

        def stop(number: int, frame: Any) -> None:
            caught.append((number, frame))
            self._stop.set()

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
            self._stop.clear()
        if caught:
            previous(*caught[0])  # raises KeyboardInterrupt, unless the caller has its own handler


def _batch(
    rows: Sequence[tuple[CellSlot, int]],
    wanted: Sequence[bool],
    embeds: NDArray[np.float32] | None,
    tokens: NDArray[np.int32] | None,
) -> tuple[library.BatchStruct, Any]:
    """A struct llama_batch, and what must live as long as it."""
    count = len(rows)
    places = np.array([place for _, place in rows], np.int32)
    numbers = np.array([slot.number for slot, _ in rows], np.int32)
    ones, flags = np.ones(count, np.int32), np.array(wanted, np.int8)
    start = numbers.ctypes.data
    each = (POINTER(c_int32) * count)(*[ctypes.cast(start + 4 * i, POINTER(c_int32)) for i in range(count)])
    made = library.BatchStruct(
        count,
        None if tokens is None else tokens.ctypes.data_as(POINTER(c_int32)),
        None if embeds is None else embeds.ctypes.data_as(POINTER(c_float)),
        places.ctypes.data_as(POINTER(c_int32)),
        ones.ctypes.data_as(POINTER(c_int32)),
        each,
        flags.ctypes.data_as(POINTER(c_int8)),
    )
    return made, (places, numbers, ones, flags, each, embeds, tokens)


def _free_context(found: Any, context: Any, _weights: Weights) -> None:
    """Free a context; its weights live at least as long."""
    found.llama_free(context)
