"""From lines to an .srt or .vtt file."""

import html
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from ..storage import write_whole
from .lines import Line, pysubs2

FORMATS = {".srt": "srt", ".vtt": "vtt"}
_NO_BREAK = "\N{WORD JOINER}"


def write_subtitles(path: Path, lines: Sequence[Line]) -> None:
    """Write a subtitle file all or nothing; its suffix says of which kind.

    Raises:
        UsageError: another suffix than .srt and .vtt. MissingExtra: pysubs2 is not installed.
        StorageError: it can't be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: subtitles are written as {' or '.join(FORMATS)}")
    write_whole(path, render(lines, FORMATS[path.suffix.lower()]).encode("utf-8", "replace"))


def render(lines: Sequence[Line], kind: str) -> str:
    """The content of a file of the kind "srt" or "vtt".

    Each text is one line of the file: neither format can hold an empty line in a text. What would be read as a part of
    the format is told otherwise: "-->" becomes "→", and an invisible word joiner stands after a backslash that would
    begin a line break; control characters are spaces. Lines without text are left out.

    Raises:
        UsageError: a line ends before it begins. MissingExtra: pysubs2 is not installed.
    """
    library = pysubs2()
    found = library.SSAFile()
    for line in lines:
        if not 0 <= line.start < line.end:
            raise UsageError(f"a subtitle from {line.start} to {line.end} ms; it must end after it begins")
        text = " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in line.text).split())
        text = text.replace("-->", "→")
        for letter in "nNh":
            text = text.replace(f"\\{letter}", f"\\{_NO_BREAK}{letter}")
        if text:
            escaped = html.escape(text, quote=False) if kind == "vtt" else text
            found.append(library.SSAEvent(start=line.start, end=line.end, text=escaped))
    content: str = found.to_string(kind, keep_ssa_tags=True)  # else what stands in braces would be left out
    return content
