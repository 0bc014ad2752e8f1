"""From an .srt or .vtt file to lines."""

import html
import re
from pathlib import Path

from ..errors import DataError
from .lines import Line, pysubs2

MOST_BYTES = 32 << 20  # a day of speech is 1 MB
_MOVE = "Mend it, or go without: a video needs no subtitles."
_OVERRIDE = re.compile(r"\{[^{}]*\}")  # what styles become
_MOMENT = re.compile(r"<[\d:.]+>")  # karaoke marks of WebVTT, which are no tags to the library


def read_subtitles(path: Path) -> tuple[Line, ...]:
    """The lines of an .srt or .vtt file, by their beginning. What it is, its content says.

    Raises:
        DataError: it can't be read, is no text, is far too large, or holds no subtitles.
        MissingExtra: pysubs2 is not installed.
    """
    library = pysubs2()
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{path} has {size:,} bytes; subtitles of at most {MOST_BYTES:,} are read. {_MOVE}")
        text = path.read_text(encoding="utf-8-sig")
        vtt = text.startswith("WEBVTT")
        found = library.SSAFile.from_string(text, format_="vtt" if vtt else "srt")
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}. {_MOVE}") from error
    except (library.Pysubs2Error, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} holds no subtitles that can be read: {error}. {_MOVE}") from error
    lines = [Line(e.start, e.end, _plain(e.text, vtt=vtt)) for e in found if not e.is_comment]
    if not lines and size > 4 and not (vtt and "-->" not in text):  # an empty file says that nothing is said
        raise DataError(f"{path} holds no subtitles; expected blocks of a number, a time range and text. {_MOVE}")
    return tuple(sorted(lines, key=lambda line: line.start))


def _plain(text: str, *, vtt: bool) -> str:
    if vtt:  # a cue ends with an empty line: what follows is a note, or the name of the next one
        text = html.unescape(_MOMENT.sub("", text.split(r"\N\N", 1)[0]))
    return _OVERRIDE.sub("", text).replace("\\N", " ").replace("\\h", " ")
