"""A decoded media item: frames with their times, audio with its rate, and what was lost in decoding."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..receipt import AudioState as AudioState

Frame = NDArray[np.uint8]  # [H, W, 3] RGB


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Decoded audio, one channel.

    samples        f32[S] (16 kHz mixdown) or f64[S] (first channel at its own rate), range ±1
    rate           samples per second of `samples`
    start_seconds  time of the first sample in the file
    available_seconds  audio in the requested range, decoded or not, including holes
    lost_seconds   audio that could not be decoded
    notes          holes in the file's audio, which `samples` fill with silence
    channels       of the file
    unheard        why `samples` are silent: a signal that the mix has lost, or a hole in the file's audio; else ""
    """

    samples: NDArray[np.float32] | NDArray[np.float64]
    rate: int
    start_seconds: float = 0.0
    available_seconds: float = 0.0
    lost_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    channels: int = 1
    unheard: str = ""

    @property
    def peak(self) -> float:
        """The loudest sample."""
        return float(max(self.samples.max(initial=0.0), -self.samples.min(initial=0.0)))

    @property
    def seconds(self) -> float:
        """Length of `samples`."""
        return len(self.samples) / self.rate

    @property
    def silent(self) -> bool:
        """Whether no sample is louder than half a step of 16-bit audio."""
        return self.peak < 2.0**-16


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A decoded media item. Holds no file handle.

    source         path, or a description of what was passed in
    kind           "video" (also animations, folders, lists), "image" (one image), "audio" (no frames)
    frames         u8[H, W, 3] each, RGB, upright; sizes may differ within a list; black ones may follow
    frame_indices  index of each real frame in presentation order
    times          f64[T] seconds of each real frame from the beginning of the file
    frames_total   frames in the whole file
    fps            mean frame rate of the file
    end_seconds    where its last frame ends
    range_seconds  (start, end) as requested, None for an open end; None for the whole file
    wave           decoded audio, or None
    audio_state    "used" (present, audible), "silent" (present, all zeros), "absent", "not_requested"
    audio_absent   why the audio is absent, although the file has some
    notes          for the receipt; `losses` are those about requested input that was not used
    """

    source: str
    kind: Literal["video", "image", "audio"]
    frames: tuple[Frame, ...] = ()
    frame_indices: tuple[int, ...] = ()
    times: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    frames_total: int = 0
    fps: float = 0.0
    end_seconds: float = 0.0
    range_seconds: tuple[float | None, float | None] | None = None
    wave: Wave | None = None
    audio_state: AudioState = "not_requested"
    audio_absent: str = ""
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    def with_sound(self, sound: "Clip") -> "Clip":
        """These pictures with the audio of another clip."""
        return replace(
            self,
            wave=sound.wave,
            audio_state=sound.audio_state,
            audio_absent=sound.audio_absent,
            notes=(*self.notes, *sound.notes),
            losses=(*self.losses, *sound.losses),
        )

    @property
    def seconds(self) -> float | None:
        """Where the clip ends: the later end of its frames and its audio; None for a still image.

        Only the requested audio counts, because the rest is not decoded.
        """
        if self.kind == "image":
            return None
        audio = 0.0 if self.wave is None else self.wave.start_seconds + self.wave.available_seconds
        return max(self.end_seconds, audio)

    @property
    def width(self) -> int:
        """Of the first frame, upright; 0 without frames."""
        return self.frames[0].shape[1] if self.frames else 0

    @property
    def height(self) -> int:
        """Of the first frame, upright; 0 without frames."""
        return self.frames[0].shape[0] if self.frames else 0
