"""Protocols: named sets of choices about how a file becomes the model's inputs.

A protocol is data. `released` is what the public implementation computes (spec §4), minus its randomness; `full` is
this package's own, better behaviour; `paper` is the published evaluation setting. Derive new ones with `replace`:

    PROTOCOLS["squared"] = replace(FULL, name="squared", aspect="pad")
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .errors import UsageError, did_you_mean

RELEASED_SECONDS = 30.0  # the public implementation cuts or pads all audio to this length


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The choices between a file and the model's inputs; each field is read in one place in `media/`.

    Pictures
        sampling          "uniform": the centres of `num_frames` equal segments; "fps": one frame per second
        max_frames        upper limit of frames
        frame_clock       how seconds choose candidate frames: "index" = second x mean fps (the public arithmetic, which
                          begins one frame early); "time" = presentation time within [start, end)
        given_frames      a list or array of frames: "keep" every item up to max_frames, or "sample" it like a video;
                          with "keep", videos over max_frames are cut there, too, not thinned out
        short             fewer frames than requested: add "black" frames of transposed size, or "repeat" frames
        gif_fps           frame rate assumed for animations by index arithmetic; None = their own durations
        folder_fps        frames per second of a folder of images
        folder_order      order of its files: "text" = 1, 10, 2, as sorted() has it; "natural" = 1, 2, 10, and a number
                          missing from a sequence leaves its place empty
        aspect            "none", or "pad" to a square first

    Audio
        file_audio        of an audio file: "first_channel" at its own rate, cut or padded to 30 s, Fourier resampling;
                          "whole" = all channels mixed, 16 kHz
        video_audio       of a video: "eight_windows" of 2 s; "whole"
        audio_in_range    cut audio to the requested range
        absent_audio      a video without audio: "silence" encodes 30 s of zeros; "skip" none (of silence, too)
        audio_seconds     upper limit of audio used, in seconds
        pad_audio         pad to audio_seconds with zeros
        fbank_dtype       dtype that the fbank is rounded to: "bfloat16" or "float32"
    """

    name: str
    summary: str
    sampling: Literal["uniform", "fps"] = "uniform"
    max_frames: int = 32
    frame_clock: Literal["index", "time"] = "index"
    given_frames: Literal["keep", "sample"] = "keep"
    short: Literal["black", "repeat"] = "black"
    gif_fps: float | None = 25.0
    folder_fps: float = 3.0
    folder_order: Literal["text", "natural"] = "text"
    aspect: Literal["none", "pad"] = "none"
    file_audio: Literal["first_channel", "whole"] = "first_channel"
    video_audio: Literal["eight_windows", "whole"] = "eight_windows"
    audio_in_range: bool = False
    absent_audio: Literal["silence", "skip"] = "silence"
    audio_seconds: float = RELEASED_SECONDS
    pad_audio: bool = True
    fbank_dtype: Literal["bfloat16", "float32"] = "bfloat16"

    def key(self) -> dict[str, Any]:
        """Every field, under the names that caches on disk were first written with: audio was called sound."""
        return {name.replace("audio", "sound"): value for name, value in asdict(self).items()}

    @property
    def as_shown(self) -> bool:
        """Whether pictures have a player's colours and square pixels; else those that are stored."""
        return self.frame_clock == "time"


RELEASED = Protocol(
    name="released",
    summary="what the public implementation's model_init + mm_infer compute, with a fixed instead of a random crop",
)
PAPER = replace(
    RELEASED,
    name="paper",
    summary="the published evaluation setting: as released, but frames padded to squares",
    aspect="pad",
)
FULL = Protocol(
    name="full",
    summary="all audio of the requested range, no padding, frames by their true times",
    frame_clock="time",
    given_frames="sample",
    short="repeat",
    gif_fps=None,
    folder_order="natural",
    file_audio="whole",
    video_audio="whole",
    audio_in_range=True,
    absent_audio="skip",
    audio_seconds=60.0,
    pad_audio=False,
    fbank_dtype="float32",
)

PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (RELEASED, FULL, PAPER)}


def protocol(name: str | Protocol) -> Protocol:
    """The protocol of that name; a Protocol is returned unchanged.

    Raises:
        UsageError: an unknown name; the message suggests the nearest and lists all.
    """
    if isinstance(name, Protocol):
        return name
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    hint = did_you_mean(name, PROTOCOLS) or "."
    raise UsageError(f"unknown protocol {name!r}{hint} Expected one of {', '.join(PROTOCOLS)}.")


def as_sound_of_video(chosen: Protocol) -> Protocol:
    """The protocol under which a separate audio file is decoded as a video's own audio would be."""
    everything = chosen.video_audio == "eight_windows"  # which spread over all of it
    seconds = float("inf") if everything else chosen.audio_seconds
    return replace(chosen, file_audio="whole", audio_seconds=seconds)
