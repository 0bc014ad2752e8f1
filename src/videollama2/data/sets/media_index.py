"""Where media lie: an index on disk of the files of folders and of the members of .tar shards, looked up by name.

    folder/a/b.mp4                  b ─► folder/a/b.mp4
    shards/00017.tar: 000171.mp4    000171 ─► shards/00017.tar/000171.mp4, and by the `key` fields of 000171.json

Shards are those of WebDataset and video2dataset: members of one stem belong together, and the text values of the .json
(its `url`, `videoid`, `name` …) are names of the sample, too. The index is a SQLite file, so memory doesn't grow with
the number of files; it is temporary, and made anew by every build.
"""

import contextlib
import json
import os
import re
import sqlite3
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from ...errors import DataError, StorageError
from ..records import PICTURE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES, Kind
from ..shards import MAX_RECORD_BYTES
from ..tar_media import with_place, without_place
from .clocks import clock_seconds

_EITHER = frozenset({".gif", ".webp"})  # an image or a video
_SUFFIXES: dict[Kind, tuple[frozenset[str], ...]] = {
    "av": (VIDEO_SUFFIXES | _EITHER,),
    "video": (VIDEO_SUFFIXES | _EITHER,),
    "audio": (SOUND_SUFFIXES, VIDEO_SUFFIXES),
    "image": (PICTURE_SUFFIXES | _EITHER,),
    "text": (),
}
_ANY = PICTURE_SUFFIXES | SOUND_SUFFIXES | VIDEO_SUFFIXES | _EITHER
_BLANK = re.compile(r"\s")
_ID = re.compile(r"\[([A-Za-z0-9_-]{11})\]$")
_LONGEST_NAME = 200  # characters of a JSON value that can be a sample's name
_BATCH = 10_000


