"""Receipts: what was used of every media item for an answer, and what was not.

    VideoReceipt, AudioReceipt ── MediaReceipt (one media item, with its losses) ── Receipt (one answer) ── Answer

Nothing is silently replaced. What was dropped, cropped, padded or missing is in `notes`; what was requested and not
used is a `Loss` as well, and an error in strict mode.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from .errors import MediaLost

Modality = Literal["image", "video", "audio"]
MODALITIES: tuple[Modality, ...] = ("image", "video", "audio")
AudioState = Literal["used", "absent", "silent", "not_requested", "unsupported"]
FinishReason = Literal["stop", "length", "cancelled"]
LossKind = Literal["decoding", "audio_range", "audio_channels", "audio_absent", "audio_silent", "audio_unsupported"]


@dataclass(frozen=True, kw_only=True)
class VideoReceipt:
    """What was used of the frames of one media item. A still image is a video of one frame.

    Attributes:
        source: the file's name as given, or a description of what was passed in.
        range_seconds: the requested range; None: all of it.
        frames_total: frames of the media item.
        frames_used: frames given to the model, including repeats and padding.
        times_seconds: their presentation times; None if the media item has no clock.
        tokens: positions in the prompt.
    """

    source: str
    kind: Literal["video", "image"]
    range_seconds: tuple[float, float] | None
    frames_total: int
    frames_used: int
    times_seconds: tuple[float, ...] | None
    tokens: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AudioReceipt:
    """What was used of the audio of one media item.

    Attributes:
        state: `used`; `absent`: it has no audio; `silent`: every sample is zero; `not_requested`; `unsupported`: the
            model has no audio encoder.
        decoded_seconds: audio decoded in the requested range.
        used_seconds: audio given to the model, without padding; overlapping windows count each time.
        windows_seconds: (start, end) of each stretch that was used, in the file's time.
        padded_seconds: zeros appended to it.
        tokens: positions in the prompt.
    """

    source: str
    state: AudioState
    decoded_seconds: float = 0.0
    used_seconds: float = 0.0
    windows_seconds: tuple[tuple[float, float], ...] = ()
    padded_seconds: float = 0.0
    tokens: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loss:
    """Something requested and not used. `detail` says what, without the source's name."""

    kind: LossKind
    detail: str


@dataclass(frozen=True, kw_only=True)
class MediaReceipt:
    """What was used of one media item, apart from its tensors.

    Attributes:
        source: its name in messages.
        losses: what was requested and not used.
    """

    source: str
    video: VideoReceipt | None = None
    audio: AudioReceipt | None = None
    losses: tuple[Loss, ...] = ()

    @property
    def modality(self) -> Modality:
        """The modality of its place in the prompt; a video's audio shares the video's place."""
        return "audio" if self.video is None else self.video.kind

    @property
    def tokens(self) -> dict[Modality, int]:
        """Positions in the prompt, per modality."""
        counts: dict[Modality, int] = {}
        if self.video is not None:
            counts[self.video.kind] = self.video.tokens
        if self.audio is not None and self.audio.tokens:
            counts["audio"] = self.audio.tokens
        return counts

    @property
    def loss_messages(self) -> tuple[str, ...]:
        """The losses as messages."""
        return tuple(f"{self.source}: {loss.detail}" for loss in self.losses)

    def renamed(self, source: str) -> "MediaReceipt":
        """The same media item under another name."""
        return replace(
            self,
            source=source,
            video=None if self.video is None else replace(self.video, source=source),
            audio=None if self.audio is None else replace(self.audio, source=source),
        )


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The account of one answer. `video` and `audio` are those of the first media item that has them.

    `media` lists every receipt. `audio` is None if no audio can be expected: for text alone, and for still images.
    `reused` names the media items that were decoded and encoded for an earlier request. `arithmetic` is the library
    that computes the language model's matrix products (`oneDNN`, `torch`, or both by shape), or `float16 weights`; for
    a GGUF file, its type. `engine` runs the language model (`torch`, `llama.cpp`, `vllm`); `weights` is the GGUF file's
    name.
    """

    model: str
    protocol: str
    device: str
    dtype: str
    video: VideoReceipt | None
    audio: AudioReceipt | None
    media: tuple[VideoReceipt | AudioReceipt, ...] = ()
    notes: tuple[str, ...] = ()
    prompt_tokens: int = 0
    generated_tokens: int = 0
    reused: tuple[str, ...] = ()
    arithmetic: str = "torch"
    engine: str = "torch"
    weights: str = ""


@dataclass(frozen=True)
class TokenLogprob:
    """How likely the model found one token of an answer, before temperature, penalties and top_p.

    Attributes:
        token: its id.
        logprob: natural logarithm of its probability.
        top: ids and log probabilities of the most likely tokens in its place, most likely first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """An answer and how it came about.

    Attributes:
        text: the generated text, without control tokens, stripped.
        finish_reason: `stop`: a stop id or stop text; `length`: max_new_tokens or the end of the context; `cancelled`.
        timings: `decode_seconds` and `encode_seconds` of the media (zero from a session's second question on),
            `prefill_seconds` to the first token, `generate_seconds` for the others, `total_seconds` of these four, and
            `tokens_per_second` after the first. Time that a stream's reader spends elsewhere is not counted.
        logprobs: of each token of the text, if the options requested `top_logprobs`.
    """

    text: str
    finish_reason: FinishReason
    receipt: Receipt
    timings: dict[str, float] = field(default_factory=dict)
    logprobs: tuple[TokenLogprob, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON; without `logprobs` unless they were requested."""
        plain = asdict(self)
        return plain if self.logprobs is not None else {k: v for k, v in plain.items() if k != "logprobs"}


def source_name(source: Any) -> str:
    """The name of a media item in results, receipts and errors: its path, its first frame's, or a description."""
    if isinstance(source, list | tuple) and source:
        return source_name(source[0])
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{len(source)} bytes>"
    # str, not fspath: a server shows an upload by its id
    return str(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"


def raise_losses(losses: Sequence[str]) -> None:
    """Raise, for strict mode, if anything requested would not be used.

    Raises:
        MediaLost: `losses` is not empty.
    """
    if losses:
        raise MediaLost(
            f"strict: {'; '.join(losses)}. Adjust the request (for audio: audio=False, --no-audio), "
            "or turn off strict mode."
        )
