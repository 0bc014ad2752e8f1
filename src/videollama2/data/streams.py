"""Annotation files of any size, one row at a time: what `annotations.rows` reads whole.

.json     a list of objects, parsed object by object; an object with such a list; one object per line
.jsonl    .csv .tsv .txt   line by line          .parquet  by row groups, without the media that it may embed
.gz .bz2 .xz .zst          of all but Parquet and .xlsx
"""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from ..errors import DataError, MissingExtra
from .annotations import Row, rows
from .record_files import parquet_rows, parsed

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_CHUNK = 1 << 20  # characters
_LONGEST = 1 << 28  # characters of one record: anything longer is not a list of records
_CELL = 1 << 27  # characters of one cell; lists of captions exceed the csv module's default


def stream_rows(
    path: Path,
    *,
    key: str | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> Iterator[Row]:
    """Every record of a file. Memory doesn't grow with the file.

    Args:
        key: of the list, in a JSON object; "*": the object holds records by their ids, each read with its id as `_key`.
        columns: names for a table without a header; None: its first line is the header.
        encoding: of text that is not UTF-8. delimiter: of a table; None: a tab in .tsv and .txt, else a comma.

    Raises:
        DataError: the file is missing or malformed; the message has the line or the record.
        MissingExtra: Parquet needs pyarrow.
    """
    suffix = (Path(path.stem) if path.suffix.lower() in COMPRESSED else path).suffix.lower()
    if suffix == ".xlsx":
        yield from rows(path, columns=columns)
        return
    if suffix == ".parquet":
        yield from (Row(row, f"{path.name}:{number}") for number, row in parquet_rows(path, "eval", media=False))
        return
    if suffix not in (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt"):
        raise DataError(f"{path}: expected a .json, .jsonl, .csv, .tsv, .txt, .xlsx or .parquet file.")
    try:
        with _opened(path, encoding) as file:
            if suffix in (".csv", ".tsv", ".txt"):
                yield from _table(file, path, columns, delimiter or ("," if suffix == ".csv" else "\t"))
            elif suffix == ".json":
                yield from _json(file, path, key)
            else:
                yield from _lines(file, path)
    except (OSError, EOFError, lzma.LZMAError) as error:  # EOFError: a .gz that ends too early
        raise DataError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not {encoding} text ({error.reason}). Save it as UTF-8.") from error


def _opened(path: Path, encoding: str) -> TextIO:
    if encoding != "utf-8" and _is_utf8(path):  # a copy saved again
        encoding = "utf-8"
    return _text(path, "utf-8-sig" if encoding == "utf-8" else encoding)


def _is_utf8(path: Path) -> bool:
    try:
        with _text(path, "utf-8") as file:
            while file.read(_CHUNK):
                pass
    except UnicodeDecodeError:
        return False
    return True


def _text(path: Path, encoding: str) -> TextIO:
    suffix = path.suffix.lower()
    if suffix not in COMPRESSED:
        return path.open(encoding=encoding, newline="")
    openers: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstd}
    return io.TextIOWrapper(openers[suffix](path), encoding, newline="")


def _zstd(path: Path) -> BinaryIO:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtra(f"{path}: reading .zst needs pyarrow; run: pip install 'videollama2[eval]'") from error
    return cast(BinaryIO, pyarrow.input_stream(str(path), compression="zstd"))


def _table(file: TextIO, path: Path, columns: Sequence[str] | None, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(_CELL)
    header = None if columns is None else list(columns)
    reader = csv.reader(file, delimiter=delimiter)
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                continue
            yield Row(dict(zip(header, cells, strict=False)), f"{path.name}:{reader.line_num}")
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a table: {error}.") from error


def _lines(file: TextIO, path: Path) -> Iterator[Row]:
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST), ""), 1):
        if len(line) == _LONGEST and not line.endswith("\n"):
            while rest := file.readline(_LONGEST):
                if rest.endswith("\n"):
                    break
            yield Row({}, f"{path.name}:{number}", f"over {_LONGEST:,} characters; expected one record per line")
        elif line.strip():
            yield _row(parsed(line), f"{path.name}:{number}")


