"""Subtitle tracks inside containers: reported by `open_clip`, read where a caller asks for subtitles.

subtitles = read_subtitle_source(Path("film.mkv"), track="eng")    # or a subtitle file: subtitles.py
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error

from ..errors import DataError, UsageError
from .limits import DEFAULT_LIMITS, Limits
from .source import MediaSource
from .tracks import Track, TrackChoice, check_choice, listed, named_track

if TYPE_CHECKING:
    from ..subtitles import Subtitle

_TEXT_CODECS = frozenset({"srt", "subrip", "text", "mov_text", "webvtt", "ass", "ssa"})
_CONTAINERS = (b"\x1a\x45\xdf\xa3", b"RIFF", b"OggS", b"FLV", b"\x30\x26\xb2\x75", b"G")
_LAST_SECONDS = 5  # of a subtitle whose track gives no duration


def read_subtitle_source(
    path: Path, track: TrackChoice = None, limits: Limits = DEFAULT_LIMITS
) -> "tuple[Subtitle, ...]":
    """The subtitles of a subtitle file, or of a container's track, sorted by start, in milliseconds of the player.

    Args:
        track: of a container: a number from 1, or a language; None: the first one of text.

    Raises:
        DataError: as `read_subtitles`; also a container without such a track, or with pictures of subtitles only.
        UsageError: a track of a subtitle file. UnreadableMedia: a broken container.
    """
    check_choice("subtitle", track)
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        head = b""  # read_subtitles says why
    if not (head.startswith(_CONTAINERS) or head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")):
        if track is not None:
            raise UsageError(f"{path} is not a video file: it has no subtitle tracks to choose from.")
        from ..subtitles import read_subtitles

        return read_subtitles(path)
    source = MediaSource.of(path, limits)
    with source.container() as container:
        found = subtitle_tracks(container)
        usable = [each for each in found if each.usable]
        if track is not None:
            chosen: Track | None = named_track(found, track)
        else:
            chosen = usable[0] if usable else None
        if chosen is None or not chosen.usable:
            has = f"it has {listed(found)}" if found else "it has none"
            raise DataError(f"{path} has no subtitle track {'of text' if track is None else track}; {has}.")
        return _read(container, chosen)


def subtitle_tracks(container: "av.container.InputContainer") -> tuple[Track, ...]:
    """All subtitle tracks; those that store text are usable."""
    streams = container.streams.subtitles
    return tuple(Track(n, s, _codec(s) in _TEXT_CODECS) for n, s in enumerate(streams, 1))


def subtitle_note(found: Sequence[Track]) -> tuple[str, ...]:
    """A note on the subtitle tracks of a file."""
    if not found:
        return ()
    tracks = "a subtitle track" if len(found) == 1 else f"{len(found)} subtitle tracks"
    return (f"the file has {tracks}, {listed(found)}: used only with --subtitles",)


def _read(container: "av.container.InputContainer", track: Track) -> "tuple[Subtitle, ...]":
    from ..subtitles import Subtitle  # clips only report the tracks

    zero = (container.start_time or 0) / av.time_base
    codec, stream = _codec(track.stream), track.stream
    found: list[tuple[int, int, str]] = []
    for packet in container.demux(stream):
        if packet.pts is None or not packet.size:
            continue
        start = round(1000 * (float(packet.pts * packet.time_base) - zero))
        length = round(1000 * float((packet.duration or 0) * packet.time_base)) or 1000 * _LAST_SECONDS
        text = _text(bytes(packet), codec)
        if text and start + length > 0:
            found.append((max(start, 0), start + length, text))
    return tuple(Subtitle(*line) for line in sorted(found))


def _text(data: bytes, codec: str) -> str:
    """The plain text of a packet."""
    from ..subtitle_formats import plain_words

    if codec == "mov_text":
        data = data[2 : 2 + struct.unpack(">H", data[:2])[0]] if len(data) >= 2 else b""
    text = data.decode("utf-8", "replace")
    if codec in ("ass", "ssa"):
        text = text.split(",", 8)[-1].replace("\\N", " ").replace("\\n", " ").replace("\\h", " ")
        if "\\p1" in text:  # a drawing
            return ""
        text = text.replace("<", "&lt;")  # its styles are in braces
    while (begin := text.find("{\\")) >= 0 and (end := text.find("}", begin)) >= 0:
        text = text[:begin] + text[end + 1 :]
    return plain_words(text)


def _codec(stream: Any) -> str:
    return "" if stream.codec_context is None else str(stream.codec_context.name)
