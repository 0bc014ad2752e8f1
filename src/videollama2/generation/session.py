"""Media that stay open: many questions about them, each at the cost of its own new text.

    Opened (decoded and encoded media) ── Session.run ── Stream (an answer on its way) ──► Answer

A session keeps the cache of keys and values. A stream takes it, computes what its prompt does not share with it, and
gives it back; a second stream that begins meanwhile starts a cache of its own.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from ..errors import UsageError
from ..processing import Encoded, Prepared
from ..protocols import Protocol
from ..receipt import Answer
from ..text.prompts import Message
from .output import CONTEXT_ENDS, Said
from .request import changed_options
from .sampling import GenerateOptions, decode

if TYPE_CHECKING:
    from ..engine import Engine

Stage = Callable[[str], None]  # told the name of each stage as it begins: "decoding", "encoding", "thinking"


@dataclass
class Opened:
    """Media that were decoded and encoded.

    Attributes:
        features: per medium, [tokens, D] of each kind it has.
        timings: `decode_seconds` and `encode_seconds`.
    """

    prepared: list[Prepared]
    features: list[dict[str, torch.Tensor]]
    protocol: Protocol
    timings: dict[str, float]

    def take_timings(self) -> dict[str, float]:
        """Seconds spent on the media; zero from the second question on."""
        timings, self.timings = self.timings, dict.fromkeys(self.timings, 0.0)
        return timings


class Session:
    """Media that are open, and what was said about them. Made by `Engine.open`.

    `ask` puts each question on its own; `chat` continues a conversation. Either costs the new text only: the longest
    beginning that a prompt shares with the one before stays in the cache.

    Attributes:
        messages: the conversation so far, as `chat` made it.
    """

    def __init__(
        self,
        engine: "Engine",
        opened: Opened,
        *,
        system: str | None = None,
        options: GenerateOptions | None = None,
        on_stage: Stage | None = None,
    ) -> None:
        self.engine, self.opened = engine, opened
        self.messages: list[Message] = []
        self.on_stage = on_stage
        self._system, self._options = system, options or GenerateOptions()
        self._cache: DynamicCache | None = None
        self._cached_ids: list[int] = []

    def ask(self, question: str, **options: Any) -> Answer:
        """A question on its own; earlier ones are not part of it.

        Args:
            question: the user's words.
            options: fields of `GenerateOptions` that differ from those the media were opened with.

        Raises:
            VideoLlama2Error: see errors.py.
        """
        return self.stream(question, **options).finish()

    def stream(self, question: str, **options: Any) -> "Stream":
        """As `ask`, in pieces."""
        return self.run(self._opening(question), changed_options(self._options, options))

    def chat(self, text: str, **options: Any) -> Answer:
        """The next turn of a conversation about the open media; arguments as for `ask`."""
        return self.stream_chat(text, **options).finish()

    def stream_chat(self, text: str, **options: Any) -> "Stream":
        """As `chat`, in pieces; the turn is remembered once the answer is complete, or cancelled."""
        asked = [*self.messages, {"role": "user", "content": text}] if self.messages else self._opening(text)

        def remember(answer: Answer) -> None:
            self.messages = [*asked, {"role": "assistant", "content": answer.text}]

        return self.run(asked, changed_options(self._options, options), remember)

    def run(
        self,
        messages: Sequence[Message],
        options: GenerateOptions | None = None,
        then: Callable[[Answer], None] | None = None,
    ) -> "Stream":
        """Answer a conversation about the open media; its k-th media part stands for the k-th medium.

        Raises:
            PromptError: the messages do not fit the media, the chat template or the context.
        """
        encoded = self.engine.processor.encode(messages, self.opened.prepared)
        return Stream(self, encoded, options or self._options, then)

    def forget(self) -> None:
        """Begin the conversation anew; the media stay open."""
        self.messages = []

    def _opening(self, question: str) -> list[Message]:
        """The first turn, with the media before its text, after the caller's system turn."""
        media = [{"type": p.modality} for p in self.opened.prepared]
        turns: list[Message] = [] if self._system is None else [{"role": "system", "content": self._system}]
        return [*turns, {"role": "user", "content": [*media, {"type": "text", "text": question}]}]

    def take_cache(self, ids: Sequence[int]) -> tuple[DynamicCache, int]:
        """The cache, cut to the beginning that it shares with `ids`, and the length of that; it is the caller's now."""
        cache, self._cache = self._cache, None
        if cache is None or any(layer.is_sliding for layer in cache.layers):
            # a sliding window has forgotten its beginning and can't be cut
            return DynamicCache(config=self.engine.model.config.text_config), 0
        kept = 0
        # at least one position must be left to compute
        for ours, theirs in zip(self._cached_ids, ids[:-1], strict=False):
            if ours != theirs:
                break
            kept += 1
        cache.crop(kept - cache.get_seq_length())
        return cache, kept

    def return_cache(self, cache: DynamicCache, ids: Sequence[int]) -> None:
        """Keep the cache, which holds the beginning of `ids`, for the next question."""
        self._cache, self._cached_ids = cache, list(ids[: cache.get_seq_length()])


