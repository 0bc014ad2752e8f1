"""One engine, many faces: command line, Python, HTTP, evaluation and batch jobs all call `Engine` (design decision 4).

    media ── processor.prepare ──► Prepared      once per medium
          ── model.get_*_features ──► features   once per medium
    messages + counts ── processor.encode ──► ids
    ids + features ── embed_features ──► embeddings ── generation.decode ──► text + receipt

A `Session` keeps the prepared media, their features and the cache of keys and values, so that a further question costs
its own new text only.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from .device import Placement
from .errors import ContextOverflow, UsageError
from .generation import GenerateOptions, decode
from .modeling import VideoLlama2ForConditionalGeneration
from .processing import Encoded, Media, Prepared, VideoLlama2Processor, media_of, with_modalities
from .prompts import Message, stop_token_ids
from .protocols import Protocol, protocol
from .receipt import Answer, AudioReceipt, FinishReason, Receipt, VideoReceipt, refuse_losses

logger = logging.getLogger(__name__)
Stage = Callable[[str], None]  # told the name of each stage as it begins: "decoding", "encoding", "thinking"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question.

    Attributes:
        media: nothing, one medium, or a list of `Media`. A list of anything else is the frames of one video.
        question: the user's words; or `messages`, a whole conversation whose media parts carry their sources.
        system: replaces the model's own system prompt.
        strict: whatever was asked for and would not be used is an error.
    """

    media: Any = None
    question: str | None = None
    messages: Sequence[Message] | None = None
    system: str | None = None
    start: float | None = None
    end: float | None = None
    video: bool = True
    audio: bool = True
    num_frames: int | None = None
    protocol: str | Protocol | None = None
    strict: bool = False
    options: GenerateOptions = field(default_factory=GenerateOptions)

    def conversation(self) -> tuple[list[Media], list[Message]]:
        """Its media, and its messages, in which each medium has a part.

        Raises:
            UsageError: both or neither of question and messages are given, or media beside messages.
        """
        if (self.question is None) == (self.messages is None):
            raise UsageError("give a question, or messages, and not both")
        if self.messages is not None:
            if self.media is not None:
                raise UsageError("media go into the messages when messages are given")
            return media_of(self.messages), list(self.messages)
        media = self._media()
        # the type is what the caller believes; processing.with_modalities corrects it once the file is open
        content: Any = [*({"type": "video"} for _ in media), {"type": "text", "text": self.question}]
        messages: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        return media, [*messages, {"role": "user", "content": content}]

    def _media(self) -> list[Media]:
        if self.media is None:
            return []
        given = self.media if _is_media_list(self.media) else [self.media]
        return [
            m
            if isinstance(m, Media)
            else Media(
                source=m,
                start=self.start,
                end=self.end,
                video=self.video,
                audio=self.audio,
                num_frames=self.num_frames,
            )
            for m in given
        ]


def _is_media_list(media: Any) -> bool:
    return isinstance(media, list | tuple) and bool(media) and all(isinstance(m, Media) for m in media)


