"""Buffers the last seconds of audio at 16 kHz; the audio may arrive in pieces and at any rate."""

import math
from collections import deque

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import NumericsError, UsageError
from ..media.mixing import RATE, mono_resampler, to_float

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_CLOCK_TOLERANCE = 0.25  # seconds that a caller's clock may drift from the sample count
MAX_PUSH_SECONDS = 600.0


class AudioBuffer:
    """Up to `seconds` of one channel at 16 kHz. Not thread-safe.

    Attributes:
        end: seconds, on the caller's clock, at which the audio ends; None until the first push.
        filled: seconds of silence inserted into gaps.
        dropped: seconds that arrived again and were dropped.
    """

    def __init__(self, seconds: float) -> None:
        self.end: float | None = None
        self.filled = self.dropped = 0.0
        self._max_samples = math.ceil(seconds * RATE)
        self._parts: deque[NDArray[np.float32]] = deque()
        self._held = 0
        self._form: tuple[int, int] = (0, 0)
        self._resampler: av.AudioResampler | None = None

    def push(self, samples: NDArray[np.generic], rate: int, time: float) -> None:
        """Append audio that starts at `time` seconds.

        Args:
            samples: float [S] or [S, channels] (±1), or int16 of these shapes; 1, 2 or 6 channels.
            rate: samples per second.

        Raises:
            UsageError: another shape, dtype or rate. NumericsError: NaN or infinity.
        """
        block = _checked_block(samples, rate)
        gap = 0.0 if self.end is None else time - self.end
        if self.end is None:
            self.end = time
        elif gap > _CLOCK_TOLERANCE:
            self.filled += gap
            self._append(np.zeros(min(round(gap * RATE), self._max_samples), np.float32))
            self.end = time
        elif gap < -_CLOCK_TOLERANCE:
            repeated = min(round(-gap * rate), len(block))
            self.dropped += repeated / rate
            block = block[repeated:]
        if len(block):
            self.end += len(block) / rate
            self._append(self._to_16k(block, rate))

    def last(self, start: float) -> tuple[NDArray[np.float32], float]:
        """The audio from `start` seconds on, and the time of its first sample."""
        if self.end is None:
            return np.empty(0, np.float32), start
        held = np.concatenate(list(self._parts)) if self._parts else np.empty(0, np.float32)
        begins = self.end - len(held) / RATE
        skip = min(max(round((start - begins) * RATE), 0), len(held))
        return held[skip:].copy(), begins + skip / RATE

    def _to_16k(self, block: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
        """Mix as media/audio_decoder.py does. The resampler holds back a few samples."""
        form = (rate, block.shape[1])
        if form != self._form:
            self._resampler, self._form = mono_resampler(), form
        assert self._resampler is not None
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout=_LAYOUTS[block.shape[1]])
        frame.sample_rate = rate
        return to_float([part.to_ndarray().reshape(-1) for part in self._resampler.resample(frame)])

    def _append(self, part: NDArray[np.float32]) -> None:
        self._parts.append(part)
        self._held += len(part)
        while self._held - len(self._parts[0]) >= self._max_samples:
            self._held -= len(self._parts.popleft())
        if len(self._parts) > 4096:  # many very short pushes
            self._parts = deque([np.concatenate(list(self._parts))[-self._max_samples :]])
            self._held = len(self._parts[0])


def _checked_block(samples: NDArray[np.generic], rate: int) -> NDArray[np.int16]:
    """int16 [S, channels]."""
    array = np.asarray(samples)
    block = array[:, None] if array.ndim == 1 else array
    if block.ndim != 2 or block.shape[1] not in _LAYOUTS or block.dtype not in (np.float32, np.float64, np.int16):
        raise UsageError(
            f"the audio is {array.dtype}{list(array.shape)}; expected float or int16 [samples] or [samples, channels] "
            "with 1, 2 or 6 channels."
        )
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not 1000 <= rate <= 1_000_000:
        raise UsageError(f"rate={rate!r}; expected an integer from 1,000 to 1,000,000 samples per second.")
    if len(block) > MAX_PUSH_SECONDS * rate:
        raise UsageError(f"{len(block) / rate:.0f} s of audio in one push; the limit is {MAX_PUSH_SECONDS:g} s.")
    if block.dtype == np.int16:
        return np.ascontiguousarray(block, np.int16)
    if not np.isfinite(block).all():
        raise NumericsError("the audio has NaN or infinite samples; expected finite ones, ±1.")
    return np.round(np.clip(block, -1, 1) * 32767).astype(np.int16)
