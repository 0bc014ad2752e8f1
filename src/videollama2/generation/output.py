"""The output of one sequence: ids become text incrementally, until a stop id, a stop text or the limit."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..receipt import Answer, FinishReason, Receipt, TokenLogprob
from .sampling import GenerateOptions

Detokenise = Callable[[list[int]], str]
"""Token ids to text, without control tokens."""


_HALF = "\ufffd"  # what tokenizers decode the bytes of an incomplete character to


class OutputStream:
    """Text, token count and log probabilities of an answer so far.

    Attributes:
        finish: why it ended; None while it is being generated.
        generated: number of ids so far, including a stop id.
        logprobs: of each id of the text, if the options request them.
    """

    def __init__(self, detokenise: Detokenise, options: GenerateOptions, stop_ids: Sequence[int]) -> None:
        self.finish: FinishReason | None = None
        self.generated = 0
        self.logprobs: list[TokenLogprob] = []
        self._text = Detokenizer(detokenise, options.stop)
        self._options, self._stop_ids = options, stop_ids

    def push(self, token: int, logits: Tensor | TokenLogprob | None, *, last: bool = False) -> str:
        """Take the next id, chosen by logits [V]; return the text that is now final, often empty.

        Args:
            logits: or what is reported of them; None: not requested.
            last: nothing can follow this id.
        """
        self.generated += 1
        if token in self._stop_ids:
            self.finish = "stop"
            return ""
        if self._options.top_logprobs is not None and logits is not None:
            top = self._options.top_logprobs
            self.logprobs.append(logits if isinstance(logits, TokenLogprob) else logprob_of(logits, token, top))
        piece = self._text.push(token)
        if last or self._text.stopped:
            self.finish = "stop"
        elif self.generated >= self._options.max_new_tokens:
            self.finish = "length"
        return piece

    def cancel(self) -> None:
        """End the answer, unless it has ended."""
        self.finish = self.finish or "cancelled"

    def flush(self) -> str:
        """The remaining text, once the answer has ended."""
        return self._text.flush()

    def answer(self, receipt: Receipt, timings: dict[str, float]) -> Answer:
        """The whole answer, once it has ended."""
        logprobs = None if self._options.top_logprobs is None else tuple(self.logprobs)
        return Answer(self._text.text, self.finish or "length", receipt, timings, logprobs)


class Detokenizer:
    """Token ids to text in pieces. White space at both ends of the text is stripped.

    No piece contains half a character: its bytes are held back until it is complete, and dropped if it never is.

    Attributes:
        stopped: a stop text occurred; the text ends before it.
    """

    def __init__(self, detokenise: Detokenise, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._detokenise, self._stop = detokenise, tuple(stop)
        self._ids: list[int] = []
        # ids[context:read] are decoded again together with what follows, to get the space between them
        self._context = self._read = 0
        self._raw = self._sent = ""

    @property
    def text(self) -> str:
        """All text so far, stripped."""
        if self.stopped:
            return _stripped(self._raw)
        # not all ids decoded at once: with byte fallback, half a character would corrupt the bytes before it
        before = self._detokenise(self._ids[self._context : self._read])
        after = self._detokenise(self._ids[self._context :])
        text = _stripped(self._raw + after[len(before) :].rstrip(_HALF))
        found = [at for at in map(text.find, self._stop) if at >= 0]
        return _stripped(text[: min(found)]) if found else text

    def push(self, token: int) -> str:
        """Take one more id; return the text that is now final."""
        if self.stopped:
            return ""
        self._ids.append(token)
        before = self._detokenise(self._ids[self._context : self._read])
        after = self._detokenise(self._ids[self._context :])
        if len(after) <= len(before) or after.endswith(_HALF):  # the bytes of an incomplete character
            return ""
        self._raw += after[len(before) :]
        self._context, self._read = self._read, len(self._ids)
        return self._new(_stripped(self._final()))

    def flush(self) -> str:
        """The text that was held back."""
        return self._new(self.text)

    def _final(self) -> str:
        """The text before a stop text, or before what may become one. Leading white space is part of neither."""
        if not self._stop:
            return self._raw
        text = self._raw.lstrip()
        found = [at for at in map(text.find, self._stop) if at >= 0]
        if found:
            self.stopped, self._raw = True, text[: min(found)]
            return self._raw
        longest = max(map(len, self._stop)) - 1
        begun = (n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in self._stop))
        return text[: len(text) - next(begun, 0)]

    def _new(self, ready: str) -> str:
        piece = ready[len(self._sent) :]
        self._sent = ready
        return piece


def _stripped(text: str) -> str:
    """The text without white space at its ends, and without half a character at its end."""
    while (shorter := text.rstrip().rstrip(_HALF)) != text:
        text = shorter
    return text.lstrip()


def logprob_of(logits: Tensor, token: int, top: int) -> TokenLogprob:
    """Log probability of a token under logits [V], with the `top` most likely tokens."""
    scores = torch.log_softmax(logits.float(), -1)
    best = torch.topk(scores, top)
    return TokenLogprob(
        token, float(scores[token]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    )