class Engine:
    """A model with everything it needs to answer. Made by `videollama2.load`.

    Safe to call from several threads; the model answers one after the other.
    """

    def __init__(
        self,
        model: VideoLlama2ForConditionalGeneration,
        processor: VideoLlama2Processor,
        *,
        name: str,
        placement: Placement,
        default_protocol: str | Protocol | None = None,
    ) -> None:
        self.model, self.processor = model.eval(), processor
        self.name, self.placement = name, placement
        self.protocol = protocol(default_protocol or model.config.protocol)
        self.stop_ids = stop_token_ids(processor.tokenizer, model.generation_config)
        self._lock = threading.RLock()

    def answer(self, media: Any = None, question: str | None = None, **kwargs: Any) -> Answer:
        """Ask about a medium.

        Args:
            media: None, a path, bytes, a PIL image, an array, a list of frames, or a list of `Media`.
            question: the user's words.
            kwargs: fields of `Request` (start, end, audio, video, protocol, strict, system, messages, num_frames) and
                of `GenerateOptions` (max_new_tokens, temperature, top_p, top_k, repetition_penalty, seed), and
                `on_stage`, which is told what is being done.

        Raises:
            VideoLlama2Error: see errors.py.
        """
        return self.stream(media, question, **kwargs).finish()

    def stream(self, media: Any = None, question: str | None = None, **kwargs: Any) -> "Stream":
        """As `answer`, in pieces: iterate over the text, then read `.answer`."""
        on_stage = kwargs.pop("on_stage", None)
        request = as_request(media, question, kwargs)
        media_list, messages = request.conversation()
        session = Session(self, self._prepare(media_list, request, on_stage), on_stage=on_stage)
        return session.run(messages, request)

    def batch(self, requests: Sequence[Request | tuple[Any, str]], **kwargs: Any) -> list[Answer]:
        """Answers to many requests, decoded together; each is what `answer` alone would give.

        Args:
            requests: `Request` objects, or (media, question) pairs.
            kwargs: as for `answer`, for pairs.

        Raises:
            UsageError: the requests differ in their generation options, which one batch can't.
        """
        from .batching import answer_batch

        asked = [r if isinstance(r, Request) else as_request(*r, dict(kwargs)) for r in requests]
        return answer_batch(self, asked)

    def open(self, media: Any, **kwargs: Any) -> "Session":
        """Decode and encode media once, to ask many questions about them.

        Args:
            media: as for `answer`.
            kwargs: fields of `Request` that concern media (start, end, audio, video, num_frames, protocol, strict).
        """
        on_stage = kwargs.pop("on_stage", None)
        request = as_request(media, "", kwargs)
        return Session(self, self._prepare(request.conversation()[0], request, on_stage), request, on_stage)

    def _prepare(self, media: Sequence[Media], request: Request, on_stage: Stage | None) -> "Opened":
        """Decode and encode."""
        chosen = protocol(request.protocol or self.protocol)
        started = time.perf_counter()
        if media and on_stage:
            on_stage("decoding")
        prepared = [self.processor.prepare(m, chosen) for m in media]
        losses = [loss for p in prepared for loss in p.losses]
        if request.strict:
            refuse_losses(losses)
        for loss in losses:
            logger.warning("%s", loss)
        decoded = time.perf_counter()
        if media and on_stage:
            on_stage("encoding")
        with self._lock:
            features = [self.encode(p) for p in prepared]
        timings = {"decode_seconds": decoded - started, "encode_seconds": time.perf_counter() - decoded}
        return Opened(prepared, features, chosen, timings)

    @torch.inference_mode()
    def encode(self, prepared: Prepared) -> dict[str, Tensor]:
        """Features of one medium: `image`, `video` and `audio`, [tokens, D] each, for what it has."""
        model, device = self.model.model, self.model.device
        features: dict[str, Tensor] = {}
        if prepared.pixels is not None:
            pixels = prepared.pixels.to(device, self.model.dtype)
            encode = model.get_image_features if prepared.still else model.get_video_features
            features[prepared.modality] = encode(pixels if prepared.still else pixels[None])[0]
        if prepared.fbank is not None:
            features["audio"] = model.get_audio_features(prepared.fbank[None].to(device))[0]
        return features

    def embed(self, encoded: Encoded, features: Sequence[dict[str, Tensor]]) -> Tensor:
        """Embeddings of a prompt: [1, L, D]."""
        ids = torch.tensor([encoded.prompt.input_ids], device=self.model.device)
        by_kind = {kind: [f[kind] for f in features if kind in f] for kind in ("image", "video", "audio")}
        return self.model.model.embed_features(ids, by_kind["image"], by_kind["video"], by_kind["audio"])

    def room(self, encoded: Encoded, options: GenerateOptions) -> GenerateOptions:
        """The options, with `max_new_tokens` cut to what the context still holds.

        Raises:
            ContextOverflow: the prompt itself is too long.
        """
        length, limit = len(encoded.prompt.input_ids), self.model.config.max_positions
        if length >= limit:
            spans = ", ".join(f"{s.length} of {s.modality}" for s in encoded.prompt.spans) or "all of text"
            raise ContextOverflow(
                f"the prompt takes {length} positions ({spans}), but the model has {limit}; "
                "ask about a shorter range, fewer frames or fewer media, or shorten the text"
            )
        filled = options.with_defaults(self.model.generation_config)
        return replace(filled, max_new_tokens=min(options.max_new_tokens, limit - length))

    def receipt(self, opened: "Opened", encoded: Encoded, generated: int) -> Receipt:
        """What went into an answer."""
        entries: list[VideoReceipt | AudioReceipt] = [e for p in opened.prepared for e in (p.video, p.audio) if e]
        return Receipt(
            model=self.name,
            protocol=opened.protocol.name,
            device=str(self.model.device),
            dtype=str(self.model.dtype).removeprefix("torch."),
            video=next((p.video for p in opened.prepared if p.video), None),
            audio=next((p.audio for p in opened.prepared if p.audio), None),
            media=tuple(entries),
            notes=encoded.prompt.notes,
            prompt_tokens=len(encoded.prompt.input_ids),
            generated_tokens=generated,
        )


