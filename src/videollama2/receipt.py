"""What was seen and heard: the receipt that comes with every answer (design decision 5).

Nothing is ever silently replaced. What was dropped, cropped, padded or missing stands in `notes`; what an answer
would have needed but did not get also stands in `losses`, and in strict mode is an error instead.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .errors import MediaLost

AudioState = Literal["used", "absent", "silent", "not_requested", "unsupported"]
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class VideoReceipt:
    """What was seen of one medium. A still image is a video of one frame.

    Attributes:
        source: the file as it was named, or a description of what was handed in.
        range_seconds: the part of the medium that was asked for; None: all of it.
        frames_total: frames of the medium.
        frames_used: frames that the model saw (repeats and padding included).
        times_seconds: their presentation times; None where a medium has no clock.
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
    """What was heard of one medium.

    Attributes:
        state: `used`; `absent`: it has no sound; `silent`: every sample is zero; `not_requested`: the caller said so;
            `unsupported`: the model has no audio encoder.
        decoded_seconds: sound decoded in the asked range.
        used_seconds: sound that reached the model, without padding.
        windows_seconds: (start, end) of each stretch that was used.
        padded_seconds: zeros appended after it.
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


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Of one answer. `video` and `audio` are those of the first medium that has them; `media` lists every one.

    `audio` is None where no sound can be expected: of text alone, and of still images. `reused` names the media that
    were decoded and encoded for an earlier request.
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


@dataclass(frozen=True)
class TokenLogprob:
    """How likely one token of an answer was, by the model itself: before temperature, penalties and top_p.

    Attributes:
        token: its id.
        logprob: natural logarithm of its probability.
        top: ids and log probabilities of the likeliest tokens in its place, the likeliest first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """An answer and how it came about.

    Attributes:
        text: what the model said, without control tokens, stripped.
        finish_reason: `stop`: it ended by itself; `length`: max_new_tokens or the context ran out; `cancelled`.
        timings: `decode_seconds` and `encode_seconds` of the media (zero from a session's second question on),
            `prefill_seconds` to the first token, `generate_seconds` for the others, `total_seconds` of these four, and
            `tokens_per_second` after the first. Time in which a stream's reader did something else counts nowhere.
        logprobs: of each token of the text, where the options asked for `top_logprobs`.
    """

    text: str
    finish_reason: FinishReason
    receipt: Receipt
    timings: dict[str, float] = field(default_factory=dict)
    logprobs: tuple[TokenLogprob, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON; without `logprobs` where nobody asked for them."""
        plain = asdict(self)
        return plain if self.logprobs is not None else {k: v for k, v in plain.items() if k != "logprobs"}


def refuse_losses(losses: Sequence[str]) -> None:
    """Strict mode: an error for what was asked for and would not be used.

    Raises:
        MediaLost: there is something in `losses`.
    """
    if losses:
        raise MediaLost(
            f"strict: {'; '.join(losses)}. Change the request (for sound: audio=False, --no-audio), or leave strict off"
        )
