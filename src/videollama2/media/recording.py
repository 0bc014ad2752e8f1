"""Frames and audio already in memory, on one clock: from a camera, or another decoder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import EmptyMedia, TimeRangeError, UsageError
from ..protocols import Protocol
from .clip import Clip, Frame, Wave
from .mixing import RATE


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A media item in memory.

    frames        u8[H, W, 3] RGB each
    times         the time in seconds of each frame, ascending, on the audio's clock
    samples       f32[S], one channel at 16 kHz, ±1; empty or None without audio
    audio_start   the time in seconds of the first sample
    name, notes   for receipts
    """

    frames: Sequence[Frame] = ()
    times: Sequence[float] = ()
    samples: NDArray[np.float32] | None = None
    audio_start: float = 0.0
    name: str = "<recording>"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.times):
            raise UsageError(
                f"{len(self.frames)} frames with {len(self.times)} times; expected one time for each frame."
            )
        samples = self.samples
        if samples is not None and (samples.ndim != 1 or samples.dtype != np.float32 or not np.isfinite(samples).all()):
            raise UsageError(
                f"the audio is {samples.dtype}{list(samples.shape)}; expected float32 [samples], finite, ±1."
            )
        if not len(self.frames) and not self._has_audio:
            raise EmptyMedia(f"{self.name} has neither frames nor audio.")

    @property
    def _has_audio(self) -> bool:
        return self.samples is not None and len(self.samples) > 0

    def between(self, start: float | None, end: float | None) -> "Recording":
        """The frames and audio from `start` to `end` seconds.

        Raises:
            TimeRangeError: nothing is in the range.
        """
        first, last = start or 0.0, math.inf if end is None else end
        kept = [i for i, time in enumerate(self.times) if first <= time < last]
        samples, begin = self.samples, self.audio_start
        if samples is not None:
            cut_from = min(max(round((first - begin) * RATE), 0), len(samples))
            cut_to = len(samples) if end is None else max(round((last - begin) * RATE), cut_from)
            samples, begin = samples[cut_from:cut_to], begin + cut_from / RATE
        if not kept and (samples is None or not len(samples)):
            where = f"after {first:g} s" if end is None else f"from {first:g} to {last:g} s"
            raise TimeRangeError(f"{self.name} has no frames or audio {where}; choose a range within it.")
        return replace(
            self,
            frames=tuple(self.frames[i] for i in kept),
            times=tuple(self.times[i] for i in kept),
            samples=samples,
            audio_start=begin,
        )

    def with_audio(self, clip: Clip, protocol: Protocol) -> Clip:
        """Add the audio to the clip of the frames, as the protocol uses a video's audio."""
        if self.samples is None or not len(self.samples):
            return replace(clip, audio_state="absent")
        windows = bool(self.frames) and protocol.video_audio == "eight_windows"  # they spread over all of the audio
        most = len(self.samples) if windows else round(protocol.audio_seconds * RATE)
        wave = Wave(
            samples=self.samples[:most],
            rate=RATE,
            start_seconds=self.audio_start,
            available_seconds=len(self.samples) / RATE,
        )
        return replace(clip, wave=wave, audio_state="silent" if wave.silent else "used")
