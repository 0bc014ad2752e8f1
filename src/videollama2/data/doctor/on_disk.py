"""A list and a dictionary in temporary files, so that the doctor's memory doesn't grow with the records.

Small ones stay in memory: a file is made when a list exceeds a block, or SQLite's cache is full.
"""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Generic, TypeVar

from ...errors import StorageError
from ..indexed import Indexed

T = TypeVar("T")
_BLOCK = 1_000  # items of a list that are written at once
_CACHE_KIB = 32_768


def _same(item: Any) -> Any:
    return item


class DiskList(Indexed[T], Generic[T]):
    """A list that is only appended to. The file has no name, and goes with the list.

    Args:
        items: the first.
        dump, load: an item as a JSON value, and back.
    """

    def __init__(
        self, items: Iterable[T] = (), *, dump: Callable[[T], Any] = _same, load: Callable[[Any], T] = _same
    ) -> None:
        self._dump, self._back = dump, load
        self._tail: list[T] = []
        self._starts: list[int] = []  # of the blocks in the file
        self._file: IO[str] | None = None
        self._read: tuple[int, list[T]] = (-1, [])  # the block that was read last
        self.extend(items)

    def append(self, item: T) -> None:
        """Add an item.

        Raises:
            StorageError: the temporary file can't be written.
        """
        self._tail.append(item)
        if len(self._tail) == _BLOCK:
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - as long as the list
                self._starts.append(self._file.seek(0, 2))
                self._file.write(json.dumps(list(map(self._dump, self._tail))) + "\n")
            except OSError as error:
                raise _unwritable(error) from error
            self._tail = []

    def extend(self, items: Iterable[T]) -> None:
        """Add items; raises as `append`."""
        for item in items:
            self.append(item)

    def __len__(self) -> int:
        return len(self._starts) * _BLOCK + len(self._tail)

    def __iter__(self) -> Iterator[T]:
        for block in range(len(self._starts)):
            yield from self._load(block)
        yield from self._tail

    def at(self, place: int) -> T:
        """The item at a place, from memory or from its block in the file."""
        block, k = divmod(place, _BLOCK)
        return self._tail[k] if block == len(self._starts) else self._load(block)[k]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def _load(self, block: int) -> list[T]:
        if self._read[0] != block:
            assert self._file is not None, "blocks are in the file"
            self._file.seek(self._starts[block])
            self._read = block, list(map(self._back, json.loads(self._file.readline())))
        return self._read[1]


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)


class DiskDict:
    """Text → a JSON value, in the order in which keys were set; lists come back for tuples."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a temporary file, once the cache is full
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("CREATE TABLE held (number INTEGER PRIMARY KEY, key TEXT UNIQUE, value TEXT)")
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Remove the file."""
        self._db.close()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default."""
        found = self._db.execute("SELECT value FROM held WHERE key = ?", (_text(key),)).fetchone()
        return default if found is None else json.loads(found[0])

    def __getitem__(self, key: str) -> Any:
        found = self.get(key, self)
        if found is self:
            raise KeyError(key)
        return found

    def __contains__(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM held WHERE key = ?", (_text(key),)).fetchone() is not None

    def __setitem__(self, key: str, value: Any) -> None:
        self._write(
            "INSERT INTO held (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key, value,
        )  # fmt: skip

    def setdefault(self, key: str, value: Any) -> Any:
        """The value of a key, which is set if it has none."""
        self._write("INSERT OR IGNORE INTO held (key, value) VALUES (?, ?)", key, value)
        return self[key]

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM held").fetchone()[0])

    def items(self) -> Iterator[tuple[str, Any]]:
        """Keys and values; others may be set meanwhile."""
        last = 0
        while block := self._db.execute(
            "SELECT number, key, value FROM held WHERE number > ? ORDER BY number LIMIT 1000", (last,)
        ).fetchall():
            for _, key, value in block:
                yield json.loads(key), json.loads(value)
            last = block[-1][0]

    def _write(self, statement: str, key: str, value: Any) -> None:
        try:
            self._db.execute(statement, (_text(key), json.dumps(value)))
        except sqlite3.Error as error:
            raise _unwritable(error) from error


def _text(key: str) -> str:
    """A key as SQLite stores it: ASCII, as names of files needn't be Unicode."""
    return json.dumps(key)


def _unwritable(error: Exception) -> StorageError:
    return StorageError(f"a temporary file can't be written in {tempfile.gettempdir()} ({error}); make room.")