def as_request(media: Any, question: str | None, kwargs: dict[str, Any]) -> Request:
    """A request from the keywords of `Engine.answer`.

    Raises:
        UsageError: an unknown keyword.
    """
    generate = {k: kwargs.pop(k) for k in list(kwargs) if k in GenerateOptions.__dataclass_fields__}
    unknown = sorted(set(kwargs) - set(Request.__dataclass_fields__))
    if unknown:
        known = sorted({*Request.__dataclass_fields__, *GenerateOptions.__dataclass_fields__})
        raise UsageError(f"unknown option(s) {', '.join(unknown)}; expected some of {', '.join(known)}")
    options = kwargs.pop("options", GenerateOptions())
    return Request(media=media, question=question, options=replace(options, **generate), **kwargs)


@dataclass
class Opened:
    """Media that were decoded and encoded."""

    prepared: list[Prepared]
    features: list[dict[str, Tensor]]
    protocol: Protocol
    timings: dict[str, float]


class Session:
    """Media that are open, and what was said about them.

    `ask` puts each question on its own; `chat` continues a conversation. Either costs the new text only: the longest
    beginning that a prompt shares with the one before stays in the cache.
    """

    def __init__(
        self, engine: Engine, opened: Opened, request: Request | None = None, on_stage: Stage | None = None
    ) -> None:
        self.engine, self.opened = engine, opened
        self.messages: list[Message] = []
        self._request = request or Request(question="")
        self._on_stage = on_stage
        self._cache: DynamicCache | None = None
        self._cached_ids: list[int] = []
        self._asked = False

    def ask(self, question: str, **kwargs: Any) -> Answer:
        """A question on its own; earlier ones are not part of it."""
        return self.stream(question, **kwargs).finish()

    def stream(self, question: str, **kwargs: Any) -> "Stream":
        """As `ask`, in pieces."""
        return self.run(self._opening(question), self._with(kwargs))

    def chat(self, text: str, **kwargs: Any) -> Answer:
        """The next turn of a conversation about the open media."""
        return self.stream_chat(text, **kwargs).finish()

    def stream_chat(self, text: str, **kwargs: Any) -> "Stream":
        """As `chat`, in pieces; the turn is remembered once the answer is complete."""
        turn: Message = {"role": "user", "content": text}
        asked = [*self.messages, turn] if self.messages else self._opening(text)

        def remember(answer: Answer) -> None:
            self.messages = [*asked, {"role": "assistant", "content": answer.text}]

        return self.run(asked, self._with(kwargs), remember)

    def run(
        self, messages: Sequence[Message], request: Request, then: Callable[[Answer], None] | None = None
    ) -> "Stream":
        """Answer a conversation about the open media."""
        encoded = self.engine.processor.encode(with_modalities(messages, self.opened.prepared), self.opened.prepared)
        options = self.engine.room(encoded, request.options)
        return Stream(self, encoded, options, then)

    def forget(self) -> None:
        """Begin the conversation anew; the media stay open."""
        self.messages = []

    def _opening(self, question: str) -> list[Message]:
        """The first turn, with the media before its text, after the caller's system turn."""
        media = [{"type": p.modality} for p in self.opened.prepared]
        system = self._request.system
        turns: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        return [*turns, {"role": "user", "content": [*media, {"type": "text", "text": question}]}]

    def _with(self, kwargs: dict[str, Any]) -> Request:
        return as_request(None, "", {"options": self._request.options, **kwargs})

    def tokens(self, encoded: Encoded, options: GenerateOptions) -> Iterator[int]:
        """New token ids, reusing what the cache shares with this prompt."""
        engine, ids = self.engine, list(encoded.prompt.input_ids)
        with engine._lock, torch.inference_mode():
            cache, kept = self._shared(ids)
            if self._on_stage:
                self._on_stage("thinking")
            embeds = engine.embed(encoded, self.opened.features)[:, kept:]
            mask = torch.ones(1, len(ids), dtype=torch.long, device=embeds.device)
            said: list[int] = []
            try:
                for token in decode(engine.model, embeds, mask, options, engine.stop_ids, cache):
                    said.append(int(token))
                    yield said[-1]
            finally:
                # the last token was chosen but never processed
                self._cached_ids = (ids + said)[: cache.get_seq_length()]

    def _shared(self, ids: list[int]) -> tuple[DynamicCache, int]:
        """The cache, cut to the beginning that it shares with `ids`, and the length of that."""
        cache = self._cache
        sliding = cache is not None and any(getattr(layer, "is_sliding", False) for layer in cache.layers)
        if cache is None or sliding:  # a sliding window has forgotten its beginning and can't be cut
            self._cache, self._cached_ids = DynamicCache(config=self.engine.model.config.text_config), []
            return self._cache, 0
        kept = 0
        # at least one position must be left to compute
        for ours, theirs in zip(self._cached_ids, ids[:-1], strict=False):
            if ours != theirs:
                break
            kept += 1
        surplus = cache.get_seq_length() - kept
        if surplus:
            cache.crop(-surplus)
        return cache, kept

    def take_timings(self) -> dict[str, float]:
        """Seconds spent on the media; zero from the second question on."""
        timings = self.opened.timings if not self._asked else dict.fromkeys(self.opened.timings, 0.0)
        self._asked = True
        return dict(timings)


