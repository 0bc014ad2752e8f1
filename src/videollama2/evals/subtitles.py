"""Subtitles of a video, and which of them stand at the moments of its sampled frames (spec §7, Video-MME)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, MissingExtra
from ..media.limits import DEFAULT_LIMITS
from ..media.source import Source

_MOVE = "Mend it, or take it away: its video is then one without subtitles."
_OVERRIDE = re.compile(r"\{[^{}]*\}")  # what styles become


@dataclass(frozen=True)
class Line:
    """What is said from `start` to `end`, in milliseconds. Line breaks and styles are gone from the text."""

    start: int
    end: int
    text: str


def read_subtitles(path: Path) -> tuple[Line, ...]:
    """The lines of an .srt file, by their beginning.

    Raises:
        DataError: it is no text, or holds no subtitles.
        MissingExtra: pysubs2 is not installed.
    """
    try:
        import pysubs2
    except ImportError as error:
        raise MissingExtra(f"{path}: subtitles are read by pysubs2: pip install 'videollama2[eval]'") from error
    try:
        found = pysubs2.SSAFile.load(str(path), encoding="utf-8-sig", format_="srt")
    except (pysubs2.Pysubs2Error, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} holds no subtitles that can be read: {error}. {_MOVE}") from error
    lines = [Line(event.start, event.end, _plain(event.text)) for event in found if not event.is_comment]
    if not lines and path.stat().st_size > 4:  # an empty file says that nothing is said
        raise DataError(f"{path} holds no subtitles; expected blocks of a number, a time range and text. {_MOVE}")
    return tuple(sorted(lines, key=lambda line: line.start))


def moments(path: Path, frames: int) -> tuple[float, ...]:
    """Milliseconds of the frames that an evaluation samples: the middles of equal segments, in whole frames.

    Only the header is read: how many pictures there are, and how many a second.

    Raises:
        MediaError: the file can't be opened, or has no video.
    """
    with Source.of(path, DEFAULT_LIMITS).container() as container:
        stream = next(iter(container.streams.video), None)
        rate = 0.0 if stream is None else float(stream.average_rate or 0)
        if stream is None or not rate:
            raise DataError(f"{path} says nothing about its pictures")
        seconds = float((container.duration or 0) / 1_000_000)
        count = stream.frames or int(seconds * rate + 0.5)
    size = (count - 1) / frames
    places = [(round(size * i) + round(size * (i + 1))) // 2 for i in range(frames)]
    return tuple(1000 * place / rate for place in places)


def picked(lines: Sequence[Line], at: Sequence[float], *, published: bool) -> tuple[str, ...]:
    """What is said at the moments, in their order.

    Args:
        at: milliseconds.
        published: as the original does it: a line is not said at its very beginning, and a long one is said again at
            each moment. Else from its beginning on, and each once.
    """
    found: list[Line] = []
    for moment in at:
        said = (x for x in lines if (x.start < moment if published else x.start <= moment) and moment < x.end)
        line = next(said, None)
        if line is not None and (published or line not in found):
            found.append(line)
    return tuple(line.text for line in found)


def _plain(text: str) -> str:
    return _OVERRIDE.sub("", text).replace("\\N", " ").replace("\\h", " ")
