"""The packets of a file, listed without decoding: the source of its timeline.

read_timeline(container, source, streams)  ─►  Timeline

If the header is complete (mp4, wav), no packets are read. Otherwise all are: only they show how long a track is, where
it has holes, and whether recordings were joined.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import av.error

from .declared import counts_all_bytes, declared_size
from .edit_lists import edit_losses
from .file_end import ends_inside, second_recording
from .timeline import EvenStamps, Joins, Packets, Timeline, join
from .tracks import read_only

if TYPE_CHECKING:
    from .source import MediaSource

_COMPLETE_HEADERS = frozenset({"wav", "w64", "aiff", "au", "caf"})  # they state the number of samples
_WRAPS = {"mpegts": 1 << 33, "mpeg": 1 << 33}
_JOINED = (
    "matroska",
    "mpegts",
    "mpeg",
    "ogg",
    "flv",
    "mxf",
)  # containers that remain readable if files are put together
CONTINUOUS = frozenset({"wav", "w64", "aiff", "au", "flac", "mp3", "aac", "amr", "ac3", "eac3"})
"""Formats without timestamps: time is the number of samples, so a hole means damage."""


def read_timeline(container: "av.container.InputContainer", source: "MediaSource", streams: Sequence[Any]) -> Timeline:
    """The timeline of some streams of a freshly opened container, which this may read to its end.

    Raises:
        UnreadableMedia, from the container.
    """
    zero = _start(container, streams)
    name = container.format.name
    tracks = {s.index: _header_track(s, zero) for s in streams}
    cut_off = _cut_off(container, source)
    losses = _second(source)
    if "mp4" in name:
        losses += tuple(loss for s in streams for loss in edit_losses(source, s))
    even = {s.index: table for s in streams if (table := _even_stamps(name, s, source.size)) is not None}
    if all(s.index in even or _is_complete(name, s, source) for s in streams):
        return Timeline(zero=zero, tracks=tracks, even=even, cut_off=cut_off, losses=losses)
    packets = {s.index: Packets(tick=Fraction(s.time_base or 1)) for s in streams}
    read_only(container, streams)
    try:
        for packet in container.demux(list(streams)):
            if packet.size or packet.dts is not None or packet.pts is not None:
                packets[packet.stream.index].append(packet)
    except av.error.FFmpegError as error:
        cut_off = cut_off or f"the file is cut off or damaged: {str(error.strerror).lower()}"
    wrap = _WRAPS.get(name, 0)
    joins: dict[int, Joins] = {}
    begins: list[float] = []
    if name.startswith(_JOINED):
        joins, begins = join(packets, wrap=wrap, leaps=bool(wrap), derived=name.startswith("matroska"))
    for index, corrections in joins.items():
        packets[index].add(corrections)
    spans = {index: span for index, listed in packets.items() if (span := listed.covered()) is not None}
    if container.start_time is None and spans:  # raw streams
        zero = Fraction(min(start for start, _ in spans.values())).limit_denominator(90_000)
    for index, (start, end) in spans.items():
        tracks[index] = (start - float(zero), end - float(zero))
    begins = [second - float(zero) for second in begins]
    return Timeline(
        zero=zero,
        tracks=tracks,
        packets=packets,
        joins=joins,
        begins=tuple(begins),
        cut_off=cut_off,
        losses=losses,
    )


def _start(container: "av.container.InputContainer", streams: Sequence[Any]) -> Fraction:
    """Where the file starts, in seconds of its stamps (transport streams start at any time)."""
    if container.start_time is not None:
        return Fraction(container.start_time, av.time_base)
    starts = [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base]
    return Fraction(min(starts, default=0))


def _is_complete(name: str, stream: Any, source: "MediaSource") -> bool:
    """Whether the header gives an audio stream's length, and the stream has no holes."""
    if stream.type != "audio" or not stream.duration:
        return False
    if name == "mp3":
        return counts_all_bytes(source)
    return bool(stream.frames) if "mp4" in name else name in _COMPLETE_HEADERS


def _header_track(stream: Any, zero: Fraction) -> tuple[float, float | None]:
    tick = stream.time_base or Fraction(1)
    start = 0.0 if stream.start_time is None else float(stream.start_time * tick - zero)
    return start, (start + float(stream.duration * tick) if stream.duration else None)


def _even_stamps(name: str, stream: Any, size: int) -> EvenStamps | None:
    """Stamps from an mp4's sample table, if its frames are evenly spaced and all in the file; else None.

    The table has decoding times only. If evenly spaced, they equal the presentation times up to order and a constant,
    which `start_time` gives. (A matroska table lists key frames only.)
    """
    if "mp4" not in name or stream.type != "video" or stream.start_time is None:
        return None
    entries = getattr(stream, "index_entries", ())
    n = len(entries)
    if n < 2 or n != stream.frames:
        return None
    table = [(e.timestamp, e.is_keyframe) for e in entries if not e.is_discard and e.pos + e.size <= size]
    first, step = table[0][0] if table else 0, (stream.duration or 0) // n
    if len(table) != n or step <= 0 or any(stamp != first + i * step for i, (stamp, _) in enumerate(table)):
        return None
    shown = [stream.start_time + i * step for i in range(n)]
    return EvenStamps(shown, [stamp for stamp, (_, key) in zip(shown, table, strict=True) if key])


def _cut_off(container: "av.container.InputContainer", source: "MediaSource") -> str:
    declared = declared_size(source)
    if declared is not None and declared > source.size:
        length = f" ({container.duration / av.time_base:.1f} s)" if container.duration else ""
        return f"the file is cut off: it has {source.size:,} of the {declared:,} bytes that it declares{length}"
    if inside := ends_inside(source):
        return f"the file ends inside {inside}: it was cut off, or is still being written"
    return ""


def _second(source: "MediaSource") -> tuple[str, ...]:
    place = second_recording(source)
    if place is None:
        return ()
    return (f"a second recording begins at byte {place:,} and is not used, as in players; remux the files instead",)