def _row(value: Any, origin: str) -> Row:
    """A row; one that raises when it is read if the value is no record, so that the others stay."""
    if isinstance(value, dict):
        return Row(value, origin)
    if isinstance(value, DataError):
        return Row({}, origin, str(value))
    hint = "; if the file is one list, rename it to .json" if isinstance(value, list) else ""
    return Row({}, origin, f"expected a record, {{…}}, got {value!r:.60}{hint}")


def _json(file: TextIO, path: Path, key: str | None) -> Iterator[Row]:
    text = _Buffer(file)
    first = text.peek()
    if first == "[":
        yield from _items(text, path)
    elif first == "{" and key == "*":
        yield from _keyed(text, path)
    elif first == "{" and key is not None:
        if not text.seek_list(key):
            raise DataError(f"{path}: expected a list under the key {key!r}.")
        yield from _items(text, path)
    elif first == "{":  # one object per line, or an object of records by their ids
        start = text.value(path, 1)
        if isinstance(start, dict) and text.peek() == "":
            yield from _members(start, path)
            return
        yield _row(start, f"{path.name}:1")
        number = 1
        while text.peek():
            number += 1
            yield _row(text.value(path, number), f"{path.name}:{number}")
    else:
        raise DataError(f"{path}: expected a list of records, [{{…}}, …], found {first or 'nothing'!r}.")


def _keyed(text: "_Buffer", path: Path) -> Iterator[Row]:
    """The members of an object whose brace is next."""
    text.skip(1)
    while (sign := text.peek()) not in ("}", ""):
        if sign == ",":
            text.skip(1)
            continue
        key = text.value(path, 0)
        if text.peek() != ":":
            raise DataError(f"{path}, after {key!r:.60}: not JSON: expected a colon.")
        text.skip(1)
        value = text.value(path, 0)
        data = {**value, "_key": key} if isinstance(value, dict) else {"_key": key, "_value": value}
        yield Row(data, f"{path.name}:{key}")
    if sign == "":
        raise DataError(f"{path}: the object is not closed; the file was cut off.")


def _members(held: dict[str, Any], path: Path) -> Iterator[Row]:
    """Of a single object: its only list of records, else the object itself."""
    lists = [value for value in held.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) == 1:
        yield from (_row(value, f"{path.name}:{number}") for number, value in enumerate(lists[0], 1))
        return
    yield _row(held, f"{path.name}:1")


def _items(text: "_Buffer", path: Path) -> Iterator[Row]:
    """The items of a list whose bracket is next."""
    text.skip(1)
    number = 0
    while (sign := text.peek()) not in ("]", ""):
        if sign == ",":
            text.skip(1)
            continue
        number += 1
        value = text.value(path, number)
        yield _row(value, f"{path.name}:{number}")
    if sign == "":
        raise DataError(f"{path}, after record {number}: the list is not closed; the file was cut off.")


class _Buffer:
    """Text of a JSON file, read in chunks."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at = file, "", 0
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        chunk = self._file.read(max(_CHUNK, len(self._text)))  # doubled, as a long value is parsed again
        if chunk:
            self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def skip(self, count: int) -> None:
        """Move on by characters that `peek` has shown."""
        self._at += count

    def value(self, path: Path, number: int) -> Any:
        """The next value.

        Raises:
            DataError: it is not JSON.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                too_long = len(self._text) - self._at > _LONGEST
                if too_long or not self._more():
                    more = f", or a record of more than {_LONGEST:,} characters" if too_long else ""
                    raise DataError(f"{path}, record {number}: not JSON: {error.msg}{more}.") from error
            except (RecursionError, ValueError) as error:
                raise DataError(f"{path}, record {number}: not JSON: {error}.") from error
            else:
                if end < len(self._text) or not self._more():  # a number may continue in the next chunk
                    self._at = end
                    return value

    def seek_list(self, key: str) -> bool:
        """Move to the list under a key of the outermost object."""
        self.skip(1)
        while (sign := self.peek()) not in ("}", ""):
            if sign in ",:":
                self.skip(1)
                continue
            name = self.value(Path(key), 0)
            if self.peek() != ":":
                return False
            self.skip(1)
            if name == key:
                return self.peek() == "["
            self.value(Path(key), 0)
        return False
