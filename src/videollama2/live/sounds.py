"""Sound as it comes, at any rate, to the last seconds of it at 16 kHz."""

import math
from collections import deque

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import NumericsError, UsageError
from ..media.audio import RATE

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_TOLERATED = 0.25  # seconds that a caller's clock may wander from the count of samples
MOST_AT_ONCE = 600.0  # seconds of one push


class SoundBuffer:
    """One channel at 16 kHz, no more than `seconds` of it. Not safe to use from several threads.

    Attributes:
        end: seconds, on the caller's clock, at which the sound ends; None before any came.
        filled: seconds of silence that stand where no sound came.
        dropped: seconds that came twice, and were used once.
    """

    def __init__(self, seconds: float) -> None:
        self.end: float | None = None
        self.filled = self.dropped = 0.0
        self._most = math.ceil(seconds * RATE)
        self._parts: deque[NDArray[np.float32]] = deque()
        self._held = 0
        self._form: tuple[int, int] = (0, 0)
        self._resampler: av.AudioResampler | None = None

    def push(self, samples: NDArray[np.generic], rate: int, time: float) -> None:
        """Take sound that begins at `time` seconds.

        Args:
            samples: float [S] or [S, channels] (±1), or int16 of these shapes; 1, 2 or 6 channels.
            rate: samples per second.

        Raises:
            UsageError: another shape, type or rate. NumericsError: NaN or infinity.
        """
        block = _checked(samples, rate)
        missing = 0.0 if self.end is None else time - self.end
        if self.end is None:
            self.end = time
        elif missing > _TOLERATED:
            self.filled += missing
            self._add(np.zeros(min(round(missing * RATE), self._most), np.float32))
            self.end = time
        elif missing < -_TOLERATED:
            again = min(round(-missing * rate), len(block))
            self.dropped += again / rate
            block = block[again:]
        if len(block):
            self.end += len(block) / rate
            self._add(self._at_16k(block, rate))

    def last(self, start: float) -> tuple[NDArray[np.float32], float]:
        """What there is from `start` seconds on, and the second of its first sample."""
        if self.end is None:
            return np.empty(0, np.float32), start
        held = np.concatenate(list(self._parts)) if self._parts else np.empty(0, np.float32)
        begins = self.end - len(held) / RATE
        skip = min(max(round((start - begins) * RATE), 0), len(held))
        return held[skip:].copy(), begins + skip / RATE

    def _at_16k(self, block: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
        """As media/audio.py mixes it: by FFmpeg, in 16-bit steps. The resampler holds a few samples back."""
        form = (rate, block.shape[1])
        if form != self._form:
            self._resampler, self._form = av.AudioResampler("s16", "mono", RATE), form
        assert self._resampler is not None
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout=_LAYOUTS[block.shape[1]])
        frame.sample_rate = rate
        found = [part.to_ndarray().reshape(-1) for part in self._resampler.resample(frame)]
        whole = np.concatenate(found) if found else np.empty(0, np.int16)
        return whole.astype(np.float32) / np.float32(32768)

    def _add(self, part: NDArray[np.float32]) -> None:
        self._parts.append(part)
        self._held += len(part)
        while self._held - len(self._parts[0]) >= self._most:
            self._held -= len(self._parts.popleft())
        if len(self._parts) > 4096:  # of very short pushes
            self._parts = deque([np.concatenate(list(self._parts))[-self._most :]])
            self._held = len(self._parts[0])


def _checked(samples: NDArray[np.generic], rate: int) -> NDArray[np.int16]:
    """int16 [S, channels]."""
    found = np.asarray(samples)
    block = found[:, None] if found.ndim == 1 else found
    if block.ndim != 2 or block.shape[1] not in _LAYOUTS or block.dtype not in (np.float32, np.float64, np.int16):
        raise UsageError(
            f"the sound is {found.dtype}{list(found.shape)}; expected float or int16 [samples] or [samples, channels] "
            "of 1, 2 or 6 channels"
        )
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not 1000 <= rate <= 1_000_000:
        raise UsageError(f"rate={rate!r}; expected a whole number of samples per second, from 1,000 to 1,000,000")
    if len(block) > MOST_AT_ONCE * rate:
        raise UsageError(f"{len(block) / rate:.0f} s of sound at once; push at most {MOST_AT_ONCE:g} s")
    if block.dtype == np.int16:
        return np.ascontiguousarray(block, np.int16)
    if not np.isfinite(block).all():
        raise NumericsError("the sound holds NaN or infinite samples; expected finite ones, ±1")
    return np.round(np.clip(block, -1, 1) * 32767).astype(np.int16)
