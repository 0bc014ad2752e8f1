"""The files of a data set as its user unpacked it: found by their published names, else by content.

data = DataFolder(folder)
data.file("json/qa.json", keys=("question", "answer"))      also deeper inside, or renamed: then its keys decide
data.media("videos", "").find("abc")                        (path, None), or (None, why it is missing)
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..errors import DataError, MissingExtra

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
"""Tried in this order if a data set names a video without its suffix."""
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
"""Tried in this order if a data set names an audio file without its suffix."""

_TABLES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")  # searched for keys
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_OTHER_SPLIT = re.compile(r"(?:^|[^a-z])(?:train(?:ing)?|dev(?:elopment)?|val(?:id(?:ation)?)?|examples?)(?![a-z])")
_SNIFFED = 1 << 20  # bytes of a file that are searched for keys
_DEPTH = 6  # folders inside the folder that are searched
_NAMED = 6  # most names that a message lists


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"{name:.60}" for name in names[:_NAMED]) + more


# ── annotation files ───────────────────────────────────────────────────────────────────────────────────────────────


class DataFolder:
    """A data set's folder. What it holds is listed once, when a file is not where it was published."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, *patterns: str, keys: Sequence[str] = (), copies: Sequence[Sequence[str]] = ()) -> Path:
        """The first match of a pattern that has the keys; without any match, the only file that has them.

        Args:
            patterns: globs relative to the folder, in order of preference; they also match deeper inside it.
            keys: names of fields that distinguish the file; none: names alone decide.
            copies: the keys of other layouts of the same data, which a file may have instead.

        Raises:
            DataError: no file, or several; the folder does not exist.
        """
        found = list(self._matches(patterns))
        for path in found:
            if any(has_keys(path, each) for each in (keys, *copies)):
                return path
        others = [] if found else next(filter(None, map(self._by_content, filter(None, (keys, *copies)))), [])
        if len(others) > 1:
            names = some([path.relative_to(self.path).as_posix() for path in others])
            raise DataError(f"{self.path}: expected {_either(patterns)}; several files have its fields: {names}.")
        return (others or found or [first_existing(self.path, *patterns)])[0]

    def optional(self, *patterns: str) -> Path | None:
        """The first match of a pattern, or None."""
        return next(self._matches(patterns), None)

    def media(self, *folders: str, suffixes: Sequence[str] = VIDEO_SUFFIXES, anywhere: bool = True) -> "MediaFinder":
        """A finder of media files; see MediaFinder."""
        return MediaFinder(self, folders, suffixes, anywhere)

    def _matches(self, patterns: Sequence[str]) -> Iterator[Path]:
        """Files that a pattern matches at its place; then, deeper inside, the least nested first."""
        _check_folder(self.path, patterns)
        # a list may be saved with a record per line
        lines = [f"{pattern}l" for pattern in patterns if pattern.endswith(".json")]
        patterns = [*patterns, *lines]
        for pattern in patterns:
            yield from sorted(path for path in self.path.glob(pattern) if path.is_file())
        for pattern in patterns:
            depth = len(PurePosixPath(pattern).parts)
            deeper = [path for path in self.files if len(path.parts) > depth and path.match(pattern)]
            yield from (self.path / path for path in sorted(deeper, key=lambda path: (len(path.parts), path)))

    def _by_content(self, keys: Sequence[str]) -> list[Path]:
        """Files of any name that have the keys; those named after another split don't count."""
        tables = [path for path in self.files if path.suffix.lower() in _TABLES]
        own = [self.path / path for path in tables if not _OTHER_SPLIT.search(path.name.lower())]
        return [path for path in own if has_keys(path, keys)]

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Its files, relative to it."""
        return tuple(sorted(path.relative_to(self.path) for path in _walk(self.path)))

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self.files:
            found.setdefault(path.name, []).append(path)
        return found

    def named(self, candidates: Sequence[str]) -> list[Path]:
        """The files whose path ends with the first candidate that any file's path ends with; relative to the folder."""
        for candidate in candidates:
            parts = PurePosixPath(candidate.replace("\\", "/")).parts
            found = [path for path in self._by_name.get(parts[-1], ()) if path.parts[-len(parts) :] == parts]
            if found:
                return found
        return []


def has_keys(path: Path, keys: Sequence[str]) -> bool:
    """Whether a file's beginning has all of these names of fields."""
    if not keys:
        return True
    if path.suffix.lower() == ".parquet":
        return set(keys) <= _columns(path)
    try:
        with path.open("rb") as file:
            text = file.read(_SNIFFED).decode("utf-8", "replace")
    except OSError:
        return False
    if path.suffix.lower() in (".csv", ".tsv"):
        header = re.split(r"[,\t]", text.partition("\n")[0].lstrip("\ufeff"))
        return set(keys) <= {cell.strip().strip('"') for cell in header}
    return all(f'"{key}"' in text for key in keys)


def _columns(path: Path) -> set[str]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema
    except ImportError as error:
        raise MissingExtra(f"{path}: reading Parquet needs pyarrow; run: pip install 'videollama2[eval]'") from error
    try:
        return set(read_schema(path).names)
    except (ArrowException, OSError):
        return set()


