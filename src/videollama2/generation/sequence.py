"""One sequence: a prompt, the tokens generated so far, and their text."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import NumericsError
from .output import Detokenise, OutputStream
from .prompt import PromptEmbeddings
from .sampling import GenerateOptions, Sampler
from .structured import Grammar


class ActiveSequence:
    """A sequence being generated. It has its own options, generator and limit, independent of its batch.

    Attributes:
        account: the contents of its prompt.
        embeds: [1, L, D], the part of the prompt still to be computed; None once it is in a cache.
        options: with the checkpoint's defaults, and `max_new_tokens` cut to the room in the context.
        context_is_short: the caller allowed more tokens than the context holds.
        output: text, logprobs and finish reason so far.
        ids: generated so far, including a stop id.
        error: why generation failed; other sequences are not affected.
        seconds: durations of the steps it took part in; every sequence waits for the whole step.
    """

    def __init__(
        self,
        prompt: PromptEmbeddings,
        options: GenerateOptions,
        detokenise: Detokenise,
        stop_ids: Sequence[int],
        *,
        context_is_short: bool = False,
        grammar: Grammar | None = None,
    ) -> None:
        self.account, self.options, self.context_is_short = prompt.account, options, context_is_short
        self.embeds: Tensor | None = prompt.embeds
        self.output = OutputStream(detokenise, options, stop_ids)
        self.ids: list[int] = []
        self.error: Exception | None = None
        self.seconds: list[float] = []
        self._sampler = Sampler(options, prompt.embeds.device, grammar)

    @property
    def done(self) -> bool:
        """Whether it has finished."""
        return self.output.finish is not None or self.error is not None

    @property
    def tokens_left(self) -> int:
        """How many more tokens it may generate."""
        return self.options.max_new_tokens - self.output.generated

    def skip(self, positions: int) -> None:
        """Mark the prompt's first positions as cached."""
        if self.embeds is not None:
            self.embeds = self.embeds[:, positions:]

    def cancel(self) -> None:
        """End the sequence; call between two steps."""
        self.output.cancel()

    def push(self, logits: Tensor, best: int, finite: bool) -> str:
        """Choose the next token from logits [V]; return the text that is now final.

        Args:
            best: the token with the largest logit.
            finite: whether all logits are.
        """
        if not finite:
            self.error = NumericsError(
                "the model's logits are NaN or infinite, so its next token would be garbage; the checkpoint may be "
                "damaged, or its values may overflow float16 (load with dtype='bfloat16' or 'float32')."
            )
            return ""
        try:
            token = best if self._sampler.greedy else self._sampler.choose(logits, self.ids)
        except Exception as error:  # caused by this sequence's scores alone
            self.error = error
            return ""
        self.ids.append(token)
        grammar = self._sampler.grammar
        return self.output.push(token, logits, last=grammar is not None and grammar.finished)


def newest_tokens(sequences: Sequence[ActiveSequence], device: torch.device) -> Tensor:
    """The last token of each sequence, int64 [B]; 0 for one that failed before its first."""
    return torch.tensor([s.ids[-1] if s.ids else 0 for s in sequences], dtype=torch.long, device=device)
