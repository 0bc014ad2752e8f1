"""What an mp4's edit lists ask for and FFmpeg does not do (ISO/IEC 14496-12 §8.6.6).

FFmpeg applies edit lists: cuts, repeats, and an empty part before a track begins. It plays parts with another rate at
the normal one, and repeats the beginning of the track in an empty part that follows others.
"""

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .source import MediaSource

_MAX_BOXES = 10_000
_MAX_ENTRIES = 10_000

_Read = Callable[[int, int], bytes]


def edit_losses(source: "MediaSource", stream: Any) -> tuple[str, ...]:
    """Sentences on the parts of a track's edit list that are not applied; none for a plain list."""
    with source.reader() as read:
        found: list[str] = []
        for kind, begin, end in _boxes(read, 0, source.size):
            if kind == b"moov":
                scale = 1000
                for inner, first, last in _boxes(read, begin, end):
                    if inner == b"mvhd":
                        scale = _movie_scale(read(first, 24)) or scale
                    elif inner == b"trak" and _track_id(read, first, last) == stream.id:
                        found += _of_list(_entries(read, first, last), scale, stream.type)
        return tuple(found)


def _of_list(entries: list[tuple[int, int, float]], scale: int, track: str) -> list[str]:
    """Sentences on (duration, start in the media or -1, rate)."""
    found, at = [], 0.0
    for number, (duration, start, rate) in enumerate(entries):
        seconds = duration / scale
        if start < 0 and number and seconds > 0:
            found.append(
                f"the {track} track's edit list has nothing from {at:.2f} to {at + seconds:.2f} s; the beginning of "
                "the track is repeated there"
            )
        elif start >= 0 and rate != 1 and seconds > 0:
            found.append(
                f"the {track} track's edit list plays {at:.2f} to {at + seconds:.2f} s at {rate:g} times the speed; "
                "the normal speed is used"
            )
        at += seconds
    return found


def _entries(read: _Read, begin: int, end: int) -> list[tuple[int, int, float]]:
    for kind, first, last in _boxes(read, begin, end):
        if kind == b"edts":
            for inner, at, stop in _boxes(read, first, last):
                if inner == b"elst":
                    return _listed(read(at, min(stop - at, 8 + 20 * _MAX_ENTRIES)))
    return []


def _listed(data: bytes) -> list[tuple[int, int, float]]:
    if len(data) < 8:
        return []
    form = ">Qqi" if data[0] == 1 else ">Iii"
    size = struct.calcsize(form)
    count = min(struct.unpack_from(">I", data, 4)[0], (len(data) - 8) // size)
    parts = (struct.unpack_from(form, data, 8 + k * size) for k in range(count))
    return [(duration, start, rate / 65536) for duration, start, rate in parts]


def _movie_scale(data: bytes) -> int:
    at = 20 if data[:1] == b"\1" else 12
    return int.from_bytes(data[at : at + 4])


def _track_id(read: _Read, begin: int, end: int) -> int:
    for kind, first, _ in _boxes(read, begin, end):
        if kind == b"tkhd":
            data = read(first, 24)
            at = 20 if data[:1] == b"\1" else 12
            return int.from_bytes(data[at : at + 4])
    return 0


def _boxes(read: _Read, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte of its content, end) of each box."""
    for _ in range(_MAX_BOXES):
        data = read(at, 16)
        if at + 8 > end or len(data) < 8:
            return
        size, begin = int.from_bytes(data[:4]), at + 8
        if size == 1 and len(data) == 16:
            size, begin = int.from_bytes(data[8:]), at + 16
        if size < begin - at:
            return
        yield data[4:8], begin, min(at + size, end)
        at += size