def first_existing(folder: Path, *patterns: str) -> Path:
    """As `if_existing`, but a file must exist.

    Raises:
        DataError: no pattern finds a file, or the folder does not exist.
    """
    path = if_existing(folder, *patterns)
    if path is None:
        names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        packed = [name for name in names if name.lower().endswith(_ARCHIVES)]
        hint = f" Unpack {some(packed)}." if packed else ""
        raise DataError(f"{folder}: expected {_either(patterns)}; it holds {some(names) or 'nothing'}.{hint}")
    return path


def if_existing(folder: Path, *patterns: str) -> Path | None:
    """The first file that a pattern finds; of several for one pattern, the least nested, then by name.

    Args:
        patterns: globs relative to the folder, in order of preference.

    Raises:
        DataError: the folder does not exist.
    """
    _check_folder(folder, patterns)
    for pattern in patterns:
        found = [path for path in folder.glob(pattern) if path.is_file()]
        if found:
            return min(found, key=lambda path: (len(path.parts), path))
    return None


def _check_folder(folder: Path, patterns: Sequence[str]) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected a folder with {_either(patterns)}.")


def _either(patterns: Sequence[str]) -> str:
    return " or ".join(patterns)


# ── media files ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class MediaFinder:
    """Finds media files by name, each once.

    Attributes:
        folders: subfolders that may hold the files, in order of preference; "" is the folder itself.
        suffixes: tried for a name that has none of them.
        anywhere: a file that is in none of these subfolders is looked up by its name in the whole folder; for data sets
            in which a name stands for one file.
    """

    data: DataFolder
    folders: Sequence[str]
    suffixes: Sequence[str] = VIDEO_SUFFIXES
    anywhere: bool = True
    _found: dict[tuple[str, ...], tuple[Path | None, str | None]] = field(default_factory=dict, init=False, repr=False)

    def find(self, *names: str) -> tuple[Path | None, str | None]:
        """The file that has one of the names; or None, and why it is missing."""
        if names not in self._found:
            self._found[names] = self._search(names)
        return self._found[names]

    def _search(self, names: Sequence[str]) -> tuple[Path | None, str | None]:
        candidates = self._candidates(names)
        path, missing = media(self.data.path, candidates)
        if path is not None or missing is None or not missing.startswith(f"{candidates[0]:.120} not found"):
            return path, missing
        if self.anywhere:
            elsewhere = self.data.named(self._candidates(names, inside=("",)))
            if len(elsewhere) == 1:
                return self.data.path / elsewhere[0], None
            if elsewhere:
                several = some([path.as_posix() for path in elsewhere])
                return None, f"{candidates[0]} not found; its name stands for several files: {several}"
        others = ", ".join(folder or "." for folder in self.folders[1:])
        where = "anywhere in the folder" if self.anywhere else f"in {others}" if others else "elsewhere"
        return None, f"{candidates[0]} not found (nor with another suffix, nor {where})"

    def _candidates(self, names: Sequence[str], inside: Sequence[str] | None = None) -> list[str]:
        suffixes = {name: [""] if name.lower().endswith(tuple(self.suffixes)) else self.suffixes for name in names}
        below = [f"{folder}/" if folder else "" for folder in (self.folders if inside is None else inside)]
        return [f"{start}{name}{suffix}" for start in below for name in names for suffix in suffixes[name]]


def media(folder: Path, candidates: Sequence[str]) -> tuple[Path | None, str | None]:
    """The first candidate that exists, or None and why there is none.

    Args:
        candidates: paths relative to the folder. A path that leads out of the folder is never opened.
    """
    outside, absent = [], []
    for candidate in dict.fromkeys(candidates):
        path = _inside(folder, candidate)
        if path is None:
            outside.append(candidate)
        elif _exists(path):
            return path, None
        else:
            absent.append(candidate)
    if absent:
        more = f" and {len(absent) - 2} other names for it" if absent[2:] else ""
        others = f" (nor {absent[1]:.120}{more})" if absent[1:] else ""
        return None, f"{absent[0]:.120} not found{others}"
    return None, f"{some(outside)} leads out of {folder}" if outside else "the record names no media file"


def _inside(folder: Path, candidate: str) -> Path | None:
    """The candidate's path, without following links (users link their media); None: outside the folder."""
    parts = PurePosixPath(candidate.replace("\\", "/"))
    if ".." in parts.parts or "\0" in candidate or not parts.parts:
        return None
    if parts.is_absolute() or re.match(r"[A-Za-z]:", candidate):
        path = Path(candidate)
        return path if path.is_absolute() and path.is_relative_to(folder.absolute()) else None
    return folder / parts


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file system accepts
        return False


def _walk(folder: Path) -> Iterator[Path]:
    """The files of a folder, a few levels deep; linked folders are entered, each once."""
    entered: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        depth = len(Path(place).relative_to(folder).parts)
        if real in entered or depth >= _DEPTH:
            folders.clear()
        if real in entered:
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in names if not name.startswith("."))
