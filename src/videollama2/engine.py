"""One engine, many interfaces: command line, Python, HTTP, evaluation and batch jobs all call `Engine`.

    Media ── decode ──► input tensors, receipt ── encode ──► EncodedMedia ─┐
    messages ────────────────────────── processor.tokenise ► ids ──────────┴─ embed ──► PromptEmbeddings
    PromptEmbeddings ── generation ──► Answer

`generation/` has requests, sessions and the decoder; `Engine` prepares media for it and returns its answers.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .device import Placement
from .encoded_media import DecodedMedia, EncodedMedia, MediaSet
from .errors import MediaError, UsageError
from .generation.decoder import Decoder
from .generation.prompt import PromptEmbeddings
from .generation.request import Request, as_request
from .generation.runner import Runner
from .generation.session import AnswerStream, OnStage, Session
from .media import Opener, open_clip
from .media_cache import MediaCache
from .modeling import VideoLlama2ForConditionalGeneration
from .processing import MediaInputs, VideoLlama2Processor
from .protocols import Protocol, protocol
from .receipt import Answer, Modality, raise_losses, source_name
from .shared_media import SharedMedia
from .text.media_parts import Media
from .text.prompts import Message, TokenisedPrompt, stop_token_ids

logger = logging.getLogger(__name__)


class Engine:
    """A model with everything required to answer. Created by `videollama2.load`.

    Thread-safe; the model computes one step at a time (`lock`).

    Attributes:
        protocol: the default for requests without one.
        opener: opens media: `open_clip`, or a WorkerPool's.
        runner: used by sessions and the server's scheduler to generate.
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
        decoder: Decoder | None = None,
    ) -> None:
        """`decoder`: computes the language model; None: torch."""
        self.model, self.processor = model.eval(), processor
        self.name, self.placement = name, placement
        self.protocol = protocol(default_protocol or model.config.protocol)
        self.opener = opener
        self.lock = threading.RLock()
        stop_ids = stop_token_ids(processor.tokenizer, model.generation_config)
        self.runner = Runner(model, processor, stop_ids, self.lock, name, decoder)

    def answer(self, media: Any = None, question: str | None = None, **kwargs: Any) -> Answer:
        """Ask about a media item.

        Args:
            media: None, a path, bytes, a PIL image, an array, a list of frames, or a list of `Media`; or a `Request`,
                without other arguments.
            question: the question, as text.
            kwargs: fields of `Request` (start, end, audio, video, protocol, strict, system, messages, num_frames,
                video_track, audio_track) and of `GenerateOptions` (max_new_tokens, temperature, top_p, top_k,
                repetition_penalty, seed); also `on_stage`, called with the name of each stage as it begins.

        Raises:
            VideoLlama2Error: see errors.py.
        """
        return self.stream(media, question, **kwargs).finish()

    def stream(self, media: Any = None, question: str | None = None, **kwargs: Any) -> AnswerStream:
        """Like `answer`, but streamed: iterate over the text, then read `.answer`."""
        on_stage = kwargs.pop("on_stage", None)
        request = as_request(media, question, kwargs)
        encoded = self._prepare(request, on_stage)
        session = Session(self.runner, encoded, options=request.options, on_stage=on_stage)
        return session.run(request.conversation(encoded.modalities))

    def batch(self, requests: Sequence[Request | tuple[Any, str]], **kwargs: Any) -> list[Answer]:
        """Answers to several requests, decoded in one batch.

        What several requests share is computed once: a media item, and the beginning of their prompts.

        In float32, each answer equals that of `answer`, except for ties within rounding. In bfloat16 and float16,
        matrix products of different shapes round so differently that near ties between two tokens can go either way:
        with nano in bfloat16, 8 of 200 answers differed in batches of 8 (docs/log.md).

        Args:
            requests: `Request` objects, or (media, question) pairs.
            kwargs: as for `answer`, for pairs.

        Raises:
            UsageError: the requests differ in their generation options.
            VideoLlama2Error: one request failed; the error's note has its number.
        """
        asked = [_request(given, kwargs) for given in requests]
        if not asked:
            return []
        if len({request.options for request in asked}) > 1:
            raise UsageError("the requests of a batch must share their generation options; send the others separately.")
        media: list[MediaSet] = []
        encoded: list[TokenisedPrompt] = []
        with SharedMedia(self.decode, self.encode_media, check_losses) as shared:
            for i, request in enumerate(asked):
                with _numbered(i):
                    shared.add(request.media_items(), protocol(request.protocol or self.protocol))
            for i, request in enumerate(asked):
                with _numbered(i):
                    media.append(shared.take(strict=request.strict))
                    messages = request.conversation(media[-1].modalities)
                    encoded.append(self.runner.tokenise(messages, media[-1].receipts))
        prompts = [self.runner.embed(e, m) for e, m in zip(encoded, media, strict=True)]
        sequences = [self.runner.start(prompt, asked[0].options) for prompt in prompts]
        seconds = self.runner.finish(sequences)
        answers = []
        for i, (sequence, own) in enumerate(zip(sequences, media, strict=True)):
            with _numbered(i):
                answers.append(self.runner.answer(sequence, own.take_seconds(), seconds))
        return answers

    def open(self, media: Any, **kwargs: Any) -> Session:
        """Decode and encode media once, to ask many questions about them.

        Args:
            media: as for `answer`.
            kwargs: as for `answer`; generation options become the defaults of the session's questions.
        """
        on_stage = kwargs.pop("on_stage", None)
        request = as_request(media, None if isinstance(media, Request) else "", kwargs)
        encoded = self._prepare(request, on_stage)
        return Session(self.runner, encoded, system=request.system, options=request.options, on_stage=on_stage)

    # ── media ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self, request: Request, on_stage: OnStage | None = None) -> MediaSet:
        media, chosen = request.media_items(), protocol(request.protocol or self.protocol)
        return self.prepare(media, protocol=chosen, strict=request.strict, on_stage=on_stage)

    def prepare(
        self,
        media: Sequence[Media],
        *,
        protocol: Protocol | None = None,
        strict: bool = False,
        cache: MediaCache | None = None,
        on_stage: OnStage | None = None,
    ) -> MediaSet:
        """Decode and encode media.

        Args:
            protocol: how media are prepared; None: the engine's protocol.
            strict: fail if anything requested would not be used.
            cache: where encoded media are looked up and stored.

        Raises:
            MediaError: a media item can't be used; MediaLost: in strict mode, a requested input would be dropped.
            UnsupportedModality: the model has no encoder for it.
        """
        chosen = protocol or self.protocol
        started = time.perf_counter()
        if media and on_stage:
            on_stage("decoding")
        decoded = [self.decode(item, chosen, cache=cache) for item in media]
        check_losses(decoded, strict=strict)
        decode_seconds = time.perf_counter() - started
        if media and on_stage:
            on_stage("encoding")
        with self.lock:
            items = [self.encode_media(item, cache) for item in decoded]
        return MediaSet(items, chosen.name, decode_seconds, time.perf_counter() - started - decode_seconds)

    def decode(
        self,
        media: Media,
        protocol: Protocol,
        *,
        cache: MediaCache | None = None,
        opener: Opener | None = None,
        name: str | None = None,
    ) -> DecodedMedia:
        """The first stage of `prepare`, for one media item; runs on any thread, without the model.

        Args:
            opener: replaces the engine's.
            name: name of the media item in receipts and messages; None: its own.

        Raises:
            MediaError, UnsupportedModality: as for `prepare`.
        """
        key = None if cache is None else cache.key(media, protocol)
        found = None if cache is None or key is None else cache.get(key)
        if found is not None:
            receipt = found.receipt.renamed(name or source_name(media.source))
            return DecodedMedia(receipt=receipt, encoded=found, key=key)
        try:
            inputs, receipt = self.processor.media_inputs(media, protocol, opener or self.opener)
        except MediaError as error:
            if isinstance(media.source, list | tuple):
                error.add_note("a list is read as the frames of one video; for several media, pass a list of Media")
            raise
        return DecodedMedia(receipt=receipt if name is None else receipt.renamed(name), inputs=inputs, key=key)

    def encode_media(self, decoded: DecodedMedia, cache: MediaCache | None = None) -> EncodedMedia:
        """The second stage of `prepare`: run the encoders, unless another request has just encoded the same item."""
        found = decoded.encoded
        if found is None and cache is not None and decoded.key is not None:
            found = cache.get(decoded.key)
        if found is not None:
            tokens = {name: t.to(self.model.device, self.model.dtype) for name, t in found.tokens.items()}
            return EncodedMedia(tokens=tokens, receipt=decoded.receipt, reused=True, key=decoded.key)
        assert decoded.inputs is not None
        with self.lock:
            encoded = EncodedMedia(
                tokens=self.encode(decoded.inputs), receipt=decoded.receipt, key=None if cache is None else decoded.key
            )
        if cache is not None and decoded.key is not None:
            cache.put(decoded.key, encoded)
        return encoded

    @torch.inference_mode()
    def encode(self, inputs: MediaInputs) -> dict[Modality, torch.Tensor]:
        """Tokens of one media item: [n, D] for each of `image`, `video` and `audio` that it has."""
        model, device = self.model.model, self.model.device
        tokens: dict[Modality, torch.Tensor] = {}
        if inputs.pixels is not None:
            pixels = inputs.pixels.to(device, self.model.dtype)
            if inputs.still:
                tokens["image"] = model.get_image_features(pixels).pooler_output[0]
            else:
                tokens["video"] = model.get_video_features(pixels[None]).pooler_output[0]
        if inputs.fbank is not None:
            tokens["audio"] = model.get_audio_features(inputs.fbank[None].to(device)).pooler_output[0]
        return tokens

    def embed(self, messages: Sequence[Message], media: MediaSet) -> PromptEmbeddings:
        """A prompt as embeddings, with its account: the input that a language model, here or elsewhere, decodes.

        Args:
            messages: their k-th media part stands for the k-th item of `media`.

        Raises:
            PromptError: messages and media don't match. ContextOverflow: the prompt is longer than the context.
        """
        return self.runner.embed(self.runner.tokenise(messages, media.receipts), media)


def check_losses(decoded: Sequence[DecodedMedia], *, strict: bool) -> None:
    """For requested input that will not be used: raise MediaLost in strict mode, else log a warning."""
    losses = [message for item in decoded for message in item.receipt.loss_messages]
    if strict:
        raise_losses(losses)
    for loss in losses:
        logger.warning("%s", loss)


def _request(given: Any, kwargs: dict[str, Any]) -> Request:
    if isinstance(given, Request):
        return given
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise UsageError(f"a request is {given!r:.80}; expected a Request or a pair (media, question).")
    return as_request(given[0], given[1], kwargs)


@contextlib.contextmanager
def _numbered(index: int) -> Iterator[None]:
    """Add the request's number to errors."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in request {index} of the batch")
        raise
