"""Numbered frames of a media item: listed without decoding (FrameIndex), chosen by sampling.py, then decoded.

A video (video.py), an animation, a folder and a list of images (images.py) are all FrameSources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .clip import Frame


@dataclass(frozen=True, kw_only=True)
class FrameIndex:
    """All frames of a media item, listed without decoding them.

    times    f64[N] seconds of each frame from the beginning, ascending
    fps      mean frames per second
    stated_end  seconds at which the last frame ends, where the file states it
    notes    anything unusual; losses  those that mean lost frames
    """

    times: NDArray[np.float64]
    fps: float
    stated_end: float | None = None
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.times)

    @property
    def end_seconds(self) -> float:
        """Seconds at which the last frame ends; where unknown, it lasts as long as the mean of the others, or 1 s."""
        if self.stated_end is not None:
            return self.stated_end
        n = len(self.times)
        return float(self.times[-1] + ((self.times[-1] - self.times[0]) / (n - 1) if n > 1 else 1.0))


@dataclass(frozen=True, kw_only=True)
class DecodedFrames:
    """RGB frames in the requested order, the indices actually decoded, what could not be, and notes on the rest."""

    frames: tuple[Frame, ...]
    indices: tuple[int, ...]
    losses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class FrameSource(Protocol):
    """Anything with numbered frames: a video, an animation, a folder, a list."""

    @property
    def index(self) -> FrameIndex:
        """All frames."""

    def decode(self, indices: Sequence[int]) -> DecodedFrames:
        """These frames, in any order, with repeats."""
