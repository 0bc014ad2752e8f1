"""One engine, many faces: command line, Python, HTTP, evaluation and batch jobs all call `Engine` (design decision 4).

    media ── processor.prepare ──► Prepared      once per medium
          ── model.get_*_features ──► features   once per medium
    messages + counts ── processor.encode ──► ids
    ids + features ── embed_features ──► embeddings ── generation.decode ──► text + receipt

`request.py` says what can be asked, `session.py` keeps media open for more questions, `batching.py` asks many at once.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .device import Placement
from .errors import ContextOverflow, MediaError, UsageError
from .generation.batching import answer_batch
from .generation.request import Request, as_request
from .generation.sampling import GenerateOptions
from .generation.session import Opened, Session, Stage, Stream
from .media import Opener, open_clip
from .modeling import VideoLlama2ForConditionalGeneration
from .processing import Encoded, Prepared, VideoLlama2Processor
from .protocols import Protocol, protocol
from .receipt import Answer, AudioReceipt, Receipt, VideoReceipt, refuse_losses
from .text.conversations import Media
from .text.prompts import stop_token_ids

logger = logging.getLogger(__name__)


class Engine:
    """A model with everything it needs to answer. Made by `videollama2.load`.

    Safe to call from several threads; the model computes one step of one answer at a time (`lock`).
    """

    def __init__(
        self,
        model: VideoLlama2ForConditionalGeneration,
        processor: VideoLlama2Processor,
        *,
        name: str,
        placement: Placement,
        default_protocol: str | Protocol | None = None,
        opener: Opener = open_clip,
    ) -> None:
        self.model, self.processor = model.eval(), processor
        self.name, self.placement = name, placement
        self.protocol = protocol(default_protocol or model.config.protocol)
        self.stop_ids = stop_token_ids(processor.tokenizer, model.generation_config)
        self.opener = opener
        self.lock = threading.RLock()

    def answer(self, media: Any = None, question: str | None = None, **kwargs: Any) -> Answer:
        """Ask about a medium.

        Args:
            media: None, a path, bytes, a PIL image, an array, a list of frames, or a list of `Media`; or a whole
                `Request`, and then nothing else.
            question: the user's words.
            kwargs: fields of `Request` (start, end, audio, video, protocol, strict, system, messages, num_frames) and
                of `GenerateOptions` (max_new_tokens, temperature, top_p, top_k, repetition_penalty, seed), and
                `on_stage`, which is told what is being done.

        Raises:
            VideoLlama2Error: see errors.py.
        """
        return self.stream(media, question, **kwargs).finish()

    def stream(self, media: Any = None, question: str | None = None, **kwargs: Any) -> Stream:
        """As `answer`, in pieces: iterate over the text, then read `.answer`."""
        on_stage = kwargs.pop("on_stage", None)
        request = as_request(media, question, kwargs)
        media_list, messages = request.conversation()
        opened = self.prepare(media_list, request, on_stage)
        return Session(self, opened, options=request.options, on_stage=on_stage).run(messages)

    def batch(self, requests: Sequence[Request | tuple[Any, str]], **kwargs: Any) -> list[Answer]:
        """Answers to many requests, decoded together; each is what `answer` alone would give.

        Args:
            requests: `Request` objects, or (media, question) pairs.
            kwargs: as for `answer`, for pairs.

        Raises:
            UsageError: the requests differ in their generation options, which one batch can't.
            VideoLlama2Error: one can't be answered; the error's note has its number.
        """
        asked = []
        for given in requests:
            if not isinstance(given, Request | tuple | list) or (not isinstance(given, Request) and len(given) != 2):
                raise UsageError(f"a request is {given!r:.80}; expected a Request or a pair (media, question)")
            asked.append(given if isinstance(given, Request) else as_request(*given, kwargs))
        return answer_batch(self, asked)

    def open(self, media: Any, **kwargs: Any) -> Session:
        """Decode and encode media once, to ask many questions about them.

        Args:
            media: as for `answer`.
            kwargs: as for `answer`; the answers' options are the defaults of the session's questions.
        """
        on_stage = kwargs.pop("on_stage", None)
        request = as_request(media, None if isinstance(media, Request) else "", kwargs)
        opened = self.prepare(request.conversation()[0], request, on_stage)
        return Session(self, opened, system=request.system, options=request.options, on_stage=on_stage)

    def prepare(self, media: Sequence[Media], request: Request, on_stage: Stage | None = None) -> Opened:
        """Decode and encode `Media`, as the request's protocol and strictness say.

        Raises:
            MediaError: a medium can't be used; MediaLost: in strict mode, something of it would not be.
            UnsupportedModality: the model has no encoder for it.
        """
        chosen = protocol(request.protocol or self.protocol)
        started = time.perf_counter()
        if media and on_stage:
            on_stage("decoding")
        prepared = [self._prepare_one(m, chosen) for m in media]
        losses = [loss for p in prepared for loss in p.losses]
        if request.strict:
            refuse_losses(losses)
        for loss in losses:
            logger.warning("%s", loss)
        decoded = time.perf_counter()
        if media and on_stage:
            on_stage("encoding")
        with self.lock:
            features = [self.encode(p) for p in prepared]
        timings = {"decode_seconds": decoded - started, "encode_seconds": time.perf_counter() - decoded}
        return Opened(prepared, features, chosen, timings)

    def _prepare_one(self, media: Media, chosen: Protocol) -> Prepared:
        try:
            return self.processor.prepare(media, chosen, self.opener)
        except MediaError as error:
            if isinstance(media.source, list | tuple):
                error.add_note("a list is the frames of one video; several media are a list of Media")
            raise

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

    @torch.inference_mode()
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

    def receipt(self, opened: Opened, encoded: Encoded, generated: int, notes: tuple[str, ...] = ()) -> Receipt:
        """What went into an answer, and with `notes` what became of it."""
        entries: list[VideoReceipt | AudioReceipt] = [e for p in opened.prepared for e in (p.video, p.audio) if e]
        return Receipt(
            model=self.name,
            protocol=opened.protocol.name,
            device=str(self.model.device),
            dtype=str(self.model.dtype).removeprefix("torch."),
            video=next((p.video for p in opened.prepared if p.video), None),
            audio=next((p.audio for p in opened.prepared if p.audio), None),
            media=tuple(entries),
            notes=(*encoded.prompt.notes, *notes),
            prompt_tokens=len(encoded.prompt.input_ids),
            generated_tokens=generated,
        )
