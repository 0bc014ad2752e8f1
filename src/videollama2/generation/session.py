"""Many questions about the same open media; each computes only its new text.

    MediaSet (encoded once) ── Session.run ── AnswerStream (iterate over its text) ──► Answer

The session keeps the keys and values of its last prompt. A stream takes them, computes what differs in its own prompt,
and returns them; a second stream that starts meanwhile uses a fresh cache.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ..encoded_media import MediaSet
from ..errors import UsageError
from ..receipt import Answer
from ..text.conversations import first_turn
from ..text.prompts import Message, TokenisedPrompt
from .decoder import DecodingBatch, SequenceCache
from .request import changed_options
from .runner import Runner
from .sampling import GenerateOptions
from .sequence import ActiveSequence

OnStage = Callable[[str], None]
"""Called with the name of each stage as it begins: "decoding", "encoding", "thinking"."""


class Session:
    """Open media, and the conversation about them. Created by `Engine.open`.

    `ask` asks each question independently; `chat` continues a conversation. Both compute only the new text: the longest
    prefix that a prompt shares with the previous one stays in the cache.

    Attributes:
        media: the encoded media, with their receipts.
        messages: the conversation so far, as built by `chat`.
        prefix: what the next prompt can reuse.
    """

    def __init__(
        self,
        runner: Runner,
        media: MediaSet,
        *,
        system: str | None = None,
        options: GenerateOptions | None = None,
        on_stage: OnStage | None = None,
    ) -> None:
        self.media, self.on_stage = media, on_stage
        self.messages: list[Message] = []
        self.runner, self._system, self._options = runner, system, options or GenerateOptions()
        self.prefix = runner.decoder.prefix_cache()

    def ask(self, question: str, **options: Any) -> Answer:
        """Ask an independent question; earlier ones are not part of it.

        Args:
            question: the user's words.
            options: fields of `GenerateOptions` that override those the media were opened with.

        Raises:
            VideoLlama2Error: see errors.py.
        """
        return self.stream(question, **options).finish()

    def stream(self, question: str, **options: Any) -> "AnswerStream":
        """Like `ask`, but streamed."""
        return self.run(self._first_turn(question), changed_options(self._options, options))

    def chat(self, text: str, **options: Any) -> Answer:
        """The next turn of a conversation about the open media; arguments as for `ask`."""
        return self.stream_chat(text, **options).finish()

    def stream_chat(self, text: str, **options: Any) -> "AnswerStream":
        """Like `chat`, but streamed; the turn joins the conversation once its answer is complete or cancelled."""
        asked = [*self.messages, {"role": "user", "content": text}] if self.messages else self._first_turn(text)

        def remember(answer: Answer) -> None:
            self.messages = [*asked, {"role": "assistant", "content": answer.text}]

        return self.run(asked, changed_options(self._options, options), remember)

    def run(
        self,
        messages: Sequence[Message],
        options: GenerateOptions | None = None,
        then: Callable[[Answer], None] | None = None,
    ) -> "AnswerStream":
        """Answer a conversation about the open media; its k-th media part stands for the k-th media item.

        Args:
            then: called with the answer once it is complete.

        Raises:
            PromptError: the messages don't match the media, or the chat template rejects them.
            ContextOverflow: the prompt is longer than the context.
        """
        encoded = self.runner.tokenise(messages, self.media.receipts)
        return AnswerStream(self, encoded, options or self._options, then)

    def forget(self) -> None:
        """Start the conversation over; the media stay open."""
        self.messages = []

    def _first_turn(self, question: str) -> list[Message]:
        return first_turn(question, self.media.modalities, self._system)


class AnswerStream:
    """An answer being generated: iterate over its text, then read `answer`. The joined pieces are the answer's text.

    The model is locked for one step at a time, and never while the caller handles a piece, so streams can be
    interleaved, read slowly, or abandoned.
    """

    def __init__(
        self,
        session: Session,
        encoded: TokenisedPrompt,
        options: GenerateOptions,
        then: Callable[[Answer], None] | None = None,
    ) -> None:
        self._session, self._encoded, self._options, self._then = session, encoded, options, then
        self._answer: Answer | None = None
        self._pieces: Iterator[str] | None = None
        self._cancelled = False

    @property
    def answer(self) -> Answer:
        """The whole answer.

        Raises:
            UsageError: the text has not been read to its end.
        """
        if self._answer is None:
            raise UsageError("the stream has not been read to its end; iterate over it first, or call finish().")
        return self._answer

    def finish(self) -> Answer:
        """Read the rest, and return the whole answer."""
        for _ in self:
            continue
        return self.answer

    def cancel(self) -> None:
        """Stop after the current token; call from any thread. The answer is the text generated so far."""
        self._cancelled = True

    def __iter__(self) -> Iterator[str]:
        if self._pieces is None:
            self._pieces = self._run()
        return self._pieces

    def _run(self) -> Iterator[str]:
        session, runner, ids = self._session, self._session.runner, self._encoded.input_ids
        if session.on_stage:
            session.on_stage("thinking")
        with runner.lock, torch.inference_mode():
            sequence = runner.start(runner.embed(self._encoded, session.media), self._options)
            cache = session.prefix.take(ids)
            sequence.skip(cache.get_seq_length())
        batch = runner.batch()
        try:
            yield from self._decode(batch, sequence, cache)
        except GeneratorExit:  # the reader stopped between two steps; the cache is complete
            self._close(batch, sequence, cache)
            return
        self._close(batch, sequence, cache)
        if piece := sequence.output.flush():
            yield piece
        self._answer = runner.answer(sequence, session.media.take_seconds())
        if self._then is not None:
            self._then(self._answer)

    def _decode(self, batch: DecodingBatch, sequence: ActiveSequence, cache: SequenceCache) -> Iterator[str]:
        (piece,) = batch.join(sequence, cache=cache)
        while True:
            if sequence.error is not None:
                raise sequence.error
            if piece:
                yield piece
            if self._cancelled:
                sequence.cancel()
            if sequence.done:
                return
            ((_, piece),) = batch.step()

    def _close(self, batch: DecodingBatch, sequence: ActiveSequence, cache: SequenceCache) -> None:
        with self._session.runner.lock:
            batch.close()
            self._session.prefix.give_back(cache, [*self._encoded.input_ids, *sequence.ids])
