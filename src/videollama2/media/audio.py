"""Audio of any file: mixed to 16 kHz mono, or the first channel at the file's rate (spec §4.4, §4.5).

16 kHz mono    all channels mixed by FFmpeg's resampler in 16-bit steps (5.1: centre and surrounds at -3 dB, no LFE),
               as `ffmpeg -ac 1 -ar 16000 -f s16le` writes them, divided by 32768
first channel  at the file's rate, in float64: what the public implementation uses of an audio file
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from ..errors import EmptyMedia, NoAudioStream, NumericsError, TimeRangeError, UnreadableMedia
from .clip import Wave
from .limits import Limits
from .source import MediaSource

RATE = 16_000
_BLOCK = 1 << 16  # samples per call of the resampler
_PREROLL = 0.5  # seconds decoded before the requested start: codecs with overlapping blocks need them to settle


def audio_stream(container: "av.container.InputContainer", source: MediaSource) -> "av.AudioStream":
    """The best audio stream, with an allowed codec and a plausible header.

    Raises:
        NoAudioStream. UnreadableMedia: its codec or header is not usable. MediaTooLarge: too many channels.
    """
    stream = container.streams.best("audio")
    if stream is None:
        raise NoAudioStream(f"{source.name} has no audio stream; use its video only.")
    codec = stream.codec_context
    if codec is None or codec.name not in source.decoders():
        name = "unknown" if codec is None else codec.name
        raise UnreadableMedia(
            f"{source.name}: audio codec {name!r} is not supported; re-encode it, for example as AAC or WAV."
        )
    if not 1000 <= (codec.sample_rate or 0) <= 1_000_000 or not 1 <= codec.channels <= 64:
        raise UnreadableMedia(
            f"{source.name}: its header says {codec.channels} channels at {codec.sample_rate} Hz; expected 1 to 64 "
            "channels at 1,000 to 1,000,000 Hz."
        )
    source.limits.check_channels(codec.channels, source.name)
    return stream


def decode_audio(
    source: MediaSource,
    limits: Limits,
    *,
    start: float | None = None,
    end: float | None = None,
    mixed: bool = True,
    max_seconds: float | None = None,
) -> Wave:
    """Decode [start, end) seconds of the file's audio, at most `max_seconds`.

    Args:
        mixed: f32 of all channels at 16 kHz; else f64 of the first channel at the file's rate.

    Raises:
        NoAudioStream, MediaTooLarge. EmptyMedia: no samples. TimeRangeError: it ends before `start`.
        NumericsError: NaN or infinite samples.
    """
    with source.container() as container:
        stream = audio_stream(container, source)
        decoder = _Decoder(container, stream, source, limits)
        begin = start or 0.0
        stop = end if max_seconds is None else min(begin + max_seconds, end if end is not None else np.inf)
        sink: _Mixer | _FirstChannel = _Mixer() if mixed else _FirstChannel(stream.codec_context.sample_rate)
        for block in decoder.blocks(begin, stop):
            sink.add(block)
        samples = sink.finish()
        known = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if not known and container.duration and not container.streams.video:
            known = container.duration / av.time_base
        wave = _cut(samples, sink.rate, decoder, start, stop, source, known, stream.codec_context)
        available = max(min(known, end if end is not None else known) - begin, wave.seconds)
        return replace(wave, available_seconds=available)


def _cut(
    samples: NDArray[np.float32] | NDArray[np.float64],
    rate: int,
    decoder: "_Decoder",
    start: float | None,
    stop: float | None,
    source: MediaSource,
    known: float,
    codec: "av.AudioCodecContext",
) -> Wave:
    """Cut the requested range out of what was decoded around it."""
    first = decoder.first_seconds
    if start is not None and not (len(samples) and start < first + len(samples) / rate):
        raise TimeRangeError(f"{source.name}: the audio ends at {max(known, first):.3f} s, before start={start:g}.")
    if not len(samples):
        raise EmptyMedia(
            f"{source.name} has an audio stream without a decodable sample; the file is truncated or corrupt."
        )
    from_sample = max(round(((start or 0.0) - first) * rate), 0) if start else 0
    to_sample = len(samples) if stop is None else max(round((stop - first) * rate), from_sample)
    cut = samples[from_sample:to_sample]
    begins = first + from_sample / rate
    ends = begins + len(cut) / rate
    lost = decoder.lost_seconds
    missing = min(known, known if stop is None else stop) - ends  # promised by the header, not in the file
    if decoder.truncated or missing > max(0.5, 0.02 * known):
        lost = max(lost, missing)
    return Wave(
        samples=cut,
        rate=rate,
        start_seconds=begins,
        lost_seconds=lost,
        channels=codec.channels,
        file_rate=codec.sample_rate,
    )


@dataclass
class _Decoder:
    """Decodes the frames of a range, and counts what can't be decoded."""

    container: "av.container.InputContainer"
    stream: "av.AudioStream"
    source: MediaSource
    limits: Limits
    first_seconds: float = 0.0
    lost_seconds: float = 0.0
    truncated: bool = False

    def blocks(self, start: float, stop: float | None) -> "Iterator[av.AudioFrame]":
        """The frames of a range, joined into blocks of one format: a call into FFmpeg costs more than its samples."""
        fifo, form = av.AudioFifo(), None
        for frame in self._frames(start, stop):
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if now != form:
                if fifo.samples:
                    yield self._checked(fifo.read())
                fifo, form = av.AudioFifo(), now
            frame.pts = None  # timestamps are handled here; the fifo would insist on gapless ones
            fifo.write(frame)
            if fifo.samples >= _BLOCK:
                yield self._checked(fifo.read())
        if fifo.samples:
            yield self._checked(fifo.read())

    def _checked(self, block: "av.AudioFrame") -> "av.AudioFrame":
        """Check for NaN and infinity, which only formats that store floats can hold."""
        stored = (self.stream.codec_context.name or "").startswith(("pcm_f", "wavpack"))
        if stored and not np.isfinite(block.to_ndarray()).all():
            raise NumericsError(f"{self.source.name} has NaN or infinite audio samples; expected finite ones.")
        return block

    def _frames(self, start: float, stop: float | None) -> "Iterator[av.AudioFrame]":
        """Frames that overlap [start - preroll, stop)."""
        zero = (self.container.start_time or 0) / av.time_base
        if start > 2 * _PREROLL:
            self.container.seek(round((start - _PREROLL + zero) * av.time_base))
        seen, expected = 0.0, None
        tick = float(self.stream.time_base or 0)
        for frame in self._decoded():
            at = expected or 0.0 if frame.pts is None else frame.pts * tick - zero
            length = frame.samples / frame.sample_rate
            if expected is None:
                self.first_seconds = at
            elif at - expected > max(2 * length, 0.05):
                self.lost_seconds += at - expected
            expected = at + length
            if stop is not None and at >= stop:
                return
            seen += length
            self.limits.check_seconds(seen, self.source.name)
            self.limits.check_channels(frame.layout.nb_channels, self.source.name)  # may exceed the header's
            yield frame

    def _decoded(self) -> "Iterator[av.AudioFrame]":
        """Every frame from here on; undecodable packets count as lost."""
        tick = float(self.stream.time_base or 0)
        try:
            for packet in self.container.demux(self.stream):
                try:
                    yield from packet.decode()
                except av.error.EOFError:
                    return
                except av.error.FFmpegError:
                    self.lost_seconds += (packet.duration or 0) * tick
        except av.error.FFmpegError:
            self.truncated = True


