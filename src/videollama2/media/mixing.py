"""Blocks of decoded audio to one channel: mixed at 16 kHz, or one channel at the file's rate.

known layouts       mixed by FFmpeg's resampler
N channels, N not   no layout: their mean, but two are stereo, six 5.1 and eight 7.1, as players take them
  1, 2, 6 or 8
ambisonics          its first channel, which is omnidirectional
"""

from collections.abc import Sequence

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableMedia

RATE = 16_000
_MAX_PLANES = 7  # the most that PyAV reads safely: with more, the list it scans has no end marker
_ASSUMED = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def mono_resampler() -> "av.AudioResampler":
    """FFmpeg's resampler from any format to 16 kHz mono, 16 bits."""
    return av.AudioResampler("s16", "mono", RATE)


def to_float(parts: Sequence[NDArray[np.int16]]) -> NDArray[np.float32]:
    """16-bit samples, joined, as f32[S] in ±1."""
    whole = np.concatenate(parts) if parts else np.empty(0, np.int16)
    return whole.astype(np.float32) / np.float32(32768)


class Mixer:
    """Mixes blocks to f32 at 16 kHz, through 16-bit samples.

    notes  on layouts that are not mixed as players do
    """

    rate = RATE

    def __init__(self, channel: int | None = None) -> None:
        """`channel`: use this one alone, from 0."""
        self._channel = channel
        self._resampler: av.AudioResampler | None = None
        self._form: tuple[object, ...] = ()
        self._parts: list[NDArray[np.int16]] = []
        self._by_hand = False
        self.notes: tuple[str, ...] = ()

    def add(self, block: "av.AudioFrame") -> None:
        """Mix a block; a change of format mid-stream starts a new resampler."""
        form = (block.format.name, block.layout.name, block.sample_rate)
        if form != self._form:
            self._flush()
            self._resampler, self._form = mono_resampler(), form
            self._by_hand = self._channel is not None or self._has_no_mix(block.layout)
        assert self._resampler is not None
        if not self._by_hand:
            try:
                self._take(self._resampler.resample(block))
            except (av.error.FFmpegError, ValueError):  # FFmpeg has no mix of this layout, such as 22.2
                self._resampler, self._by_hand = mono_resampler(), True
                self._note(f"the layout {block.layout.name} can't be mixed: its channels are averaged")
            else:
                return
        self._take(self._resampler.resample(self._one_channel(block)))

    def finish(self) -> NDArray[np.float32]:
        """All samples, ±1."""
        self._flush()
        return to_float(self._parts)

    def _has_no_mix(self, layout: "av.AudioLayout") -> bool:
        name, count = layout.name, layout.nb_channels
        if name.startswith("ambisonic"):
            self._note(f"ambisonics of {count} channels: only the first, omnidirectional one is used")
            return True
        if name != f"{count} channels":
            return False
        if count not in _ASSUMED:
            self._note(f"its {count} channels have no layout: they are averaged")
            return True
        if count > 2:
            self._note(f"its {count} channels have no layout: {_ASSUMED[count]} is assumed")
        return False

    def _note(self, note: str) -> None:
        self.notes += (note,) if note not in self.notes else ()

    def _one_channel(self, block: "av.AudioFrame") -> "av.AudioFrame":
        samples = channels_of(block)
        if self._channel is not None:
            mono = samples[min(self._channel, len(samples) - 1)]
        else:
            mono = samples[0] if block.layout.name.startswith("ambisonic") else samples.mean(axis=0)
        frame = av.AudioFrame.from_ndarray(mono.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = block.sample_rate
        return frame

    def _flush(self) -> None:
        if self._resampler is not None:
            self._take(self._resampler.resample(None))
            self._resampler = None

    def _take(self, blocks: "list[av.AudioFrame]") -> None:
        self._parts += [block.to_ndarray().reshape(-1) for block in blocks]


class OneChannel:
    """Takes one channel of blocks as f64 at its rate; integers become fractions of full scale."""

    def __init__(self, rate: int, channel: int = 0) -> None:
        self.rate, self._channel = rate, channel
        self._parts: list[NDArray[np.float64]] = []

    def add(self, block: "av.AudioFrame") -> None:
        """Take the channel of a block."""
        if block.sample_rate != self.rate:
            raise UnreadableMedia(
                f"the sampling rate changes from {self.rate} to {block.sample_rate} Hz mid-stream; re-encode the audio."
            )
        samples = channels_of(block)
        self._parts.append(samples[min(self._channel, len(samples) - 1)])

    def finish(self) -> NDArray[np.float64]:
        """All samples, ±1."""
        return np.concatenate(self._parts) if self._parts else np.empty(0)


def channels_of(block: "av.AudioFrame") -> NDArray[np.float64]:
    """f64[channels, samples], ±1."""
    if block.format.is_planar and block.layout.nb_channels > _MAX_PLANES:
        packed = av.AudioResampler(block.format.packed, block.layout, block.sample_rate)
        block = packed.resample(block)[0]
    data = block.to_ndarray()
    samples = data if block.format.is_planar else data.reshape(-1, block.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float64) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return samples / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float64)
