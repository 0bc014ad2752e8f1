"""The rows of a job: files, folders, and manifests that list many files.

    clips/                       every video and audio file below a folder; its id is its path in the folder
    rows.jsonl  rows.parquet     one row per line: {"id": …, "video": PATH, "question": …, "start": …, "end": …}
    shards/00017.tar             WebDataset: one row per sample, 000171.mp4 with an optional 000171.json of such keys

Manifests and the media that they name may be at any address that fsspec opens; a relative path starts at its manifest.
A row that can't be used becomes an error of this row, when its turn comes; only what leaves the rows in doubt (an
unreadable manifest, an id given twice) ends the job before it begins.
"""

import hashlib
import json
import logging
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..data.record_files import Place, mappings
from ..data.shards import checked_samples, once
from ..errors import DataError, did_you_mean
from ..remote import is_remote, opened, read_bytes
from ..text.media_parts import Media
from .files import InputFile, find_files

logger = logging.getLogger(__name__)

TABLES = (".jsonl", ".ndjson", ".json", ".parquet")
SHARD = ".tar"
_MEDIA_KEYS = ("video", "audio", "image", "media", "path", "file")
_OPTIONS = ("start", "end", "audio_track", "video_track")
_KEYS = (*_MEDIA_KEYS, "id", "question", *_OPTIONS)
_MAX_NAME = 200  # bytes of a part of a file name


@dataclass(frozen=True)
class ManifestRow(InputFile):
    """A row of a manifest.

    Attributes:
        own_question: instead of the job's.
        options: of its Media: start, end, tracks.
        span: of a member of a shard: its shard, offset and number of bytes.
        problem: why it can't be used.
    """

    own_question: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    span: tuple[str, int, int] | None = None
    problem: str | None = None

    @property
    def stem(self) -> str:
        """The whole id: what follows its last dot is no suffix."""
        return self.name

    @property
    def question(self) -> str | None:
        """Its own question; None: the job's."""
        return self.own_question

    def output_path(self, out: Path, suffix: str, *, whole_name: bool) -> Path:
        """Where its captions go: inside `out`, whatever its id."""
        *folders, last = map(_file_name, self.name.split("/"))
        return out.joinpath(*folders, last + suffix)

    def media(self, common: Media) -> Media:
        """Its media item; a file that is not on this machine, or in a shard, is read into memory."""
        if self.problem is not None:
            raise DataError(self.problem)
        source: Any = self.path
        if self.span is not None:
            source = read_bytes(self.span[0], self.span[1:])
        elif is_remote(source):
            source = read_bytes(str(source))
        return replace(common, source=source, **self.options)

    def anywhere(self) -> "ManifestRow":
        """The same row for a process with another working folder."""
        span = self.span and (_absolute(self.span[0]), *self.span[1:])
        return replace(self, path=_absolute(str(self.path)), span=span)

    def mark(self) -> dict[str, Any]:
        """Size and time of modification of a local file, and what the manifest asks of it."""
        local = not is_remote(self.path) and self.span is None
        mark = super().mark() if local else {"size": self.span[2] if self.span else -1, "mtime_ns": -1}
        own = {"question": self.own_question, **self.options, "problem": self.problem}
        return {**mark, **{key: value for key, value in own.items() if value is not None}}


def find_rows(paths: Sequence[str]) -> list[InputFile]:
    """The rows of files, folders and manifests, in order; rows of a manifest come after those of files and folders.

    Raises:
        MediaError: a path does not exist, or a manifest can't be read (DataError, UnreadableMedia).
        DataError: an id is given twice. MissingExtra: Parquet, or an address, needs a package.
    """
    named = [path for path in paths if _is_manifest(path)]
    plain = [path for path in paths if not _is_manifest(path)]
    rows: list[InputFile] = list(find_files(plain)) if plain else []
    for path in named:
        found = list(_shard_rows(path, several=len(named) > 1) if path.lower().endswith(SHARD) else _table_rows(path))
        if not found:
            raise DataError(f"{path} holds no rows; expected at least one.")
        rows += found
    first: dict[str, InputFile] = {}
    for row in rows:
        other = first.setdefault(row.name, row)
        if other is not row:
            raise DataError(
                f"the id {row.name!r:.100} is given twice ({other.path!s:.100} and {row.path!s:.100}); expected "
                'unique ids, because results are kept by id. Add an "id" to each row, or rename one.'
            )
    return rows


def _is_manifest(path: str) -> bool:
    listed = path.lower().endswith((*TABLES, SHARD))
    if is_remote(path) and not listed:
        raise DataError(
            f"{path} is neither a manifest nor a shard; expected a file such as rows.jsonl, rows.parquet or 000.tar at "
            "that address, with one row per media file."
        )
    return listed and not Path(path).is_dir()


# ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _table_rows(path: str) -> Iterator[ManifestRow]:
    if not is_remote(path):
        yield from _rows_of(Path(path), path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.rpartition("/")[2]
        copy.write_bytes(read_bytes(path))
        yield from _rows_of(copy, path)


def _rows_of(file: Path, path: str) -> Iterator[ManifestRow]:
    name, root = path.rpartition("/")[2], path.rpartition("/")[0]
    unread: set[str] = set()
    for place, raw in mappings(file, name):
        yield row_of(raw, place, root, unread)
    if unread:
        logger.warning("%s: columns without a meaning here: %s", name, ", ".join(sorted(unread)))


def row_of(raw: Any, place: Place, root: str, unread: set[str]) -> ManifestRow:
    """A row from what a manifest has in its place; a row that can't be used has its `problem`.

    Args:
        root: what relative paths start at.
        unread: gets the keys that have no meaning here.
    """
    try:
        if isinstance(raw, DataError):
            raise raw
        if not isinstance(raw, dict):
            raise DataError(f"it is {raw!r:.60}; expected an object.")
        given = {key: value for key, value in raw.items() if value is not None}
        return _checked(given, place, root, unread)
    except DataError as error:
        own = raw.get("id") if isinstance(raw, dict) else None
        name = str(own) if isinstance(own, str | int) and not isinstance(own, bool) and own != "" else place.origin
        return ManifestRow(place.origin, name, problem=f"{place.origin}: {error}")


def _checked(given: dict[str, Any], place: Place, root: str, unread: set[str]) -> ManifestRow:
    named = [key for key in _MEDIA_KEYS if key in given]
    if len(named) != 1:
        near = next((hint for key in given if (hint := did_you_mean(str(key).lower(), _MEDIA_KEYS))), "")
        found = " and ".join(named) or ", ".join(map(str, given)) or "nothing"
        raise DataError(f"it has {found:.120}; expected one of {', '.join(_MEDIA_KEYS)}{near}.")
    path = given[named[0]]
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise DataError(f"{named[0]} is {path!r:.60}; expected the path or address of a file.")
    question, id_ = given.get("question"), given.get("id", path)
    if question is not None and (not isinstance(question, str) or not question.strip()):
        raise DataError(f"question is {question!r:.60}; expected text.")
    if isinstance(id_, bool) or not isinstance(id_, str | int) or id_ == "":
        raise DataError(f"id is {id_!r:.60}; expected text or an integer.")
    unread.update(str(key) for key in given if key not in _KEYS)
    options = {key: given[key] for key in _OPTIONS if key in given}
    for key in options.keys() & {"start", "end"}:
        value = options[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
            raise DataError(f"{key} is {value!r:.60}; expected seconds, 0 or more.")
    located = path if is_remote(path) or path.startswith("/") or not root else f"{root}/{path}"
    kind = {"audio": {"video": False}}.get(named[0], {})  # a video given as audio is only heard
    return ManifestRow(located, str(id_), own_question=question, options={**options, **kind})


# ── shards ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _shard_rows(path: str, *, several: bool) -> Iterator[ManifestRow]:
    unread: set[str] = set()
    name = path.rpartition("/")[2]
    with opened(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                samples = checked_samples(tar, path, size)
                for stem, members in samples.items():
                    yield _sample(tar, path, f"{name}/{stem}" if several else stem, members, unread)
        except (tarfile.TarError, EOFError) as error:
            raise DataError(f"{path} can't be read as a tar ({error}); expected an uncompressed .tar.") from error
    if unread:
        logger.warning("%s: keys without a meaning here: %s", name, ", ".join(sorted(unread)))


def _sample(
    tar: tarfile.TarFile, path: str, stem: str, members: Mapping[str, tarfile.TarInfo], unread: set[str]
) -> ManifestRow:
    media = [member for extension, member in members.items() if extension != "json"]
    place = Place(stem, f"{path}/{stem}", f"sample {stem}")
    if len(media) != 1:
        found = ", ".join(member.name for member in members.values())
        return ManifestRow(place.origin, stem, problem=f"{place.origin} has {found:.120}; expected one media member.")
    member = media[0]
    raw: Any = {}
    if "json" in members:
        try:
            content = tar.extractfile(members["json"])
            raw = json.loads((content.read() if content else b"").decode("utf-8-sig"), object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            raw = DataError(f"{members['json'].name}: invalid JSON: {error}.")
    if isinstance(raw, dict):
        kind = "audio" if "audio" in raw else "video"
        raw = {key: value for key, value in raw.items() if key not in _MEDIA_KEYS}
        raw = {"id": stem, **raw, kind: f"{path}/{member.name}"}
    row = row_of(raw, place, "", unread)
    if row.problem is not None:
        return replace(row, name=stem)
    return replace(row, path=f"{path}/{member.name}", span=(path, member.offset_data, member.size))


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _absolute(path: str) -> str:
    return path if is_remote(path) else str(Path(path).absolute())


def _file_name(part: str) -> str:
    """A part of an id as a file name: never "..", never empty, never too long."""
    safe = quote(part, safe=" !#$&'()+,;=@[]^`{}~") if part.strip(".") else part.replace(".", "%2E") or "%"
    if len(safe) <= _MAX_NAME:
        return safe
    return f"{safe[: _MAX_NAME - 41]}-{hashlib.sha1(part.encode()).hexdigest()}"
