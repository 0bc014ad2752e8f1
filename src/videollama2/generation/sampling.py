"""Chooses the next token: options, transformers' own logits processors, and sampling (spec §5.2).

Penalties count only generated tokens, because in the public implementation the prompt enters as embeddings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..errors import UsageError
from .structured import Grammar, schema_text

LIKELIEST = 1024  # tokens that are sorted for top-p before the whole vocabulary is
ROUNDING = 1e-5  # of a sum of probabilities in float32, at most


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: maximum length of the answer.
        temperature: 0 picks the most probable token; above 0, tokens are sampled.
        top_p, top_k: restrict sampling; None: the checkpoint's generation_config.
        repetition_penalty: None: the checkpoint's generation_config (it also acts at temperature 0).
        seed: makes sampling reproducible; None: torch's global generator.
        stop: texts that end the answer; the answer ends before them.
        schema: JSON schema that the answer must follow: a mapping, its JSON text, or a pydantic model class. It is
            stored as JSON text.
        top_logprobs: report the log probability of each token and of this many of the most likely ones; None: don't.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float | None = 0.9
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    schema: Any = None

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, int, 1, math.inf, "an integer of 1 or more")
        if self.temperature != 0:
            # below 0.001, float32 can't separate the scores, and greedy search gives the same result
            _check("temperature", self.temperature, float, 1e-3, 1e3, "0 (no sampling), or 0.001 to 1000")
        for name, kind, minimum, maximum, expected in _OPTIONAL:
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), kind, minimum, maximum, expected)
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise UsageError(f"stop is {self.stop!r:.80}; expected a tuple of non-empty strings.")
        if self.schema is not None:
            object.__setattr__(self, "schema", schema_text(self.schema))

    def with_defaults(self, config: GenerationConfig | None) -> "GenerateOptions":
        """These options, with unset ones taken from the checkpoint."""
        return replace(
            self,
            top_k=_first(self.top_k, getattr(config, "top_k", None), 0),
            repetition_penalty=_first(self.repetition_penalty, getattr(config, "repetition_penalty", None), 1.0),
        )


_OPTIONAL: tuple[tuple[str, type, float, float, str], ...] = (
    ("top_p", float, 1e-6, 1, "a number above 0, at most 1"),
    ("top_k", int, 0, math.inf, "0 (off) or more"),
    ("repetition_penalty", float, 1e-3, 1e3, "0.001 to 1000 (1: off)"),
    ("seed", int, 0, 2**63 - 1, "an integer from 0 to 2^63 - 1"),
    ("top_logprobs", int, 0, 20, "an integer from 0 to 20"),
)


def _check(name: str, value: Any, kind: type, minimum: float, maximum: float, expected: str) -> None:
    """UsageError unless `value` is of that kind and within limits (NaN never is)."""
    right = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not (right and minimum <= value <= maximum):
        raise UsageError(f"{name} is {value!r}; expected {expected}.")


def _first(*values: Any) -> Any:
    return next(v for v in values if v is not None)


class Sampler:
    """Chooses the tokens of one sequence.

    Attributes:
        greedy: the most probable token is taken, and nothing changes the scores.
        grammar: which tokens may follow; None: any.
    """

    def __init__(self, options: GenerateOptions, device: torch.device, grammar: Grammar | None = None) -> None:
        """`options` with the checkpoint's defaults filled in; `grammar`: of its schema."""
        self.grammar = grammar
        self._drawn = options.temperature > 0
        self._processors = _logits_processors(options)
        self.greedy = not self._drawn and not self._processors and grammar is None
        # one generator per sequence, so that it draws the same in any batch as alone
        self._generator: torch.Generator | None = None
        if options.seed is not None:
            self._generator = torch.Generator(device).manual_seed(options.seed)

    def choose(self, logits: Tensor, generated: Sequence[int]) -> int:
        """The next token by finite logits [V], after the tokens generated so far."""
        if self.grammar is not None:
            logits = self.grammar.mask(logits)
        before = torch.tensor([list(generated)], dtype=torch.long, device=logits.device)
        scores = self._processors(before, logits[None].float())[0]
        if self._drawn:
            token = int(torch.multinomial(scores.softmax(-1), 1, generator=self._generator))
        else:
            token = int(scores.argmax())
        if self.grammar is not None:
            self.grammar.accept(token)
        return token


def _logits_processors(options: GenerateOptions) -> LogitsProcessorList:
    chosen = LogitsProcessorList()
    if options.repetition_penalty not in (None, 1.0):
        chosen.append(RepetitionPenaltyLogitsProcessor(float(options.repetition_penalty)))
    if options.temperature > 0:
        chosen.append(TemperatureLogitsWarper(float(options.temperature)))
        if options.top_k:
            chosen.append(TopKLogitsWarper(options.top_k))
        if options.top_p is not None and options.top_p < 1:
            chosen.append(Nucleus(float(options.top_p)))
    return chosen


class Nucleus(TopPLogitsWarper):
    """transformers' top-p, which sorts the whole vocabulary, with the same result from the likeliest tokens alone.

    Where these don't decide it beyond rounding (a flat distribution, equal scores at the end of the nucleus), the whole
    vocabulary is sorted after all.
    """

    def __call__(self, input_ids: Any, scores: Tensor) -> Tensor:
        kept = self._nucleus(scores[0]) if len(scores) == 1 else None
        if kept is None:
            sorted_out: Tensor = super().__call__(input_ids, scores)
            return sorted_out
        out = torch.full_like(scores, -math.inf)
        out[0, kept] = scores[0, kept]
        return out

    def _nucleus(self, scores: Tensor) -> Tensor | None:
        """Ids of the tokens that stay, by scores [V]; None: not decided."""
        if len(scores) <= LIKELIEST:
            return None
        values, ids = scores.topk(LIKELIEST)
        mass = (values.double() - scores.double().logsumexp(-1)).exp().cumsum(-1)  # of each token and the likelier ones
        count = int((mass < self.top_p).sum()) + 1
        if count >= LIKELIEST or bool((mass - self.top_p).abs().min() < ROUNDING) or values[count - 1] == values[count]:
            return None
        return ids[:count]
