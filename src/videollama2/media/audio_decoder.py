"""Audio of any file: mixed to 16 kHz mono, or the first channel at the file's rate (spec §4.4, §4.5).

16 kHz mono    all channels mixed by FFmpeg's resampler in 16-bit steps (5.1: centre and surrounds at -3 dB, no LFE),
               as `ffmpeg -ac 1 -ar 16000 -f s16le` writes them, divided by 32768. Channels without a layout: their
               mean; ambisonics: the first channel, which is omnidirectional
first channel  at the file's rate, in float64: what the public implementation uses of an audio file
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from ..errors import EmptyMedia, NoAudioStream, NumericsError, TimeRangeError, UnreadableMedia
from .clip import Wave
from .limits import Limits
from .mixing import RATE, Mixer, OneChannel, channels_of
from .packets import CONTINUOUS, read_timeline
from .source import MediaSource
from .timeline import Timeline, ticks_of
from .tracks import choose_track, read_only

_BLOCK = 1 << 16  # samples per call of the resampler
_PREROLL = 0.5  # seconds decoded before the requested start: codecs with overlapping blocks need them to settle
_MAX_WAITING = 4  # blocks between decoding and mixing
_HOLE = 0.1  # seconds by which a timestamp may differ from the sample count: less is rounding and jitter


def audio_stream(container: "av.container.InputContainer", source: MediaSource) -> "av.AudioStream":
    """The chosen audio stream (tracks.py), with an allowed codec and a plausible header.

    Raises:
        NoAudioStream. UsageError: the caller's choice is not in the file.
        UnreadableMedia: its codec or header is not usable. MediaTooLarge: too many channels.
    """
    track = choose_track(container, source, "audio")
    if track is None:
        raise NoAudioStream(f"{source.name} has no audio stream; use its video only.")
    stream: av.AudioStream = track.stream
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
    channel: int | None = None,
    max_seconds: float | None = None,
    timeline: Timeline | None = None,
) -> Wave:
    """Decode [start, end) seconds of the file's audio, at most `max_seconds`.

    Samples are placed by their timestamps: a hole in the timestamps becomes silence.

    Args:
        mixed: f32 of all channels at 16 kHz; else f64 of the first channel at the file's rate.
        channel: this one alone instead, from 0.
        timeline: of this file, with its audio stream; None to read it.

    Raises:
        NoAudioStream, MediaTooLarge. EmptyMedia: no samples. TimeRangeError: none in the range.
        NumericsError: NaN or infinite samples.
    """
    if timeline is None:
        with source.container() as container:
            timeline = read_timeline(container, source, [audio_stream(container, source)])
    begin = start or 0.0
    stop = end if max_seconds is None else min(begin + max_seconds, end if end is not None else np.inf)
    runs, decoder = _decode_runs(source, limits, timeline, begin, stop, mixed=mixed, channel=channel)
    if not runs and not begin:
        raise EmptyMedia(
            f"{source.name} has an audio stream without a decodable sample; the file is truncated or corrupt."
        )
    first = min(decoder.starts, runs[0].start if runs else np.inf)
    last = runs[-1].end if runs else first
    known = decoder.ends if decoder.ends is not None else last
    if not decoder.continues and begin >= last:
        raise TimeRangeError(f"{source.name}: the audio ends at {max(known, last):.3f} s, before start={begin:g}.")
    if end is not None and end <= first:
        raise TimeRangeError(f"{source.name}: the audio begins at {first:.3f} s, after end={end:g}.")
    shown_from, shown_to = max(begin, first), last
    if stop is not None and (decoder.continues or stop < last):
        shown_to = max(stop, shown_from)
    samples, holes = _assemble(runs, decoder.rate, shown_from, shown_to, mixed=mixed)
    ends = shown_from + len(samples) / decoder.rate
    lost = decoder.lost_seconds
    missing = min(known, known if stop is None else stop) - ends  # promised by the header, not in the file
    if decoder.truncated or missing > max(0.5, 0.02 * (known - first)):
        lost = max(lost, missing)
    available = min(known, end if end is not None else known) - shown_from
    hole_notes = _hole_notes(holes)
    is_hole = sum(hole_end - hole_start for hole_start, hole_end in holes) >= ends - shown_from - 2 / decoder.rate
    return Wave(
        samples=samples,
        rate=decoder.rate,
        start_seconds=shown_from,
        available_seconds=max(available, len(samples) / decoder.rate),
        lost_seconds=lost,
        notes=(*decoder.notes, *(() if is_hole else hole_notes)),
        unheard=" ".join(hole_notes) if is_hole else "",
        channels=decoder.channels,
    )


@dataclass(frozen=True)
class _Stretch:
    """Samples without a hole, and the seconds at which the first one is presented."""

    start: float
    samples: NDArray[np.float32] | NDArray[np.float64]
    rate: int

    @property
    def end(self) -> float:
        return self.start + len(self.samples) / self.rate


def _decode_runs(
    source: MediaSource,
    limits: Limits,
    timeline: Timeline,
    begin: float,
    stop: float | None,
    *,
    mixed: bool,
    channel: int | None,
) -> "tuple[list[_Stretch], _Decoder]":
    """The runs of a range, after a seek close to it, or from the start of the file if the seek overshot the range."""
    for seek in (True, False):
        with source.container(probe=False) as container:
            stream = audio_stream(container, source)
            read_only(container, [stream])
            decoder = _Decoder(container, stream, source, limits, timeline, mixed=mixed, channel=channel)
            runs = decoder.runs(begin, stop, seek=seek)
        late = not runs or runs[0].start > max(begin, decoder.starts) + _HOLE
        if not (decoder.has_sought and late):
            break
    return runs, decoder


def _assemble(
    runs: Sequence[_Stretch], rate: int, begin: float, end: float, *, mixed: bool
) -> tuple[NDArray[np.float32] | NDArray[np.float64], list[tuple[float, float]]]:
    """The samples from `begin` to `end`, zeros in holes, and the (start, end) seconds of these.

    Where runs overlap, the earlier one is kept.
    """
    if len(runs) == 1 and runs[0].start <= begin + 0.5 / rate and end <= runs[0].end + 0.5 / rate:
        first = max(round((begin - runs[0].start) * rate), 0)
        return runs[0].samples[first : max(round((end - runs[0].start) * rate), first)], []
    dtype: type[Any] = np.float32 if mixed else np.float64
    whole: NDArray[Any] = np.zeros(max(round((end - begin) * rate), 0), dtype)
    filled, holes = 0, []
    for run in runs:
        at = round((run.start - begin) * rate)
        samples = run.samples[max(filled - at, 0) : max(len(whole) - at, 0)]
        at = max(at, filled)
        if not len(samples):
            continue
        if at - filled > _HOLE * rate:
            holes.append((begin + filled / rate, begin + at / rate))
        whole[at : at + len(samples)] = samples
        filled = at + len(samples)
    if len(whole) - filled > _HOLE * rate:
        holes.append((begin + filled / rate, end))
    return whole, holes


def _hole_notes(holes: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    """A note on holes that were filled with silence."""
    if not holes:
        return ()
    shown = ", ".join(f"{start:.2f} to {end:.2f} s" for start, end in holes[:4])
    if len(holes) > 4:
        shown += f" and {len(holes) - 4} more times ({sum(end - start for start, end in holes):.1f} s in total)"
    return (f"the file has no audio from {shown}; silence was inserted",)


class _Decoder:
    """Decodes the audio of a range, and counts what can't be decoded.

    starts, ends    seconds that the track covers, as far as its timeline says; `ends` may be None
    continues       whether the track continues after the range
    has_sought      whether decoding began with a seek
    lost_seconds    audio that could not be decoded; truncated  whether reading stopped with an error
    """

    def __init__(
        self,
        container: "av.container.InputContainer",
        stream: "av.AudioStream",
        source: MediaSource,
        limits: Limits,
        timeline: Timeline,
        *,
        mixed: bool,
        channel: int | None,
    ) -> None:
        self._container, self._stream, self._source, self._limits = container, stream, source, limits
        self._timeline, self._mixed, self._channel = timeline, mixed, channel
        self.starts, self.ends = timeline.tracks.get(stream.index, (0.0, None))
        if timeline.cut_off and container.duration and not container.streams.video:
            self.ends = container.duration / av.time_base
        self.channels, self.file_rate = stream.codec_context.channels, stream.codec_context.sample_rate
        self.rate = RATE if mixed else self.file_rate
        self.continues = self.has_sought = self.truncated = False
        self.lost_seconds = 0.0
        self.notes: tuple[str, ...] = ()
        self._unread = 0.0  # seconds of undecodable packets since the last frame
        self._began = True

    def runs(self, start: float, stop: float | None, *, seek: bool) -> list[_Stretch]:
        """The samples that overlap [start - preroll, stop), in pieces without holes."""
        sinks: list[tuple[float, Mixer | OneChannel]] = []
        with ThreadPoolExecutor(1) as mixing:  # beside decoding; with one thread, in order
            mixed: deque[Future[None]] = deque()
            for at, block in self._blocks(start, stop, seek=seek):
                if at is not None:
                    sinks.append((at, self._sink()))
                mixed.append(mixing.submit(sinks[-1][1].add, self._checked(block)))
                if len(mixed) > _MAX_WAITING:
                    mixed.popleft().result()
            for done in mixed:
                done.result()
        runs = [_Stretch(begin, sink.finish(), sink.rate) for begin, sink in sinks]
        if sinks and isinstance(last := sinks[-1][1], Mixer):
            self.notes = last.notes
        return [run for run in runs if len(run.samples)]

    def _sink(self) -> Mixer | OneChannel:
        return Mixer(self._channel) if self._mixed else OneChannel(self.file_rate, self._channel or 0)

    def _blocks(
        self, start: float, stop: float | None, *, seek: bool
    ) -> "Iterator[tuple[float | None, av.AudioFrame]]":
        """The frames of a range, joined into blocks of one format: a call into FFmpeg costs more than its samples.

        A block that begins a new run comes with its time in seconds.
        """
        fifo, form, at = av.AudioFifo(), None, None
        for begins, frame in self._frames(start, stop, seek=seek):
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if begins is not None or now != form:
                if fifo.samples:
                    yield at, fifo.read()
                    at = None
                fifo, form = av.AudioFifo(), now
                at = begins if begins is not None else at
            frame.pts = None  # timestamps are handled here; the fifo would insist on gapless ones
            fifo.write(frame)
            if fifo.samples >= _BLOCK:
                yield at, fifo.read()
                at = None
        if fifo.samples:
            yield at, fifo.read()

    def _checked(self, block: "av.AudioFrame") -> "av.AudioFrame":
        """Check for NaN and infinity, which only formats that store floats can hold."""
        stored = (self._stream.codec_context.name or "").startswith(("pcm_f", "wavpack"))
        if stored and not np.isfinite(channels_of(block)).all():
            raise NumericsError(f"{self._source.name} has NaN or infinite audio samples; expected finite ones.")
        return block

    def _frames(
        self, start: float, stop: float | None, *, seek: bool
    ) -> "Iterator[tuple[float | None, av.AudioFrame]]":
        """Frames that overlap [start - preroll, stop); one that starts a new run comes with its time in seconds."""
        zero, tick = float(self._timeline.zero), float(self._stream.time_base or 0)
        if seek and start > 2 * _PREROLL and self._stream.index not in self._timeline.joins:
            self.has_sought = self._seek(start - _PREROLL + zero)
            self._began = not self.has_sought
        seen, expected, continued = 0.0, None, False
        for frame in self._decoded():
            at = expected or 0.0 if frame.pts is None else frame.pts * tick - zero
            length = frame.samples / frame.sample_rate
            if stop is not None and at >= stop:
                self.continues = True
                return
            if expected is not None and abs(at - expected) > max(2 * length, _HOLE):
                self._count_hole(at - expected)
                continued = False
            self._unread, self._began = 0.0, True
            begins = None if continued else at
            expected = (expected if continued and expected is not None else at) + length
            if not self.has_sought and at + length <= start - 2 * _PREROLL:
                continue  # it is decoded only because the file can't be entered later
            continued = True
            seen += length
            self._limits.check_seconds(seen, self._source.name)
            self._limits.check_channels(frame.layout.nb_channels, self._source.name)  # may exceed the header's
            yield begins, frame

    def _seek(self, seconds: float) -> bool:
        try:
            self._container.seek(round(seconds * av.time_base))
        except av.error.FFmpegError:  # raw streams
            return False
        return True

    def _count_hole(self, seconds: float) -> None:
        """A hole is a loss if packets in it could not be decoded, or if the format can't have one."""
        if self._unread or self._container.format.name in CONTINUOUS:
            self.lost_seconds += max(seconds - self._unread, 0.0)

    def _decoded(self) -> "Iterator[av.AudioFrame]":
        """Every frame from here on; undecodable packets count as lost."""
        tick = float(self._stream.time_base or 0)
        try:
            for packet in self._timeline.corrected(self._stream.index, self._container.demux(self._stream)):
                try:
                    yield from packet.decode()
                except av.error.EOFError:
                    return
                except av.error.FFmpegError:
                    if self._began:  # else a seek landed inside a block, before the range
                        self.lost_seconds += ticks_of(packet) * tick
                        self._unread += ticks_of(packet) * tick
        except av.error.FFmpegError:
            self.truncated = True
