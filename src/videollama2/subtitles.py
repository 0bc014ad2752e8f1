"""Subtitles: SRT and WebVTT files, read and written with pysubs2 (extra `subtitles`); others are read.

subtitles = read_subtitles(Path("clip.srt"))                     # milliseconds and text
texts = shown_at(subtitles, frame_times, published=False)        # the subtitles on screen at these times
write_subtitles(Path("clip.vtt"), subtitles)
"""

import html
import logging
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .errors import DataError, MissingExtra, UsageError
from .storage import write_whole
from .subtitle_formats import EXPECTED, entities_decoded, parse_other
from .text_encodings import text_of_bytes

logger = logging.getLogger(__name__)

FORMATS = {".srt": "srt", ".vtt": "vtt"}
MAX_BYTES = 32 << 20  # a day of speech is 1 MB
_HINT = "Fix the file, or run without subtitles."
_OVERRIDE_TAG = re.compile(r"\{[^{}]*\}")  # pysubs2 turns styles into these
_CUE_TIMESTAMP = re.compile(r"<[\d:.]+>")  # karaoke timestamps of WebVTT, which pysubs2 keeps
_NO_BREAK = "\N{WORD JOINER}"


@dataclass(frozen=True)
class Subtitle:
    """Text shown from `start` to `end` milliseconds, without line breaks and styles."""

    start: int
    end: int
    text: str


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_subtitles(path: Path, *, published: bool = False) -> tuple[Subtitle, ...]:
    """The subtitles of an .srt, .vtt, .ass or .ssa file, or one of subtitle_formats.py, sorted by start.

    Its content decides the format, not its name. Text is Unicode, or a legacy encoding that can be told
    (text_encodings.py), which is logged. Subtitles without text are left out.

    Args:
        published: as Video-MME's authors read an .srt file: with pysubs2's styles, and without decoding entities.

    Raises:
        DataError: it can't be read, is not text, is too large, is in another format, or has no text.
        MissingExtra: pysubs2 is not installed.
    """
    library = _pysubs2()
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path} has {size:,} bytes; the limit for subtitles is {MAX_BYTES:,}. {_HINT}")
        text, encoding = text_of_bytes(path.read_bytes())
        text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        found = _parse(text, library, published)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}. {_HINT}") from error
    except (library.Pysubs2Error, ValueError) as error:
        raise DataError(f"{path} is not a subtitle file: {error}. {_HINT}") from error
    if not encoding.startswith("utf-"):
        logger.warning("%s is not Unicode; reading it as %s", path, encoding)
    subtitles = [subtitle for subtitle in found if subtitle.text]
    if found and not subtitles:
        raise DataError(f"{path} has {len(found)} subtitles, but none has text. {_HINT}")
    if not found and size > 4 and not (text.startswith("WEBVTT") and "-->" not in text):  # an empty file is valid
        raise DataError(f"{path} has no subtitles; expected {EXPECTED}. {_HINT}")
    return tuple(sorted(subtitles, key=lambda subtitle: subtitle.start))