class MediaIndex:
    """An index of media files by name.

    Args:
        database: the file to write; removed on close.
        kind: of the records, which says what suffixes count.

    Raises:
        StorageError: it can't be written.
        DataError: a folder is missing, or a shard can't be read.
    """

    def __init__(self, database: Path, folders: Sequence[Path], kind: Kind) -> None:
        self._path = database
        self._ranks = _SUFFIXES[kind]
        self.files = 0
        with _storage_errors(database):
            database.unlink(missing_ok=True)
            self._db = sqlite3.connect(database, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = OFF")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.execute("CREATE TABLE media (stem TEXT, rank INTEGER, path TEXT)")
            for folder in folders:
                self._add(folder.absolute())
            self._db.execute("CREATE INDEX by_stem ON media (stem)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._path.unlink(missing_ok=True)

    def find(self, names: Sequence[str]) -> str | None:
        """The path of the first name that is found; of several files, the one that agrees in most folders.

        Members of shards are found with their place, `tar_media.with_place`.
        """
        for name in names:
            wanted = name.replace("\\", "/")
            stem = _stem(wanted if "://" in wanted else wanted.rpartition("/")[2])
            found = self._db.execute("SELECT path FROM media WHERE stem = ? ORDER BY rank, path", (stem,)).fetchall()
            if found:
                paths = [str(path) for (path,) in found]
                return paths[0] if len(paths) == 1 else max(paths, key=lambda path: _agreement(path, wanted))
        return None

    def _add(self, folder: Path) -> None:
        if not folder.exists():
            raise DataError(f"{folder} not found; expected a folder of media files or of .tar shards.")
        batch: list[tuple[str, int, str]] = []
        self._db.execute("BEGIN")
        for stem, rank, path in self._entries(folder):
            batch.append((stem, rank, path))
            self.files += 1
            if len(batch) == _BATCH:
                self._db.executemany("INSERT INTO media VALUES (?, ?, ?)", batch)
                batch.clear()
        self._db.executemany("INSERT INTO media VALUES (?, ?, ?)", batch)
        self._db.execute("COMMIT")

    def _entries(self, place: Path) -> Iterator[tuple[str, int, str]]:
        if place.is_file():
            yield from self._members(place)
            return
        for parent, names in _folders(str(place)):
            beside = {name for name in names if name.endswith(".json")}
            for name in names:
                if name.endswith(".tar"):
                    yield from self._members(Path(parent, name))
                elif (rank := self._rank(name)) is not None:
                    path = f"{parent}/{name}"
                    yield from ((stem, rank, path) for stem in _stems(name))
                    if f"{_stem(name)}.json" in beside:
                        yield from ((other, rank, path) for other in _values_of(Path(parent, f"{_stem(name)}.json")))

    def _members(self, shard: Path) -> Iterator[tuple[str, int, str]]:
        """The media of a shard, each under its stem and under the text values of its sample's .json."""
        media: dict[str, tuple[int, str]] = {}
        names: dict[str, set[str]] = {}
        try:
            with tarfile.open(shard, "r:") as tar:
                for member in tar:
                    sample, rank = _stem(member.name), self._rank(member.name)
                    if member.isreg() and rank is not None:
                        path = f"{shard}/{member.name}"
                        whole = not member.issparse()
                        media[sample] = rank, with_place(path, member.offset_data, member.size) if whole else path
                        names.setdefault(sample, set()).update(_stems(member.name.rpartition("/")[2]))
                    elif member.isreg() and member.name.endswith(".json") and member.size <= MAX_RECORD_BYTES:
                        file = tar.extractfile(member)
                        assert file is not None, "members are regular files"
                        names.setdefault(member.name.removesuffix(".json"), set()).update(_text_values(file.read()))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{shard} can't be read as a tar ({error}); expected an uncompressed .tar.") from error
        for sample, place in media.items():
            yield from ((name, *place) for name in sorted(names[sample]))

    def _rank(self, name: str) -> int | None:
        suffix = name[name.rfind(".") :].lower()
        return next((rank for rank, suffixes in enumerate(self._ranks) if suffix in suffixes), None)


def _folders(place: str) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, links included, each once; with the names of their files, but not of broken links.

    Raises:
        DataError: one can't be read.
    """
    entered: set[str] = set()
    waiting = [place]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        names, below = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        below.append(entry.path)
                    elif not entry.is_symlink() or Path(entry.path).exists():
                        names.append(entry.name)
        except OSError as error:
            raise DataError(f"{folder} can't be read: {error.strerror or error}.") from error
        waiting += sorted(below, reverse=True)
        yield folder, names


def _stem(name: str) -> str:
    """A name without the suffix of a media file; other dots belong to it."""
    end = name.rfind(".")
    return name[:end] if end > 0 and name[end:].lower() in _ANY else name


def _stems(name: str) -> tuple[str, ...]:
    """The stem, and the id at the end of a name as yt-dlp writes it: <title> [<id of 11 signs>]."""
    stem = _stem(name)
    found = _ID.search(stem)
    return (stem,) if found is None else (stem, found[1])


def _agreement(path: str, wanted: str) -> int:
    """How many folders of a wanted name a path has, from its end."""
    count, path = 0, without_place(path)[0]
    for mine, theirs in zip(reversed(path.split("/")[:-1]), reversed(wanted.split("/")[:-1]), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _values_of(path: Path) -> set[str]:
    try:
        return _text_values(path.read_bytes()) if path.stat().st_size <= MAX_RECORD_BYTES else set()
    except OSError:  # the file keeps its own name
        return set()


def _text_values(record: bytes) -> set[str]:
    """Values of a sample's .json that may name it: short text without blanks; of a clip, its address with its start."""
    try:
        held = json.loads(record)
    except ValueError:  # the sample keeps its own name
        return set()
    if not isinstance(held, dict):
        return set()
    clips = held.get("clips")
    if isinstance(clips, list) and len(clips) == 1 and isinstance(clips[0], list) and isinstance(held.get("url"), str):
        return _clip_names(held["url"], clips[0])  # the other values are those of the uncut file
    return {
        _stem(value)
        for value in held.values()
        if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and not _BLANK.search(value)
    }


def _clip_names(url: str, span: Sequence[Any]) -> set[str]:
    try:
        return {clip_name(url, clock_seconds(str(span[0])))}
    except (ValueError, IndexError):  # not a time; the clip keeps its own name
        return set()


def clip_name(url: str, start: float) -> str:
    """The name of a clip that video2dataset cut: its source, and the second at which it begins."""
    return f"{url}@{start:.3f}"


@contextlib.contextmanager
def _storage_errors(database: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"{database} can't be written ({error}); make room, or give another --output.") from error
