"""How a file ends: in the middle of something, or with a second recording that no player reads.

ends_inside         live matroska and webm: a block; flv: a tag; transport streams: a packet; ogg: a page. Such files
                    declare no size. A cut that falls between two of these can't be detected.
second_recording    mp4, flv, wav, aiff, caf, flac and asf that were joined byte by byte

declared.py has the sizes that files declare.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import UnreadableMedia
from .declared import element, first_size

if TYPE_CHECKING:
    from .source import MediaSource

_MAX_ELEMENTS = 500_000
_PIECE = 1 << 20
_MAX_PAGE = 27 + 255 + 255 * 255
_STARTS = (b"\xa3", b"\xa0", b"\xe7", b"\x1f", b"\x1c")  # of blocks, groups of them, times, clusters, cues
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675

_Read = Callable[[int, int], bytes]


def ends_inside(source: "MediaSource") -> str:
    """What a file ends inside of: "a packet"; "" if it ends between two, or can't be judged."""
    head = source.head(1024)
    with source.reader() as read:
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            return "a block" if _inside_block(read, source.size) else ""
        if head.startswith(b"FLV"):
            return "a tag" if _inside_tag(read, source.size) else ""
        if head.startswith(b"OggS"):
            return "a page" if _inside_page(read, source.size) else ""
        if packet := _packet_size(head):
            first, length = packet
            return "a packet" if (source.size - first) % length else ""
    return ""


def second_recording(source: "MediaSource") -> int | None:
    """The byte at which another recording begins that players don't read; None if there is none."""
    head = source.head(16)
    with source.reader() as read:
        if head[4:8] == b"ftyp":
            return _second_movie(read, source.size)
        if head.startswith(b"FLV"):
            return _second_flv(read, source.size)
        if head.startswith(b"fLaC"):
            return _second_flac(read, source.size)
        if head.startswith((b"RIFF", b"FORM", b"caff", _ASF)) and head[8:12] != b"AVI ":
            end = first_size(source)
            again = b"" if end is None or end >= source.size else read(end, 16)
            return end if again[:4] == head[:4] and again[8:12] == head[8:12] else None
    return None


def _second_movie(read: _Read, size: int) -> int | None:
    """Where the file of the second moov box begins.

    Raises:
        UnreadableMedia: both are fragmented, and FFmpeg would mix their frames.
    """
    at, movies, last_type, fragmented = 0, 0, 0, False
    for _ in range(_MAX_ELEMENTS):
        data = read(at, 16)
        length = int.from_bytes(data[:4])
        if length == 1 and len(data) == 16:
            length = int.from_bytes(data[8:16])
        if len(data) < 8 or length < 8:
            return None
        fragmented |= data[4:8] == b"moof"
        last_type = at if data[4:8] == b"ftyp" else last_type
        movies += data[4:8] == b"moov"
        if movies == 2 and fragmented:
            raise UnreadableMedia(
                f"the file has a second fragmented recording from byte {last_type or at:,} on, and their frames would "
                "be mixed; split it there, and use one at a time."
            )
        if movies == 2:
            return last_type or at
        at += length
    return None


def _second_flac(read: _Read, size: int) -> int | None:
    """Where its marker and the head of its description stand again."""
    mark = b"fLaC\0\0\0\x22"
    for start in range(len(mark), size, _PIECE):
        at = read(start, _PIECE + len(mark)).find(mark)
        if at >= 0:
            return start + at
    return None


def _second_flv(read: _Read, size: int) -> int | None:
    at = 13
    for _ in range(_MAX_ELEMENTS):
        header = read(at, 5)
        if header[:4] == b"FLV\x01":
            return at
        if len(header) < 5 or header[0] & 0x1F not in (8, 9, 18):
            return None
        at += 11 + int.from_bytes(header[1:4]) + 4
    return None


def _inside_block(read: _Read, size: int) -> bool:
    """Walk the elements of segments and clusters of unknown size."""
    at = 0
    for _ in range(_MAX_ELEMENTS):
        if at >= size:
            return at > size
        found = element(read(at, 16))
        if found is None:
            return size - at < 16 and read(at, 1) in _STARTS  # a header that is cut itself
        name, length, begin = found
        if length is None and name not in (_SEGMENT, _CLUSTER):
            return False
        at += begin + (length or 0)
    return False


def _inside_tag(read: _Read, size: int) -> bool:
    """Whether the size after the last tag does not lead back to its header."""
    (back,) = struct.unpack(">I", read(size - 4, 4).rjust(4, b"\0"))
    header = read(size - 4 - back, 4) if 11 <= back <= size - 13 else b""
    return not (len(header) == 4 and header[0] & 0x1F in (8, 9, 18) and int.from_bytes(header[1:]) == back - 11)


def _inside_page(read: _Read, size: int) -> bool:
    start = max(size - _MAX_PAGE, 0)
    tail = read(start, _MAX_PAGE)
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return False
    if len(tail) - at < 27:
        return True
    segments = tail[26 + at]
    table = tail[at + 27 : at + 27 + segments]
    return len(table) < segments or at + 27 + segments + sum(table) > len(tail)


def _packet_size(head: bytes) -> tuple[int, int] | None:
    """(offset of the first packet, bytes of each) of a transport stream; 192 with the time codes of Blu-ray."""
    for length, lead in ((188, 0), (192, 4), (204, 0)):
        if len(head) > 4 * length and all(head[lead + k * length] == 0x47 for k in range(4)):
            return 0, length
    return None
