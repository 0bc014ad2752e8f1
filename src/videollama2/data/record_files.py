"""Records files of any format, as mappings with their places.

    .json     a list of records                 .jsonl   one record per line
    .parquet  one record per row                .csv     one question and its answer per row
    .tar      one record and its media item per WebDataset sample (shards.py)

records.py parses the mappings. A line, row or sample that can't be read is yielded as a DataError instead of its
mapping, so that the caller can report every bad one.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, MissingExtra
from .shards import once, samples_of_shard

Found = Any  # a mapping, a DataError, or any other value of the file
_ROWS = 4096  # of a Parquet file, per batch
_ROWS_OF_MEDIA = 16  # each may have megabytes
_COLUMNS = (
    "question",
    "answer",
    "video",
    "image",
    "audio",
    "id",
    "start",
    "end",
    "sound",
    "video_track",
    "audio_track",
)
_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


HEAD = 200
"""Bytes of a file that `not_the_file` takes."""
_INSTEAD = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file; run `git lfs pull`, or download the file itself",
    b"<!doctype html": "a web page, not the file; download the file itself (“raw”)",
    b"<html": "a web page, not the file; download the file itself (“raw”)",
    b"pk\x03\x04": "a zip archive; unpack it",
    b"\x1f\x8b": "a gzip archive; unpack it",
}


class Place(NamedTuple):
    """A record's place: number or name in the file, file and number, and words for errors."""

    key: str
    origin: str
    words: str


