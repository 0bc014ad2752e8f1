"""Finds a set's annotation files in a folder: by their names, wherever they were unpacked, else by their first row."""

import re
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from ...errors import DataError, VideoLlama2Error
from ..annotation_files import some
from ..streams import COMPRESSED
from .contract import AnnotationFile, Source, Sources, TrainingSet, is_conversation

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".xlsx", ".parquet", *COMPRESSED)
_MOST_FILES = 200_000  # looked through; DCI has one file per image, in two folders
_DEEPEST = 6
_MOST_TRIED = 100  # files whose first row is read
_SHARD = re.compile(r"(?:part[-_.]?)?[0-9]+|.*-[0-9]{5}-of-[0-9]{5}(?:-[0-9a-f]{16})?|(?:.*[-_])?part-?[0-9]{5}.*")
_HELD_OUT = re.compile(r"(?<![a-z])(test|val|valid|validation|eval|evaluation|dev)(?![a-z])", re.IGNORECASE)


def sources_of(training_set: TrainingSet, place: Path) -> Sources:
    """The files that a set is read from.

    Args:
        place: a folder; or one file, which is taken for the set's first.

    Raises:
        DataError: a required file is missing, or several of other names could be it; the message names them.
    """
    if place.is_file():
        required = [form for form in training_set.files if form.required]
        form = next((form for form in required if _matches(place, form) or _readable(place, form)), required[0])
        beside = list(islice(_files(place.parent, _DEEPEST), _MOST_FILES))
        others = [_of_split(f, place) for f in training_set.files if not f.required]
        return [Source(place, form), *(source for f in others for source in _found(beside, f))]
    if not place.is_dir():
        raise DataError(f"{place} not found; expected the folder with the annotations of {training_set.title}.")
    files = list(islice(_files(place), _MOST_FILES))
    found: list[Source] = []
    for form in training_set.files:
        if not (form.required and training_set.one_of and any(source.form.required for source in found)):
            found += _found(files, form, place)
    if not any(source.form.required for source in found):
        found += _by_content(files, training_set, place)
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


def held_out(path: Path, place: Path | None = None) -> bool:
    """Whether a file is for evaluation, by its name or by the folders below `place`: default/test/0000.parquet.

    Such a file is only read if it is given itself.
    """
    folders = () if place is None else path.relative_to(place).parts[:-1]
    return any(map(_HELD_OUT.search, (*folders, path.stem)))


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
    """Whether the end of a path matches, part by part, compressed or not; "|" separates what a part may be."""
    parts = pattern.split("/")
    name = path.stem if path.suffix.lower() in COMPRESSED else path.name
    end = (*path.parts[-len(parts) : -1], name)
    return len(end) == len(parts) and all(
        any(fnmatch(mine, each) for each in theirs.split("|")) for mine, theirs in zip(end, parts, strict=True)
    )


def _of_split(form: AnnotationFile, given: Path) -> AnnotationFile:
    """The form of a file that belongs to the one that is given: val_a.json to val_q.json."""
    split = _HELD_OUT.search(given.stem)
    if split is None:
        return form
    return replace(form, patterns=tuple(pattern.replace("train", split[1]) for pattern in form.patterns))


def _found(files: list[Path], form: AnnotationFile, place: Path | None = None) -> list[Source]:
    """The files that a form's first pattern finds; those for evaluation only if no place is given, or it names them."""
    for pattern in form.patterns:
        matching = [path for path in files if _ends_as(path, pattern)]
        if place is not None and "test" not in pattern:
            matching = [path for path in matching if not held_out(path, place)]
        if form.keys and len(matching) <= _MOST_TRIED:  # many sets have a train.csv
            matching = [path for path in matching if _readable(path, form)]
        if matching:
            return [Source(path, form) for path in (matching if form.several else matching[:1])]
    return []


def _by_content(files: list[Path], training_set: TrainingSet, place: Path) -> list[Source]:
    """Files whose first row can be read as the set's: it has a form's keys, or is a conversation or {video, QA}."""
    found: list[Source] = []
    for path in (path for path in files if not held_out(path, place)):
        form = next((form for form in training_set.files if form.required and _readable(path, form)), None)
        found += [] if form is None else [Source(path, form)]
    others = [source for source in found[1:] if not _same_shards(found[0].path, source.path)]
    if others and not training_set.files[0].several:
        names = some([str(source.path.relative_to(place)) for source in (found[0], *others)])
        raise DataError(
            f"{training_set.title}: several files in {place} could be it: {names}. Give one as --annotations."
        )
    return found


def _same_shards(first: Path, path: Path) -> bool:
    """Whether two files are parts of one: 0000.csv and 0001.csv, train-00000-of-00002.parquet, part-00000-….parquet."""
    shards = _SHARD.fullmatch(first.stem) and _SHARD.fullmatch(path.stem)
    return bool(shards) and first.parent == path.parent and _bare(first) == _bare(path)


def _bare(path: Path) -> str:
    return re.sub("-[0-9a-f]{16}(?=[.])|[0-9]", "", path.name)


def _readable(path: Path, form: AnnotationFile) -> bool:
    """Whether the first row has the keys of a form, or is one that every set reads."""
    try:
        row = next(Source(path, form).rows(), None)
        official = bool(form.keys) and row is not None and all(key in row.data for key in form.keys)
        return row is not None and (official or is_conversation(row) or isinstance(row.get("QA"), list))
    except VideoLlama2Error:  # another format
        return False
