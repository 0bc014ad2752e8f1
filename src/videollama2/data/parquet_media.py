"""Media that Parquet files of the hub embed, {bytes, path} in a column, as files that everything here can open.

They are unpacked once into a folder beside the Parquet file, FILE.media, under a hash of their content: rows about one
sound or picture share its file. A file that has changed since is unpacked again.
"""

import hashlib
import io
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from .record_files import parquet_rows
from .records import PICTURE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES
from .shards import media_folder, write_once

_SUFFIXES = PICTURE_SUFFIXES | SOUND_SUFFIXES | VIDEO_SUFFIXES | {".gif", ".webp"}
_SIGNS = {  # of files without a name: where a sign begins, and the suffix it stands for
    (0, b"fLaC"): ".flac", (0, b"OggS"): ".ogg", (0, b"ID3"): ".mp3", (8, b"WAVE"): ".wav", (4, b"ftyp"): ".mp4",
    (0, b"\x1a\x45\xdf\xa3"): ".mkv", (0, b"\x89PNG"): ".png", (0, b"\xff\xd8\xff"): ".jpg", (8, b"WEBP"): ".webp",
    (8, b"AVI "): ".avi",
}  # fmt: skip


def unpacked(path: Path, column: str, cache: Path | None = None) -> dict[str, Path]:
    """The files of a column, by the place of their row: "test-00000-of-00001.parquet:17". Rows without bytes have none.

    Args:
        cache: folder in which the file's media folder is made; None: the folder of the Parquet file.

    Raises:
        DataError: the file can't be read, or its media can't be written.
    """
    folder, found = media_folder(path, cache), {}
    for number, row in parquet_rows(path, "eval", only=(column,)):
        held = row[column]
        name, content = ("", held) if isinstance(held, bytes) else _named(held)
        if content:
            file = folder / (hashlib.sha256(content).hexdigest()[:24] + _suffix(name, content))
            write_once(file, len(content), partial(io.BytesIO, content))
            found[f"{path.name}:{number}"] = file
    return found


def _named(held: Any) -> tuple[str, bytes]:
    if not isinstance(held, dict) or not isinstance(held.get("bytes"), bytes):
        return "", b""
    return str(held.get("path") or ""), held["bytes"]


def _suffix(name: str, content: bytes) -> str:
    """The suffix of a file's name; without a usual one, that of its content, or none."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _SUFFIXES:
        return suffix
    return next((found for (at, sign), found in _SIGNS.items() if content[at : at + len(sign)] == sign), "")
