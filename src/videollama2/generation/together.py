"""Many answers at once, each from its own request: rows join and leave between two steps (continuous batching).

    Row ── join (its prompt is computed alone) ──► Together ── step (one token for every row) ──► rows that are done

A row is what `Engine.stream` alone would say: it has its own options, its own generator and its own limit. One cache
holds the keys and values of all; a row that joins is padded on the left, a row that leaves is cut out.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..processing import Encoded
from ..receipt import Answer
from .output import CONTEXT_ENDS, Said
from .sampling import GenerateOptions, Steps, choose, processors_of
from .session import Opened, timings_of

if TYPE_CHECKING:
    from ..engine import Engine


class Row:
    """One answer on its way.

    Attributes:
        said: its text so far; `said.finish` says whether it has ended.
        error: why it could not go on.
    """

    def __init__(self, engine: "Engine", opened: Opened, encoded: Encoded, options: GenerateOptions) -> None:
        """Nothing is computed yet.

        Raises:
            ContextOverflow: the prompt is too long.
        """
        self.opened, self.encoded = opened, encoded
        self.options = engine.room(encoded, options)
        self.said = Said(engine.processor, self.options, engine.stop_ids)
        self.error: Exception | None = None
        self._cut = self.options.max_new_tokens < options.max_new_tokens
        self._engine = engine
        self._processors = processors_of(self.options)
        self._generator: torch.Generator | None = None
        if options.seed is not None:
            self._generator = torch.Generator(engine.model.device).manual_seed(options.seed)
        self._new = torch.empty(1, 0, dtype=torch.long, device=engine.model.device)
        self._seconds: list[float] = []  # of each step that it was part of

    @property
    def done(self) -> bool:
        """Whether it needs no more steps."""
        return self.said.finish is not None or self.error is not None

    @property
    def last(self) -> Tensor:
        """Its newest token: int64 [1]."""
        return self._new[:, -1]

    def take(self, logits: Tensor) -> str:
        """Choose the next token by logits [V]; returns the text that is certain now. An error ends this row alone."""
        try:
            token = choose(logits[None], self._new, self._processors, self.options, [self._generator])
        except Exception as error:  # of its numbers; the rows beside it have their own
            self.error = error
            return ""
        self._new = torch.cat([self._new, token[:, None]], 1)
        self.said.see(logits, int(token))
        return self.said.push(int(token))

    def spent(self, seconds: float) -> None:
        """A step took so long; everyone in it waited for it."""
        self._seconds.append(seconds)

    def answer(self, notes: Sequence[str] = (), reused: Sequence[str] = ()) -> Answer:
        """The whole answer, once it has ended; `reused`: media that an earlier request had encoded."""
        if self._cut and self.said.finish == "length":
            notes = (*notes, CONTEXT_ENDS)
        receipt = self._engine.receipt(self.opened, self.encoded, self.said.generated, tuple(notes))
        first, others = sum(self._seconds[:1]), sum(self._seconds[1:])
        timings = timings_of(self.opened.take_timings(), first, others, self.said.generated)
        return self.said.answer(replace(receipt, reused=tuple(reused)), timings)


class Together:
    """The rows that are being answered. For one thread; the model is locked while a step is computed."""

    def __init__(self, engine: "Engine") -> None:
        self.rows: list[Row] = []
        self._engine = engine
        self._cache: DynamicCache | None = None
        self._steps: Steps | None = None

    @property
    def full(self) -> bool:
        """Whether no other row can join: a sliding window forgets, and padding would shift what it holds."""
        return bool(self.rows) and (self._cache is None or any(layer.is_sliding for layer in self._cache.layers))

    @torch.inference_mode()
    def join(self, row: Row) -> str:
        """Compute a row's prompt and its first token; returns the text that is certain now.

        Raises:
            NumericsError, torch.OutOfMemoryError, …: the row has not joined, and the others are as they were.
        """
        engine = self._engine
        with engine.lock:
            started = time.perf_counter()
            embeds = engine.embed(row.encoded, row.opened.features)
            mask = torch.ones(1, embeds.shape[1], dtype=torch.long, device=embeds.device)
            cache = DynamicCache(config=engine.model.config.text_config)
            steps = Steps(engine.model, cache, mask, row.options.max_new_tokens)
            piece = row.take(steps.prompt(embeds)[0])
            row.spent(time.perf_counter() - started)
            if row.error is not None:
                raise row.error
            if not row.done:
                self._add(row, cache, mask, steps)
        return piece

    @torch.inference_mode()
    def step(self) -> list[tuple[Row, str]]:
        """One more token for every row, and the text that became certain; rows that are done leave."""
        engine = self._engine
        with engine.lock:
            started = time.perf_counter()
            if self._steps is None or not self.rows:
                return []
            logits = self._steps.token(torch.cat([row.last for row in self.rows]))
            pieces = [(row, row.take(one)) for row, one in zip(self.rows, logits, strict=True)]
            seconds = time.perf_counter() - started
            for row in self.rows:
                row.spent(seconds)
            self.leave()
        return pieces

    @torch.inference_mode()
    def leave(self) -> None:
        """Let the rows go that are done."""
        stay = [i for i, row in enumerate(self.rows) if not row.done]
        if len(stay) == len(self.rows) or self._steps is None or self._cache is None:
            return
        with self._engine.lock:
            self._steps.close()
            self.rows = [self.rows[i] for i in stay]
            if not stay:
                self.clear()
                return
            mask = self._steps.mask[stay]
            unused = int((mask.cumsum(1) == 0).all(0).sum())  # padding that only those who left had needed
            held = mask.shape[1]  # the last token of each row is computed with the next step
            for layer in self._cache.layers:
                layer.keys = layer.keys[stay, :, unused:held].contiguous()
                layer.values = layer.values[stay, :, unused:held].contiguous()
            self._begin(self._cache, mask[:, unused:])

    def clear(self) -> None:
        """Forget all rows and what they hold, as after an error of the model."""
        self.rows, self._cache, self._steps = [], None, None

    def _add(self, row: Row, cache: DynamicCache, mask: Tensor, steps: Steps) -> None:
        if self._steps is None or self._cache is None:
            self.rows, self._cache, self._steps = [row], cache, steps
            return
        self._steps.close()
        ours, width = self._steps.mask, max(self._steps.mask.shape[1], mask.shape[1])
        merged = [
            (_stacked(a.keys, b.keys, width), _stacked(a.values, b.values, width))
            for a, b in zip(self._cache.layers, cache.layers, strict=True)
        ]
        for layer, (keys, values) in zip(self._cache.layers, merged, strict=True):
            layer.keys, layer.values = keys, values
        self.rows = [*self.rows, row]
        both = [nn.functional.pad(m, (width - m.shape[1], 0)) for m in (ours, mask)]
        self._begin(self._cache, torch.cat(both))

    def _begin(self, cache: DynamicCache, mask: Tensor) -> None:
        left = max(row.options.max_new_tokens - row.said.generated for row in self.rows)
        self._steps = Steps(self._engine.model, cache, mask, left)


def _stacked(many: Tensor, one: Tensor, width: int) -> Tensor:
    """Keys or values [B, heads, L, d] and [1, heads, l, d] as [B + 1, heads, width, d], zeros first."""
    return torch.cat([nn.functional.pad(t, (0, 0, width - t.shape[2], 0)) for t in (many, one)])