class Stream:
    """An answer on its way: iterate over its text, then read `answer`. The pieces joined are the answer's text."""

    def __init__(
        self, session: Session, encoded: Encoded, options: GenerateOptions, then: Callable[[Answer], None] | None
    ) -> None:
        self._session, self._encoded, self._options, self._then = session, encoded, options, then
        self._answer: Answer | None = None
        self._iterator: Iterator[str] | None = None
        self._cancelled = False

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
        """Stop after the token that is being computed."""
        self._cancelled = True

    def __iter__(self) -> Iterator[str]:
        if self._iterator is None:
            self._iterator = self._run()
        return self._iterator

    def _run(self) -> Iterator[str]:
        session, engine = self._session, self._session.engine
        started = time.perf_counter()
        first = 0.0
        said: list[int] = []
        text = Detokenizer(engine.processor)
        finish: FinishReason = "length"
        for token in session.tokens(self._encoded, self._options):
            first = first or time.perf_counter() - started
            said.append(token)
            if token in engine.stop_ids:
                finish = "stop"
                break
            if piece := text.push(token):
                yield piece
            if self._cancelled:
                finish = "cancelled"
                break
        if piece := text.flush():
            yield piece
        spent = time.perf_counter() - started
        timings = session.take_timings()
        timings |= {"prefill_seconds": first, "generate_seconds": spent - first}
        timings["total_seconds"] = sum(timings.values())
        timings["tokens_per_second"] = (len(said) - 1) / (spent - first) if len(said) > 1 else 0.0
        receipt = engine.receipt(session.opened, self._encoded, len(said))
        self._answer = Answer(text.text, finish, receipt, timings)
        if self._then is not None:
            self._then(self._answer)


class Detokenizer:
    """Token ids to text in pieces: no piece holds half a character, and white space at either end is left out."""

    def __init__(self, processor: VideoLlama2Processor) -> None:
        self._processor = processor
        self._ids: list[int] = []
        self._context = self._read = 0  # ids[context:read] are decoded again with what follows, for the space between
        self._raw = self._sent = ""

    @property
    def text(self) -> str:
        """All text so far, stripped."""
        return self._processor.decode(self._ids).strip()

    def push(self, token: int) -> str:
        """Take one more id; return the text that is certain now."""
        self._ids.append(token)
        before = self._processor.decode(self._ids[self._context : self._read])
        after = self._processor.decode(self._ids[self._context :])
        if len(after) <= len(before) or after.endswith("\ufffd"):  # bytes of a character that is not complete
            return ""
        self._raw += after[len(before) :]
        self._context, self._read = self._read, len(self._ids)
        return self._new(self._raw.strip())

    def flush(self) -> str:
        """What was held back."""
        return self._new(self.text)

    def _new(self, ready: str) -> str:
        piece = ready[len(self._sent) :]
        self._sent = ready
        return piece