class Stream:
    """An answer on its way: iterate over its text, then read `answer`. The pieces joined are the answer's text.

    The model is locked for one step at a time and never while the caller holds a piece: streams may take turns, be
    slow, or be left unread.
    """

    def __init__(
        self, session: Session, encoded: Encoded, options: GenerateOptions, then: Callable[[Answer], None] | None
    ) -> None:
        self._session, self._encoded, self._then = session, encoded, then
        self._options = session.engine.room(encoded, options)
        self._context_is_short = self._options.max_new_tokens < options.max_new_tokens
        self._answer: Answer | None = None
        self._pieces: Iterator[str] | None = None
        self._cancelled = False
        self._step_seconds: list[float] = []

    @property
    def answer(self) -> Answer:
        """The whole answer.

        Raises:
            UsageError: the text has not been read to its end.
        """
        if self._answer is None:
            raise UsageError("the stream is not read to its end; iterate over it first, or call finish()")
        return self._answer

    def finish(self) -> Answer:
        """Read what is left, and return the whole answer."""
        for _ in self:
            continue
        return self.answer

    def cancel(self) -> None:
        """Stop after the token that is being computed; from any thread. The answer is what was said until then."""
        self._cancelled = True

    def __iter__(self) -> Iterator[str]:
        if self._pieces is None:
            self._pieces = self._run()
        return self._pieces

    def _run(self) -> Iterator[str]:
        engine = self._session.engine
        said = Said(engine.processor, self._options, engine.stop_ids)
        tokens = self._tokens(said)
        for token in tokens:
            if piece := said.push(token):
                yield piece
            if self._cancelled:
                said.cancel()
            if said.finish:
                break
        tokens.close()
        if piece := said.end():
            yield piece
        self._complete(said)

    def _complete(self, said: Said) -> None:
        notes = (CONTEXT_ENDS,) if said.finish == "length" and self._context_is_short else ()
        opened, seconds = self._session.opened, self._step_seconds
        receipt = self._session.engine.receipt(opened, self._encoded, len(seconds), notes)
        timings = timings_of(opened.take_timings(), seconds[0], sum(seconds[1:]), len(seconds))
        self._answer = said.answer(receipt, timings)
        if self._then is not None:
            self._then(self._answer)

    def _tokens(self, said: Said) -> Generator[int]:
        """New token ids, after the part of the prompt that the session's cache holds already."""
        session, engine, ids = self._session, self._session.engine, list(self._encoded.prompt.input_ids)
        if session.on_stage:
            session.on_stage("thinking")
        with engine.lock:
            started = time.perf_counter()
            cache, kept = session.take_cache(ids)
            embeds = engine.embed(self._encoded, session.opened.features)[:, kept:]
        mask = torch.ones(1, len(ids), dtype=torch.long, device=embeds.device)
        steps = decode(engine.model, embeds, mask, self._options, engine.stop_ids, cache, said.watch())
        with contextlib.suppress(GeneratorExit):  # the reader left between two steps; the cache is whole
            while True:
                with engine.lock:
                    started = started if not self._step_seconds else time.perf_counter()
                    token = next(steps, None)
                    if token is None:
                        break
                    ids.append(int(token))
                    self._step_seconds.append(time.perf_counter() - started)
                yield ids[-1]
        with engine.lock:
            steps.close()  # what it holds back belongs in the cache
            session.return_cache(cache, ids)


def timings_of(media: dict[str, float], prefill: float, generate: float, tokens: int) -> dict[str, float]:
    """`Answer.timings`: seconds at work per stage, their sum, and the speed after the first token."""
    timings = {**media, "prefill_seconds": prefill, "generate_seconds": generate}
    timings["total_seconds"] = sum(timings.values())
    timings["tokens_per_second"] = (tokens - 1) / generate if tokens > 1 else 0.0
    return timings
