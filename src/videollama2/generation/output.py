"""One answer as it is being said: ids become text in pieces, until a stop id, a stop text or the limit."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..processing import VideoLlama2Processor
from ..receipt import Answer, FinishReason, Receipt, TokenLogprob
from .sampling import GenerateOptions

CONTEXT_ENDS = "the answer ends where the model's context does"


class Said:
    """An answer so far.

    Attributes:
        finish: why it ended; None while it goes on.
        generated: ids so far, a stop id included.
        logprobs: of each id of the text, where the options ask for them.
    """

    def __init__(self, processor: VideoLlama2Processor, options: GenerateOptions, stop_ids: Sequence[int]) -> None:
        self.finish: FinishReason | None = None
        self.generated = 0
        self.logprobs: list[TokenLogprob] = []
        self._text = Detokenizer(processor, options.stop)
        self._options, self._stop_ids = options, stop_ids
        self._logits: Tensor | None = None

    def watch(self) -> Callable[[Tensor, Tensor], None] | None:
        """What `decode` tells about each step of a batch of one; None where nobody asks."""
        if self._options.top_logprobs is None:
            return None
        return lambda logits, tokens: self.see(logits[0], int(tokens[0]))

    def see(self, logits: Tensor, token: int) -> None:
        """The logits [V] by which the id was chosen that `push` takes next."""
        if self._options.top_logprobs is not None and token not in self._stop_ids and not self.finish:
            self.logprobs.append(logprob_of(logits, token, self._options.top_logprobs))

    def push(self, token: int) -> str:
        """Take one more id; return the text that is certain now, often empty."""
        self.generated += 1
        if token in self._stop_ids:
            self.finish = "stop"
            return ""
        piece = self._text.push(token)
        if self._text.stopped:
            self.finish = "stop"
        elif self.generated >= self._options.max_new_tokens:
            self.finish = "length"
        return piece

    def cancel(self) -> None:
        """End it, unless it has ended."""
        self.finish = self.finish or "cancelled"

    def end(self) -> str:
        """The text that was held back."""
        return self._text.flush()

    def answer(self, receipt: Receipt, timings: dict[str, float]) -> Answer:
        """The whole answer, once it has ended."""
        logprobs = None if self._options.top_logprobs is None else tuple(self.logprobs)
        return Answer(self._text.text, self.finish or "length", receipt, timings, logprobs)


class Detokenizer:
    """Token ids to text in pieces: no piece holds half a character, and white space at either end is left out.

    Attributes:
        stopped: one of the stop texts was said; the text ends before it.
    """

    def __init__(self, processor: VideoLlama2Processor, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._processor, self._stop = processor, tuple(stop)
        self._ids: list[int] = []
        self._context = self._read = 0  # ids[context:read] are decoded again with what follows, for the space between
        self._raw = self._sent = ""

    @property
    def text(self) -> str:
        """All text so far, stripped."""
        return self._raw.strip() if self.stopped else self._processor.decode(self._ids).strip()

    def push(self, token: int) -> str:
        """Take one more id; return the text that is certain now."""
        if self.stopped:
            return ""
        self._ids.append(token)
        before = self._processor.decode(self._ids[self._context : self._read])
        after = self._processor.decode(self._ids[self._context :])
        if len(after) <= len(before) or after.endswith("\ufffd"):  # bytes of a character that is not complete
            return ""
        self._raw += after[len(before) :]
        self._context, self._read = self._read, len(self._ids)
        return self._new(self._certain().strip())

    def flush(self) -> str:
        """What was held back."""
        return self._new(self.text)

    def _certain(self) -> str:
        """The text up to a stop text, or to what may become one. White space before the answer is none of it."""
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


def logprob_of(logits: Tensor, token: int, top: int) -> TokenLogprob:
    """Of a token that was chosen by logits [V]; `top` of the likeliest are listed."""
    scores = torch.log_softmax(logits.float(), -1)
    best = torch.topk(scores, top)
    return TokenLogprob(
        token, float(scores[token]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    )
