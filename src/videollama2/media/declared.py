"""The size that a file declares: a smaller file was cut off, by a broken download or a recorder's crash.

matroska, webm    the size of its segment, or of its last cluster
avi, wav          the sizes of its RIFF chunks
mp4, mov          the sizes of its boxes

Other containers (transport streams, Ogg, FLV) declare no size.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .source import MediaSource

_MAX_PARTS = 100_000  # clusters, chunks or boxes
_UNKNOWN_RIFF = 0x7FFF0000  # writers to a pipe put numbers from here on
_RIFF_SLACK = 16  # bytes: writers disagree on what the size includes

_Read = Callable[[int, int], bytes]


def declared_size(source: "MediaSource") -> int | None:
    """Size of the whole file according to its headers; None if they don't state it."""
    head = source.head(16)
    with source.reader() as read:
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            return _matroska(read, source.size)
        if head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"WAVE"):
            declared = _riff(read, source.size)
            return None if declared is None else declared - _RIFF_SLACK
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
            return _boxes(read, source.size)
    return None


def _vint(data: bytes, *, marker: bool) -> tuple[int | None, int] | None:
    """(number, its bytes) of EBML; None as number if it is the reserved “unknown”; None if there is none."""
    if not data or not data[0]:
        return None
    length = 9 - data[0].bit_length()
    if len(data) < length:
        return None
    raw = int.from_bytes(data[:length])
    if marker:
        return raw, length
    value = raw & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), length


def _matroska(read: _Read, size: int) -> int | None:
    at, declared = 0, None
    for _ in range(_MAX_PARTS):
        if at >= size:
            return declared
        data = read(at, 16)
        name = _vint(data[:4], marker=True)
        length = None if name is None else _vint(data[name[1] :], marker=False)
        if name is None or length is None:
            return declared
        begin = at + name[1] + length[1]
        if name[0] == 0x18538067 and length[0] is None:  # a live recording: look at the parts of the segment
            at = begin
            continue
        if length[0] is None:
            return declared
        at = declared = begin + length[0]
    return declared


def _riff(read: _Read, size: int) -> int | None:
    at, declared = 0, None
    for _ in range(_MAX_PARTS):
        data = read(at, 8)
        length = int.from_bytes(data[4:8], "little")
        if len(data) < 8 or data[:4] != b"RIFF" or not 0 < length < _UNKNOWN_RIFF:
            return declared
        at = declared = at + 8 + length
        at += length % 2
        if at >= size:
            return declared
    return declared


def _boxes(read: _Read, size: int) -> int | None:
    at, declared = 0, None
    for _ in range(_MAX_PARTS):
        data = read(at, 16)
        if len(data) < 8 or not data[4:8].isalnum():
            return declared
        length = int.from_bytes(data[:4])
        if length == 1 and len(data) == 16:
            length = int.from_bytes(data[8:16])
        if length < 8:  # 0: to the end of the file
            return declared
        at = declared = at + length
        if at >= size:
            return declared
    return declared
