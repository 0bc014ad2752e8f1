"""Media that Parquet files of the hub embed, {bytes, path} in a column, as files that everything here can open.

They are unpacked once into a folder beside the Parquet file, FILE.media, under a hash of their content: rows about one
sound or picture share its file. A file that has changed since is unpacked again.
"""

import contextlib
import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from .record_files import parquet_rows
from .records import PICTURE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES
from .shards import media_folder

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
            found[f"{path.name}:{number}"] = _written(folder, name, content)
    return found


def _named(held: Any) -> tuple[str, bytes]:
    if not isinstance(held, dict) or not isinstance(held.get("bytes"), bytes):
        return "", b""
    return str(held.get("path") or ""), held["bytes"]


def _written(folder: Path, name: str, content: bytes) -> Path:
    """The file of some content, written unless it is there; atomically, as several processes may do so at once."""
    target = folder / (hashlib.sha256(content).hexdigest()[:24] + _suffix(name, content))
    if target.is_file() and target.stat().st_size == len(content):
        return target
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise DataError(
            f"{target} can't be written ({error.strerror or error}); unpacking it takes {len(content):,} bytes."
        ) from error
    return target


def _suffix(name: str, content: bytes) -> str:
    """The suffix of a file's name; without a usual one, that of its content, or none."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _SUFFIXES:
        return suffix
    return next((found for (at, sign), found in _SIGNS.items() if content[at : at + len(sign)] == sign), "")