def mappings(path: Path, name: str, cache: Path | None = None) -> Iterator[tuple[Place, Found]]:
    """The records of a file, unparsed, with their places. Media paths of a shard's samples are absolute.

    Args:
        path: of the file.
        name: of the file in origins.
        cache: folder to unpack media of shards in; None: beside the shard.

    Raises:
        DataError: the file is missing, of unknown format, or unreadable as a whole.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        sheet = ". Save the sheet as CSV (UTF-8)." if suffix in (".xlsx", ".xls", ".ods") else "."
        raise DataError(f"{path} is not a records file; expected one of {', '.join(SUFFIXES)}{sheet}.")
    if not path.is_file():
        raise DataError(f"{path} is not a file; expected a records file.")
    word = {".json": "record", ".parquet": "row", ".tar": "sample"}.get(suffix, "line")
    try:
        found: Iterator[tuple[Any, Found]]
        found = samples_of_shard(path, cache) if suffix == ".tar" else _READERS[suffix](path)
        for key, raw in found:
            yield Place(str(key), f"{name}:{key}", f"{word} {key}"), raw
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error


def _json(path: Path) -> Iterator[tuple[int, Found]]:
    data = path.read_bytes()
    text = decoded(data, str(path))
    if text.lstrip()[:1] == "{":
        raise DataError(
            f"{path} holds an object; expected a list of records, [{{…}}, …]. If it has one record per line, rename it "
            "to .jsonl."
        )
    try:
        records = json.loads(text, object_pairs_hook=once) if text.strip() else []
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}, column {error.colno}: invalid JSON: {error.msg}.") from error
    except (RecursionError, ValueError) as error:  # nested too deeply; an integer of thousands of digits
        raise DataError(f"{path}: invalid JSON: {error}.") from error
    if not isinstance(records, list):
        raise DataError(f"{path} holds {records!r:.60}; expected a list of records, [{{…}}, …].")
    yield from enumerate(records, 1)


def _jsonl(path: Path) -> Iterator[tuple[int, Found]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, parsed(line)


def parsed(line: bytes | str) -> Found:
    """The JSON of one line, or a DataError with the column."""
    try:
        return json.loads(line if isinstance(line, str) else line.decode(), object_pairs_hook=once)
    except json.JSONDecodeError as error:
        return DataError(f"column {error.colno}: invalid JSON: {error.msg}.")
    except UnicodeDecodeError as error:
        return DataError(f"byte {error.start + 1}: not UTF-8 text.")
    except (RecursionError, ValueError) as error:
        return DataError(f"invalid JSON: {error}.")


def _parquet(path: Path) -> Iterator[tuple[int, Found]]:
    return ((number, _unpacked(row)) for number, row in parquet_rows(path))


def parquet_rows(
    path: Path, extra: str = "train", *, media: bool = True, only: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a Parquet file, numbered from 1.

    Args:
        path: of the file.
        extra: of this package that installs pyarrow, for the error.
        media: whether bytes are read, which are media in the hub's files; without, memory doesn't grow with them.
        only: the columns to read; None: all.

    Raises:
        MissingExtra: pyarrow is not installed.
        DataError: not a Parquet file, or a damaged one.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(f"{path}: reading Parquet needs pyarrow; run: pip install 'videollama2[{extra}]'") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise DataError(f"{path}: two columns have the same name; expected each once: {', '.join(names):.200}.")
            columns = list(only) if only is not None else None if media else _without_bytes(file.schema_arrow)
            rows = _ROWS_OF_MEDIA if only is not None else _ROWS
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # e.g. invalid text or dates
        words = " ".join(str(error).split())
        raise DataError(f"{path}, after row {number}: unreadable Parquet: {words:.300}.") from error


def _without_bytes(schema: Any) -> list[str]:
    """The columns that hold no bytes, members of structs included: `image.path`, not `image.bytes`."""
    from pyarrow import types

    found = []
    for column in schema:
        if types.is_struct(column.type):
            inner = [part for part in column.type if not _is_bytes(part.type)]
            found += (
                [f"{column.name}.{part.name}" for part in inner] if len(inner) < len(column.type) else [column.name]
            )
        elif not _is_bytes(column.type):
            found.append(column.name)
    return found


def _is_bytes(type: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(type) or types.is_large_binary(type))


def _unpacked(row: dict[str, Any]) -> Found:
    """The row, with conversations parsed if the column holds JSON text."""
    for key in ("conversations", "messages"):
        value = row.get(key)
        if isinstance(value, str):
            value = parsed(value)
            if isinstance(value, DataError):
                return DataError(f"{key}, {value}.")
            row[key] = value
    return row


def _csv(path: Path) -> Iterator[tuple[int, Found]]:
    text = decoded(path.read_bytes(), str(path), " Save the sheet as CSV UTF-8.")
    first = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = _header(path, [cell.strip().lower() for cell in row])
            else:
                yield rows.line_num, _question(header, row)
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: invalid CSV: {error}.") from error


def _header(path: Path, columns: list[str]) -> list[str]:
    unknown = [column for column in columns if column not in _COLUMNS and not column.startswith("_")]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if unknown or twice or not {"question", "answer"} <= set(columns):
        what = f"unknown: {', '.join(map(repr, unknown))}" if unknown else f"twice: {', '.join(twice)}" if twice else ""
        raise DataError(
            f"{path}: the first line is {', '.join(columns):.120}{f' ({what})' if what else ''}; expected the columns "
            f"question, answer, one of video, image and audio, and optionally {', '.join(_COLUMNS[5:])}; columns of "
            "notes begin with '_'."
        )
    return columns


def _question(header: list[str], row: list[str]) -> Found:
    if len(row) != len(header):
        return DataError(f"expected {len(header)} cells, as in the first line, got {len(row)}.")
    cells = {column: cell.strip() for column, cell in zip(header, row, strict=True)}
    question, answer = cells.pop("question"), cells.pop("answer")
    if not question or not answer:
        return DataError(f"the {'answer' if question else 'question'} is empty; expected both.")
    record: dict[str, Any] = {column: cell for column, cell in cells.items() if cell}
    record["conversations"] = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    for column in record.keys() & {"start", "end"}:
        try:
            record[column] = float(record[column])
        except ValueError:
            return DataError(f"{column} is {record[column]!r:.60}; expected seconds, such as 12.5.")
    for column in record.keys() & {"video_track", "audio_track"}:
        record[column] = int(record[column]) if record[column].isdecimal() else record[column]
    if "sound" in record:
        record["sound"] = _YES_NO.get(record["sound"].lower(), record["sound"])
    return record


def decoded(data: bytes, name: str, hint: str = "") -> str:
    """Decode UTF-8 text, with or without a byte-order mark.

    Raises:
        DataError: not UTF-8; the message has the name, the line and the hint.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}, line {line}: not UTF-8 text.{hint}") from error


def not_the_file(head: bytes) -> str | None:
    """What a file's beginning shows that was saved in its place, and what to do; None: nothing of the kind."""
    start = head.lstrip(codecs.BOM_UTF8).lstrip()
    if not start:
        return "empty; download it again"
    return next((words for sign, words in _INSTEAD.items() if start.lower().startswith(sign)), None)


_READERS = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
}
SUFFIXES = (*_READERS, ".tar")
"""Suffixes of records files."""
