"""Finds a set's annotation files in a folder: by their names, wherever they were unpacked, else by their first row."""

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from ...errors import DataError, VideoLlama2Error
from .contract import AnnotationFile, Source, Sources, TrainingSet

_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".xlsx", ".parquet", ".gz")
_MOST_FILES = 200_000  # looked through; DCI has one file per image, in two folders
_DEEPEST = 6
_MOST_TRIED = 100  # files whose first row is read
_SHARD = re.compile(r"[0-9]+|.*-[0-9]{5}-of-[0-9]{5}")
_HELD_OUT = re.compile(r"(?<![a-z])(test|val|valid|validation|eval|evaluation|dev)(?![a-z])", re.IGNORECASE)


def sources_of(training_set: TrainingSet, place: Path) -> Sources:
    """The files that a set is read from.

    Args:
        place: a folder; or one file, which is taken for the set's first.

    Raises:
        DataError: a required file is missing; the message says what was expected and what was found.
    """
    if place.is_file():
        required = [form for form in training_set.files if form.required]
        form = next((form for form in required if _matches(place, form) or _readable(place, form)), required[0])
        beside = list(islice(_files(place.parent, _DEEPEST), _MOST_FILES))
        return [Source(place, form), *(s for f in training_set.files if not f.required for s in _found(beside, f))]
    if not place.is_dir():
        raise DataError(f"{place} not found; expected the folder with the annotations of {training_set.title}.")
    files = list(islice(_files(place), _MOST_FILES))
    found: list[Source] = []
    for form in training_set.files:
        if not (form.required and training_set.one_of and any(source.form.required for source in found)):
            found += _found(files, form)
    if not any(source.form.required for source in found):
        found += _by_content(files, training_set)
    if not any(source.form.required for source in found):
        wanted = "; ".join(
            f"{' or '.join(form.patterns)} ({form.what})" for form in training_set.files if form.required
        )
        there = ", ".join(path.name for path in files[:6]) or "no annotation file"
        raise DataError(
            f"{training_set.title} not found in {place}: expected {wanted}; found {there}. Give the file itself as "
            "--annotations, or see `videollama2 data list " + training_set.name + "`."
        )
    return found


def held_out(path: Path) -> bool:
    """Whether a file's name says that it is for evaluation; such a file is only read if it is given itself."""
    return bool(_HELD_OUT.search(path.stem))


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Annotation files, the least nested first."""
    folders = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and depth < _DEEPEST:
            folders.append(path)
        elif path.suffix.lower() in _SUFFIXES and path.is_file():
            yield path
    for below in folders:
        yield from _files(below, depth + 1)


def _matches(path: Path, form: AnnotationFile) -> bool:
    return any(_ends_as(path, pattern) for pattern in form.patterns)


def _ends_as(path: Path, pattern: str) -> bool:
    """Whether the end of a path matches, part by part, compressed or not."""
    parts = pattern.split("/")
    end = (*path.parts[-len(parts) : -1], path.name.removesuffix(".gz"))
    return len(end) == len(parts) and all(map(fnmatch, end, parts))


def _found(files: list[Path], form: AnnotationFile) -> list[Source]:
    for pattern in form.patterns:
        matching = [path for path in files if _ends_as(path, pattern)]
        if "test" not in pattern:
            matching = [path for path in matching if not held_out(path)]
        if form.keys and len(matching) <= _MOST_TRIED:  # many sets have a train.csv
            matching = [path for path in matching if _readable(path, form)]
        if matching:
            return [Source(path, form) for path in (matching if form.several else matching[:1])]
    return []


def _by_content(files: list[Path], training_set: TrainingSet) -> list[Source]:
    """Files whose first row can be read as the set's: it has a form's keys, or is a conversation or {video, QA}."""
    found: list[Source] = []
    for path in (path for path in files if not held_out(path)):
        form = next((form for form in training_set.files if _readable(path, form)), None)
        found += [] if form is None else [Source(path, form)]
    first = found[0].path if found else None
    if first is None or training_set.files[0].several:
        return found
    return found[:1] + [source for source in found[1:] if _same_shards(first, source.path)]


def _same_shards(first: Path, path: Path) -> bool:
    """Whether two files are parts of one: 0000.csv and 0001.csv, train-00000-of-00002.parquet and its second."""
    shards = _SHARD.fullmatch(first.stem) and _SHARD.fullmatch(path.stem)
    return bool(shards) and first.parent == path.parent and _bare(first) == _bare(path)


def _bare(path: Path) -> str:
    return re.sub("[0-9]", "", path.name)


def _readable(path: Path, form: AnnotationFile) -> bool:
    """Whether the first row has the keys of a form, or is one that every set reads."""
    try:
        row = next(Source(path, form).rows(), None)
        official = bool(form.keys) and row is not None and all(key in row.data for key in form.keys)
        return row is not None and (official or row.has("conversations") or isinstance(row.get("QA"), list))
    except VideoLlama2Error:  # another format
        return False