def mono_resampler() -> "av.AudioResampler":
    """FFmpeg's resampler from any format to 16 kHz mono, 16 bits."""
    return av.AudioResampler("s16", "mono", RATE)


def to_float(parts: Sequence[NDArray[np.int16]]) -> NDArray[np.float32]:
    """16-bit samples, joined, as f32[S] in ±1."""
    whole = np.concatenate(parts) if parts else np.empty(0, np.int16)
    return whole.astype(np.float32) / np.float32(32768)


class _Mixer:
    """Mixes blocks to f32 at 16 kHz, through 16-bit samples."""

    rate = RATE

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._form: tuple[object, ...] = ()
        self._parts: list[NDArray[np.int16]] = []

    def add(self, block: "av.AudioFrame") -> None:
        """Mix a block; a change of format mid-stream starts a new resampler."""
        form = (block.format.name, block.layout.name, block.sample_rate)
        if form != self._form:
            self._flush()
            self._resampler, self._form = mono_resampler(), form
        assert self._resampler is not None
        self._take(self._resampler.resample(block))

    def finish(self) -> NDArray[np.float32]:
        """All samples, ±1."""
        self._flush()
        return to_float(self._parts)

    def _flush(self) -> None:
        if self._resampler is not None:
            self._take(self._resampler.resample(None))
            self._resampler = None

    def _take(self, blocks: "list[av.AudioFrame]") -> None:
        self._parts += [block.to_ndarray().reshape(-1) for block in blocks]


class _FirstChannel:
    """Takes the first channel of blocks as f64 at its rate; integers become fractions of full scale."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._parts: list[NDArray[np.float64]] = []

    def add(self, block: "av.AudioFrame") -> None:
        """Take the first channel of a block."""
        if block.sample_rate != self.rate:
            raise UnreadableMedia(
                f"the sampling rate changes from {self.rate} to {block.sample_rate} Hz mid-stream; re-encode the audio."
            )
        data = block.to_ndarray()
        channel = data[0] if block.format.is_planar else data.reshape(-1, len(block.layout.channels))[:, 0]
        if channel.dtype == np.uint8:
            self._parts.append((channel.astype(np.float64) - 128) / 128)
        elif np.issubdtype(channel.dtype, np.integer):
            self._parts.append(channel / -float(np.iinfo(channel.dtype).min))
        else:
            self._parts.append(channel.astype(np.float64))

    def finish(self) -> NDArray[np.float64]:
        """All samples, ±1."""
        return np.concatenate(self._parts) if self._parts else np.empty(0)
