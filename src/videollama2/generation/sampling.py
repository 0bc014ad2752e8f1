"""Embeddings in, tokens out: the decoding loop (spec §5.2).

    prefill: embeddings [B, L, D] ──► cache, first logits
    then one position at a time, until a stop id, the limit, or the caller stops asking

Prompts of different lengths are padded on the left. Penalties count new tokens only, because in the public
implementation the prompt enters as embeddings. Choosing a token is transformers' own logits processors.
"""

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..errors import NumericsError, UsageError
from .cuda_graph import EAGER_STEPS, FixedStep, record


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: upper limit of the answer.
        temperature: 0 takes the most probable token; above, tokens are drawn.
        top_p, top_k: restrict drawing; None: the checkpoint's generation_config.
        repetition_penalty: None: the checkpoint's generation_config (it acts under temperature 0, too).
        seed: makes drawing repeatable; None: torch's global generator.
        stop: texts that end the answer, which does not hold them.
        top_logprobs: report the log probability of each token, and of so many of the likeliest; None: don't.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float | None = 0.9
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, int, 1, math.inf, "a whole number, at least 1")
        if self.temperature != 0:
            # below, float32 can't tell the scores apart, and greedy search says the same
            _check("temperature", self.temperature, float, 1e-3, 1e3, "0 (no sampling), or 0.001 to 1000")
        for name, kind, least, most, expected in _OPTIONAL:
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), kind, least, most, expected)
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise UsageError(f"stop is {self.stop!r:.80}; expected a tuple of texts, none of them empty")

    def with_defaults(self, config: GenerationConfig | None) -> "GenerateOptions":
        """What the caller left open, filled from the checkpoint."""
        return replace(
            self,
            top_k=_first(self.top_k, getattr(config, "top_k", None), 0),
            repetition_penalty=_first(self.repetition_penalty, getattr(config, "repetition_penalty", None), 1.0),
        )


_OPTIONAL: tuple[tuple[str, type, float, float, str], ...] = (
    ("top_p", float, 1e-6, 1, "a number above 0, at most 1"),
    ("top_k", int, 0, math.inf, "0 (off) or more"),
    ("repetition_penalty", float, 1e-3, 1e3, "0.001 to 1000; 1 is none"),
    ("seed", int, 0, 2**63 - 1, "a whole number from 0 to 2^63 - 1"),
    ("top_logprobs", int, 0, 20, "a whole number from 0 to 20"),
)


def _check(name: str, value: Any, kind: type, least: float, most: float, expected: str) -> None:
    """A number of that kind within its limits; a NaN is within none."""
    right = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not (right and least <= value <= most):
        raise UsageError(f"{name} is {value!r}; expected {expected}")


def _first(*values: Any) -> Any:
    return next(v for v in values if v is not None)


def processors_of(options: GenerateOptions) -> LogitsProcessorList:
    """What changes the scores before a token is chosen."""
    chosen = LogitsProcessorList()
    if options.repetition_penalty not in (None, 1.0):
        chosen.append(RepetitionPenaltyLogitsProcessor(float(options.repetition_penalty)))
    if options.temperature > 0:
        chosen.append(TemperatureLogitsWarper(float(options.temperature)))
        if options.top_k:
            chosen.append(TopKLogitsWarper(options.top_k))
        if options.top_p is not None and options.top_p < 1:
            chosen.append(TopPLogitsWarper(float(options.top_p)))
    return chosen


