"""Official annotation files as rows that know their place.

    .json     a list of objects; an object with such a list; one object per line      .jsonl  one object per line
    .csv .tsv .txt   with a header, or columns named by the caller      .xlsx  the first sheet
    .parquet  with all of its parts ("-00000-of-00003"), without the media that it may embed (parquet_media.py)

Nothing in a file is ever executed: lists written as text are parsed as literals. A trailing comma before a closing
bracket is accepted, since published files have it. A record that can't be read is a Row with a problem, which every
access raises, so that it costs no other record; a file that can't be read at all is a DataError.
"""

import ast
import codecs
import contextlib
import csv
import io
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, MissingExtra
from .annotation_files import VIDEO_SUFFIXES as VIDEO_SUFFIXES
from .annotation_files import first_existing as first_existing
from .annotation_files import if_existing as if_existing
from .annotation_files import media as media
from .annotation_files import some
from .annotation_forms import lettered_lines_of, records_in
from .record_files import HEAD, decoded, not_the_file, parquet_rows, parsed

_LONGEST_LITERAL = 10_000  # characters; published lists have a few dozen
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')


@dataclass(frozen=True)
class Row:
    """One record.

    Attributes:
        origin: its place: "questions.json:17", the number of the record, line or row.
        problem: why the record can't be read; raised by every access.
    """

    data: Mapping[str, Any]
    origin: str
    problem: str | None = None

    def error(self, message: str) -> DataError:
        """The error to raise: the place and the message."""
        return DataError(f"{self.origin}: {message.removesuffix('.')}.")

    def has(self, key: str) -> bool:
        """Whether the key has a value other than null, NaN (an empty table cell) and blanks."""
        if self.problem is not None:
            raise self.error(self.problem)
        value = self.data.get(key)
        empty = value is None or (isinstance(value, float) and math.isnan(value))
        return not (empty or (isinstance(value, str) and not value.strip()))

    def get(self, key: str, default: Any = None) -> Any:
        """The value unchanged, or the default."""
        return self.data.get(key, default)

    def text(self, key: str, *aliases: str) -> str:
        """The text under the first key that has a value; a whole number counts as text (ids).

        Raises:
            DataError: no key has a value, or it is not text.
        """
        key = self._key(key, *aliases)
        text = _as_text(self.data[key])
        if text is None:
            raise self.error(f"{key}: expected text, got {self.data[key]!r:.60}.")
        return text

    def number(self, key: str, *aliases: str) -> int:
        """The whole number under the first key that has a value; digits as text count.

        Raises:
            DataError: no key has a value, or it is not a whole number.
        """
        key = self._key(key, *aliases)
        text = _as_text(self.data[key]) or ""
        if not re.fullmatch(r"\s*-?[0-9]{1,15}\s*", text):
            raise self.error(f"{key}: expected a whole number, got {self.data[key]!r:.60}.")
        return int(text)

    def seconds(self, key: str, *aliases: str) -> float:
        """Seconds, 0 or more, under the first key that has a value.

        Raises:
            DataError: no key has a value, or it is not a time.
        """
        key = self._key(key, *aliases)
        value = self.data[key]
        try:
            seconds = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise self.error(f"{key}: expected seconds, such as 12.5, got {value!r:.60}.")
        return seconds

    def texts(self, key: str, *aliases: str) -> tuple[str, ...]:
        """The list of texts under the first key that has a value.

        It may also be written as text, be an object {"A": …, "B": …}, or be lines that begin with letters.

        Raises:
            DataError: no key has a value, or it is not a list of texts.
        """
        key = self._key(key, *aliases)
        value = self.data[key]
        if isinstance(value, str):
            value = literal(value) or lettered_lines_of(value)
        if isinstance(value, dict) and list(value) == [chr(ord("A") + k) for k in range(len(value))]:
            value = list(value.values())
        texts = [_as_text(part) for part in value] if isinstance(value, list | tuple) else []
        if not texts or None in texts:
            raise self.error(f"{key}: expected a list of texts, got {self.data[key]!r:.60}.")
        return tuple(text for text in texts if text is not None)

    def rows(self, key: str) -> list["Row"]:
        """The list of records under the key.

        Raises:
            DataError: the key has no value, or it is not a list of records.
        """
        return _rows_of(self.data[self._key(key)], f"{self.origin}, {key}")

    def row(self, key: str) -> "Row":
        """The record under the key.

        Raises:
            DataError: the key has no value, or it is not a record.
        """
        held = self.data[self._key(key)]
        return Row(held, f"{self.origin}, {key}") if isinstance(held, dict) else _odd(held, f"{self.origin}, {key}")

    def _key(self, *keys: str) -> str:
        for key in keys:
            if self.has(key):
                return key
        there = some(sorted(map(str, self.data))) or "no keys"
        empty = " with a value" if keys[0] in self.data else ""
        raise self.error(f"expected {' or '.join(map(repr, keys))}{empty}; the record has {there}.")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: the file is missing or not JSON (with line and column), or its outermost object repeats a key, of
            which JSON keeps only the last.
    """
    outermost: list[tuple[str, Any]] = []

    def kept(members: list[tuple[str, Any]]) -> dict[str, Any]:
        outermost[:] = members  # the object around all others ends last
        return dict(members)

    held = _json(_content(path), path, kept)
    twice = [key for key, count in Counter(key for key, _ in outermost).items() if count > 1]
    if isinstance(held, dict) and twice:
        raise DataError(f"{path}: expected each key once, got {some(twice)} twice.")
    return held


def rows(
    path: Path,
    *,
    key: str | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> list[Row]:
    """Every record of a file, by its suffix.

    Args:
        key: of the list, in a JSON object.
        columns: names for a table without a header; None: its first line is the header.
        encoding: of a table that is not UTF-8 ("latin1").
        delimiter: of a table; None: a tab in .tsv and .txt, else a comma.

    Raises:
        DataError: the file is missing, malformed, or holds no readable record.
        MissingExtra: .xlsx and .parquet need the eval extra.
    """
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _readable(_json_rows(path, key, lines=suffix != ".json"))
    if suffix in (".csv", ".tsv", ".txt"):
        found = _table(path, encoding, delimiter or ("," if suffix == ".csv" else "\t"))
    elif suffix == ".xlsx":
        found = _sheet(path)
    elif suffix == ".parquet":
        parts = table_parts(_there(path))
        return [Row(row, f"{part.name}:{number}") for part in parts for number, row in _parquet(part)]
    else:
        raise DataError(f"{path}: expected a .json, .jsonl, .csv, .tsv, .txt, .xlsx or .parquet file.")
    return _readable(list(_with_header(found, path, columns)))


def keyed_rows(path: Path) -> list[tuple[str, Row]]:
    """The members of a JSON object of records: [(key, row), …], in the order of the file.

    Raises:
        DataError: the file is missing, malformed, or holds something else.
    """
    held = read_json(path)
    if not isinstance(held, dict):
        raise DataError(f"{path}: expected an object of records by their ids, got {held!r:.60}.")
    found = {
        key: Row(value, f"{path.name}:{key}") if isinstance(value, dict) else _odd(value, f"{path.name}:{key}")
        for key, value in held.items()
    }
    _readable(list(found.values()))
    return list(found.items())


def literal(text: str, longest: int = _LONGEST_LITERAL) -> Any:
    """The value of a Python or JSON literal ("['a', 'b']"), or None if the text is not one or longer than `longest`."""
    if len(text) > longest:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def table_parts(path: Path) -> list[Path]:
    """The files of a Parquet table: the one that was named, or all of "test-00000-of-00003.parquet" to "00002"."""
    found = re.fullmatch(r"(.+-)([0-9]{5})-of-([0-9]{5})\.parquet", path.name)
    if found is None:
        return [path]
    parts = [path.with_name(f"{found[1]}{i:05}-of-{found[3]}.parquet") for i in range(int(found[3]))]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise DataError(f"{path.parent}: expected all parts of the table; not found: {some(missing)}.")
    return parts


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is not a file; expected an annotation file.")
    return path


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            instead = not_the_file(file.read(HEAD))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    if instead:
        raise DataError(f"{path} is {instead}.")
    return parquet_rows(path, "eval", media=False)


def _content(path: Path, encoding: str = "utf-8") -> str:
    try:
        data = _there(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    if instead := not_the_file(data[:HEAD]):
        raise DataError(f"{path} is {instead}.")
    if encoding == "utf-8":
        return decoded(data, str(path), " Save it as UTF-8.")
    try:  # a copy saved again
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.removeprefix(codecs.BOM_UTF8).decode(encoding)


def _json(text: str, path: Path, objects: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    try:
        try:
            return json.loads(text, object_pairs_hook=objects)
        except json.JSONDecodeError:  # a trailing comma? A blank in its place keeps all columns
            return json.loads(_TRAILING_COMMA.sub(lambda found: found[1] or " ", text), object_pairs_hook=objects)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}.") from error
    except (RecursionError, ValueError) as error:  # nested without end; a number of thousands of digits
        raise DataError(f"{path} can't be read as JSON: {error}.") from error


def _json_rows(path: Path, key: str | None, *, lines: bool) -> list[Row]:
    text = _content(path)
    if not lines:
        try:
            held = _json(text, path)
        except DataError:
            # some .json files are published as one object per line; if this is not one, the error stands
            if "\n" not in text.strip() or not isinstance(parsed(text.strip().partition("\n")[0]), dict):
                raise
        else:
            if key is None or not isinstance(held, dict):
                return _rows_of(records_in(held), path.name)
            if key not in held:
                raise DataError(f"{path}: expected the key {key!r}; it has {some(list(held)) or 'no keys'}.")
            return _rows_of(held[key], path.name)
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            record, origin = parsed(line), f"{path.name}:{number}"
            if isinstance(record, DataError):
                found.append(Row({}, origin, f"not a record: {record}"))
            else:
                found.append(Row(record, origin) if isinstance(record, dict) else _odd(record, origin))
    return found


def _rows_of(held: Any, name: str) -> list[Row]:
    if not isinstance(held, list):
        raise DataError(f"{name}: expected a list of records, [{{…}}, …], got {held!r:.60}.")
    return [
        Row(record, f"{name}:{number}") if isinstance(record, dict) else _odd(record, f"{name}:{number}")
        for number, record in enumerate(held, 1)
    ]


def _odd(held: Any, origin: str) -> Row:
    return Row({}, origin, f"expected a record, {{…}}, got {held!r:.60}.")


def _readable(found: list[Row]) -> list[Row]:
    """The rows, of which at least one can be read."""
    first = next((row for row in found if row.problem is not None), None)
    if first is not None and all(row.problem is not None for row in found):
        raise first.error(str(first.problem))
    return found


def _table(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[Any]]]:
    reader = csv.reader(io.StringIO(_content(path, encoding), newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, list(cells)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a table: {error}.") from error


def _sheet(path: Path) -> Iterator[tuple[int, list[Any]]]:
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtra(f"{path}: reading sheets needs openpyxl; run: pip install 'videollama2[eval]'") from error
    found: list[list[Any]] = []
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.closing(openpyxl.load_workbook(_there(path), read_only=True, data_only=True)) as book,
        ):
            found += map(list, book.worksheets[0].iter_rows(values_only=True))
    except DataError:
        raise
    except Exception as error:  # a damaged file makes zlib, zipfile, XML and openpyxl raise whatever they do
        words = f"{type(error).__name__} {' '.join(str(error).split()):.200}".strip()
        raise DataError(f"{path}, after row {len(found)}: the sheet can't be read: {words}.") from error
    return enumerate(found, 1)


def _with_header(found: Iterator[tuple[int, list[Any]]], path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    header = None if columns is None else list(columns)
    for line, cells in found:
        if all(cell is None or not str(cell).strip() for cell in cells):
            continue
        if header is None:
            header = [str(cell or "").strip() for cell in cells]
            twice = [name for name, count in Counter(filter(None, header)).items() if count > 1]
            if twice:
                raise DataError(f"{path}, line {line}: expected unique column names, got {some(twice)} twice.")
            continue
        extra = [cell for cell in cells[len(header) :] if cell not in (None, "")]
        odd = f"expected {len(header)} cells ({some(header)}), got {len(cells)}."
        held = {name: cell for name, cell in zip(header, cells, strict=False) if name}
        yield Row(held, f"{path.name}:{line}", odd if len(cells) < len(header) or extra else None)


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a sheet's whole numbers
    number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return str(value) if number and not isinstance(value, bool) else None
