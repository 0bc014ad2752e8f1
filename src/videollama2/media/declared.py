"""The size that a file declares: a smaller file was cut off, by a broken download or a recorder's crash.

matroska, webm     the size of its segment, or of its last cluster
avi, wav, rf64     the sizes of its RIFF chunks
mp4, mov           the sizes of its boxes
aiff, au, caf, w64, asf, mxf    in the header
mp3, flv           in the encoder's notes, if there are any

file_end.py detects some cuts in files that declare no size.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .source import MediaSource

_MAX_PARTS = 100_000  # clusters, chunks or boxes
_UNKNOWN_RIFF = 0x7FFF0000  # writers to a pipe put numbers from here on
_MAX_FRAME = 1441  # bytes of an mp3 frame: writers disagree on whether the first one counts
_RIFF_SLACK = 16  # bytes: writers disagree on what the size includes
_MP3_SLACK = 512  # tags that some tools remove without correcting the encoder's note

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
        for mark, find in _HEADERS.items():
            if head.startswith(mark):
                return _found(find, read)
        if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1] & 0xE0 == 0xE0):
            return _found(_mp3, read)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
            return _boxes(read, source.size)
    return None


def first_size(source: "MediaSource") -> int | None:
    """Bytes of the first recording of a WAV, AIFF, CAF or ASF file, which others may follow; None if not stated."""
    find = {b"FORM": _aiff, b"caff": _caf}.get(source.head(4), _asf)
    with source.reader() as read:
        if source.head(4) == b"RIFF":
            length = int.from_bytes(read(4, 4), "little")
            return 8 + length + length % 2 if 0 < length < _UNKNOWN_RIFF else None
        return _found(find, read)


def _found(find: Callable[[_Read], int | None], read: _Read) -> int | None:
    try:
        declared = find(read)
    except (struct.error, IndexError, OverflowError, ValueError):  # a header that is cut off itself, or nonsense
        return None
    return declared if declared is not None and declared > 0 else None


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


def element(data: bytes) -> tuple[int, int | None, int] | None:
    """(name, bytes of its content, bytes of its header) of an EBML element; None as size: unknown; None: no element."""
    name = _vint(data[:4], marker=True)
    length = None if name is None else _vint(data[name[1] :], marker=False)
    if name is None or name[0] is None or length is None:
        return None
    return name[0], length[0], name[1] + length[1]


def _matroska(read: _Read, size: int) -> int | None:
    at, declared = 0, None
    for _ in range(_MAX_PARTS):
        found = element(read(at, 16)) if at < size else None
        if found is None:
            return declared
        name, length, begin = found
        if length is not None:
            at = declared = at + begin + length
        elif name == 0x18538067:  # a live recording: look at the parts of the segment
            at += begin
        else:
            return declared
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


def _aiff(read: _Read) -> int | None:
    return 8 + int(struct.unpack(">I", read(4, 4))[0])


def _au(read: _Read) -> int | None:
    start, length = struct.unpack(">II", read(4, 8))
    return None if length == 0xFFFFFFFF else int(start + length)


def _caf(read: _Read) -> int | None:
    at = declared = 8
    for _ in range(_MAX_PARTS):
        data = read(at, 12)
        if len(data) < 12 or data[:4] == b"caff":  # another file, joined to this one
            return declared
        length = struct.unpack(">q", data[4:])[0]
        if length < 0:  # audio to the end of the file
            return declared
        at = declared = at + 12 + length
    return declared


def _w64(read: _Read) -> int | None:
    return int(struct.unpack("<Q", read(16, 8))[0])


def _rf64(read: _Read) -> int | None:
    data = read(12, 16)
    return 8 + int(struct.unpack("<Q", data[8:])[0]) - _RIFF_SLACK if data[:4] == b"ds64" else None


def _asf(read: _Read) -> int | None:
    header = read(0, 1 << 16)
    at = header.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))  # file properties
    if at < 0 or at + 92 > len(header):
        return None
    is_broadcast = header[at + 88] & 1
    return None if is_broadcast else int(struct.unpack_from("<Q", header, at + 40)[0])


def _mxf(read: _Read) -> int | None:
    """Its footer lies inside the file (SMPTE ST 377-1 §7.1)."""
    data = read(0, 128)
    value = 17 + (data[16] & 0x7F if data[16] & 0x80 else 0)
    footer = int(struct.unpack_from(">Q", data, value + 24)[0])
    return footer + 1 if footer else None


def _flv(read: _Read) -> int | None:
    """The `filesize` of its onMetaData, an AMF number."""
    head = read(0, 8192)
    at = head.find(b"\0\x08filesize\0")
    return int(struct.unpack_from(">d", head, at + 11)[0]) if 0 <= at < len(head) - 19 else None


def _mp3(read: _Read) -> int | None:
    found = _xing(read)
    return None if found is None else found[1] - _MP3_SLACK


def _xing(read: _Read) -> tuple[bool, int] | None:
    """Whether a Xing or Info frame counts frames, and where the bytes end that it counts, from its own frame on."""
    head, first = read(0, 10), 0
    if head[:3] == b"ID3":
        first = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    frame = read(first, 200)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or at + 16 > len(frame):
        return None
    flags, numbers = struct.unpack_from(">I", frame, at + 4)[0], at + 8
    if not flags & 2:
        return None
    return bool(flags & 1), first + int(struct.unpack_from(">I", frame, numbers + 4 * (flags & 1))[0])


_HEADERS: dict[bytes, Callable[[_Read], int | None]] = {
    b"FORM": _aiff,
    b".snd": _au,
    b"caff": _caf,
    b"riff\x2e\x91\xcf\x11": _w64,
    b"RF64": _rf64,
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"): _asf,
    bytes.fromhex("060e2b34020501010d010201"): _mxf,
    b"FLV": _flv,
}
"""First bytes of formats that state their size, and what finds it."""


def counts_all_bytes(source: "MediaSource") -> bool:
    """Whether an mp3's Xing frame counts as many bytes as the file has: then it counts the frames right, too.

    The file may have tags at its end. A joined, growing or cut-off file has another number.
    """
    with source.reader() as read:
        try:
            found = _xing(read)
        except (struct.error, IndexError, ValueError):  # a header that is cut off itself
            return False
        if found is None or not found[0]:
            return False
        rest = source.size - found[1]
        return 0 <= rest <= _MAX_FRAME or (rest > 0 and read(found[1], 8).startswith((b"TAG", b"APETAGEX", b"LYRICS")))