@torch.inference_mode()
def decode(
    model: Any,
    embeds: Tensor,
    mask: Tensor,
    options: GenerateOptions,
    stop_ids: Sequence[int],
    cache: DynamicCache | None = None,
    watch: Callable[[Tensor, Tensor], None] | None = None,
) -> Generator[Tensor]:
    """New tokens of a batch, position by position.

    Args:
        model: VideoLlama2ForConditionalGeneration.
        embeds: [B, L, D], the part of the prompt that `cache` does not hold.
        mask: int64 [B, L_cached + L], 1 where a position is real; padding on the left.
        options: with the checkpoint's defaults filled in.
        stop_ids: ids that end a row.
        cache: keys and values of the positions before `embeds`; it grows.
        watch: told the logits [B, V] and the tokens [B] of each step before they are yielded.

    Yields:
        int64 [B] per step. A row that has ended repeats its stop id.

    Raises:
        NumericsError: a logit is NaN or infinite.
    """
    cache = DynamicCache(config=model.config.text_config) if cache is None else cache
    processors = processors_of(options)
    # one per row, so that a row draws what it would draw alone
    generators: list[torch.Generator | None] = [None] * len(embeds)
    if options.seed is not None:
        generators = [torch.Generator(embeds.device).manual_seed(options.seed) for _ in embeds]
    stops = torch.tensor(list(stop_ids), device=embeds.device, dtype=torch.long)
    new = torch.empty(len(embeds), 0, dtype=torch.long, device=embeds.device)
    ended = torch.zeros(len(embeds), dtype=torch.bool, device=embeds.device)
    with contextlib.closing(Steps(model, cache, mask, options.max_new_tokens)) as steps:
        for step in range(options.max_new_tokens):
            logits = steps.token(new[:, -1]) if step else steps.prompt(embeds)
            token = choose(logits, new, processors, options, generators)
            token = torch.where(ended, new[:, -1] if step else token, token)
            if watch is not None:
                watch(logits, token)
            new = torch.cat([new, token[:, None]], 1)
            ended = ended | torch.isin(token, stops)
            yield token
            if bool(ended.all()):
                return


class Steps:
    """The prompt, then one token after the other, through the model; each call gives the next logits, [B, V].

    Attributes:
        mask: int64 [B, positions so far], 1 where a position is real.
    """

    def __init__(self, model: Any, cache: DynamicCache, mask: Tensor, limit: int) -> None:
        """`cache` holds the first positions of `mask`, or all of them; `limit` tokens may follow."""
        self._model, self._cache, self.mask, self._left = model, cache, mask, limit
        # a mask of ones only makes the language model build and add one; without it attention is plainly causal
        self._plain = bool(mask.all())
        self._next = mask.sum(1, keepdim=True)  # position of the next token
        self._eager = 0
        self._fixed: FixedStep | None = None

    def prompt(self, embeds: Tensor) -> Tensor:
        """[B, L, D], the last L positions of the mask."""
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
        return self._forward(embeds, positions)

    def token(self, ids: Tensor) -> Tensor:
        """int64 [B]."""
        if self._fixed is not None and self._fixed.room == 0:
            self.close()
        if self._fixed is None and self._eager == EAGER_STEPS:
            self._eager = 0
            self._fixed = record(self._model, self._cache, self.mask, self._next, self._left)
        self._left -= 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], 1)
        if self._fixed is not None:
            logits = self._fixed(ids)
        else:
            self._eager += 1
            logits = self._forward(self._model.get_input_embeddings()(ids[:, None]), self._next)
        self._next = self._next + 1
        return logits

    def close(self) -> None:
        """Leave in the cache what has been processed."""
        if self._fixed is not None:
            self._fixed.close()
            self._fixed = None

    def _forward(self, embeds: Tensor, positions: Tensor) -> Tensor:
        out = self._model(
            inputs_embeds=embeds,
            attention_mask=None if self._plain else self.mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits


def choose(
    logits: Tensor,
    new: Tensor,
    processors: LogitsProcessorList,
    options: GenerateOptions,
    generators: Sequence[torch.Generator | None],
) -> Tensor:
    """The next token of each row: int64 [B].

    Args:
        logits: [B, V].
        new: int64 [B, n], what the rows said before.
        generators: one per row; None: torch's global one.

    Raises:
        NumericsError: a logit is NaN or infinite.
    """
    logits = logits.float()
    if not bool(torch.isfinite(logits).all()):
        raise NumericsError(
            "the model's logits are not finite, so its next token would be garbage; the checkpoint may be damaged, or "
            "its numbers too large for float16 (load with dtype='bfloat16' or 'float32')"
        )
    scores = processors(new, logits)
    if options.temperature == 0:
        return scores.argmax(-1)
    rows = zip(scores.softmax(-1), generators, strict=True)
    return torch.cat([torch.multinomial(row, 1, generator=generator) for row, generator in rows])