def _parse(text: str, library: ModuleType, published: bool) -> list[Subtitle]:
    """The subtitles of a file's text, also those without text of their own."""
    vtt = text.startswith("WEBVTT")
    if not vtt and (lines := parse_other(text)) is not None:
        return [Subtitle(*line) for line in lines]
    ssa = bool(re.search(r"^\[(?:Script Info|Events)\]", text, re.MULTILINE | re.IGNORECASE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its layers and margins
        events = library.SSAFile.from_string(text, format_="vtt" if vtt else "ass" if ssa else "srt")
    if published and not (vtt or ssa):
        return [Subtitle(e.start, e.end, e.text.replace(r"\N", " ")) for e in events]
    return [
        Subtitle(e.start, e.end, _plain_text("" if ssa and e.is_drawing else e.text, vtt=vtt, ssa=ssa))
        for e in events
        if not e.is_comment
    ]


def _plain_text(text: str, *, vtt: bool, ssa: bool) -> str:
    if vtt:  # a cue ends at an empty line: what follows is a note, or the name of the next cue
        text = html.unescape(_CUE_TIMESTAMP.sub("", text.split(r"\N\N", 1)[0]))
    else:
        text = entities_decoded(text)
    text = _OVERRIDE_TAG.sub("", text)
    for mark in ("\\N", "\\h") + ("\\n",) * ssa:
        text = text.replace(mark, " ")
    return text.strip()


# ── choosing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def in_range(subtitles: Sequence[Subtitle], start: float | None, end: float | None) -> tuple[Subtitle, ...]:
    """The subtitles that overlap `start` to `end` seconds; None: from the beginning, to the end."""
    first, last = 1000 * (start or 0.0), float("inf") if end is None else 1000 * end
    return tuple(s for s in subtitles if s.end > first and s.start < last)


def shown_at(subtitles: Sequence[Subtitle], times: Sequence[float], *, published: bool) -> tuple[str, ...]:
    """The texts on screen at these times, in the order of the times.

    Args:
        times: milliseconds.
        published: as Video-MME's authors do: a subtitle is not shown at its very start, and a long one is repeated for
            each time. Else it is shown from its start on, and each is returned once.
    """
    found: list[Subtitle] = []
    for time in times:
        shown = (s for s in subtitles if (s.start < time if published else s.start <= time) and time < s.end)
        subtitle = next(shown, None)
        if subtitle is not None and (published or subtitle not in found):
            found.append(subtitle)
    return tuple(subtitle.text for subtitle in found)


def quote_before(question: str, texts: Sequence[str]) -> str:
    """The question with the texts quoted before it; the question alone if there are none."""
    return f'This is said in the video: "{" ".join(texts)}"\n{question}' if texts else question


# ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_subtitles(path: Path, subtitles: Sequence[Subtitle]) -> None:
    """Write a subtitle file atomically; its suffix decides the format.

    Raises:
        UsageError: a suffix other than .srt and .vtt. MissingExtra: pysubs2 is not installed.
        StorageError: it can't be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: expected a file name ending in {' or '.join(FORMATS)}.")
    write_whole(path, render_subtitles(subtitles, FORMATS[path.suffix.lower()]).encode("utf-8", "replace"))


def render_subtitles(subtitles: Sequence[Subtitle], kind: str) -> str:
    """The content of an "srt" or "vtt" file.

    Each text becomes one line, because neither format allows an empty line in a text. Text that would be read as
    syntax is changed: "-->" becomes "→", an invisible word joiner follows a backslash that would begin a line break,
    and control characters become spaces. Subtitles without text are dropped.

    Raises:
        UsageError: a subtitle ends before it starts. MissingExtra: pysubs2 is not installed.
    """
    library = _pysubs2()
    events = library.SSAFile()
    for subtitle in subtitles:
        if not 0 <= subtitle.start < subtitle.end:
            raise UsageError(
                f"a subtitle from {subtitle.start} to {subtitle.end} ms; expected its end after its start."
            )
        text = " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in subtitle.text).split())
        text = text.replace("-->", "→")
        for letter in "nNh":
            text = text.replace(f"\\{letter}", f"\\{_NO_BREAK}{letter}")
        if text:
            escaped = html.escape(text, quote=False) if kind == "vtt" else text
            events.append(library.SSAEvent(start=subtitle.start, end=subtitle.end, text=escaped))
    content: str = events.to_string(kind, keep_ssa_tags=True)  # else text in braces would be dropped
    return content


def _pysubs2() -> ModuleType:
    """The library; raises MissingExtra if it is not installed."""
    try:
        import pysubs2
    except ImportError as error:
        raise MissingExtra("subtitles require pysubs2: pip install 'videollama2[subtitles]'") from error
    library: ModuleType = pysubs2
    return library
