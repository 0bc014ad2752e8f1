"""Shared by resumable jobs: journals, shares of the work, threads, and when to abort.

    with JournalFile(folder / "results.jsonl", in_use="wait for it") as journal:   one writer; a torn line is repaired
        done = {key(line) for _, line in read_lines(folder / "results.jsonl")}
        for line in in_threads(work, [task for task in tasks if key(task) not in done], threads):
            journal.append([line])                                                 all of the lines or none
    write_lines(folder / "results.jsonl", in_order)                                replaced as a whole

Captioning, evaluation and the data doctor run this way: killed at any moment, they resume after the last whole line.
"""

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

from .errors import DataError, MissingExtra, StorageError, UsageError, WorkerError
from .json_lines import dumps_line
from .storage import unwritable, write_whole

T = TypeVar("T")
R = TypeVar("R")

OnProgress = Callable[[int, int], None]
"""Called with the number of tasks done, and their total."""

STOPS_THE_JOB = (StorageError, MissingExtra, WorkerError)
"""Errors that would hit every remaining task; any other error concerns its own task alone."""


class JournalFile:
    """A JSONL file that this process alone appends to.

    A last line without a newline was being written when its writer was killed: it is completed if it is valid JSON,
    and removed otherwise.

    Args:
        in_use: what to do while another process writes the file, for the error's message.

    Raises:
        UsageError: another process is writing it.
        StorageError: it can't be written.
    """

    def __init__(self, path: Path, *, in_use: str) -> None:
        self._folder = path.parent
        with self._storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
            _lock(self._file, path, in_use)
            self._repair()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release its lock."""
        self._file.close()

    def append(self, values: Iterable[Any]) -> None:
        """Write one line per value: all of them or none, even if the disk fills up on the way.

        Raises:
            StorageError: none of the lines was written.
        """
        self._write(b"".join(map(_line, values)))

    def _write(self, content: bytes) -> None:
        left, size = memoryview(content), os.fstat(self._file.fileno()).st_size
        with self._storage_errors():
            try:
                while left:
                    left = left[self._file.write(left) or 0 :]
            except OSError:
                os.ftruncate(self._file.fileno(), size)
                raise

    def _repair(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if not content[whole:]:
            return
        if _parsed(content[whole:]) is None:
            self._file.truncate(whole)
        else:
            self._write(b"\n")

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._folder, error) from error


def read_lines(path: Path, *, skip_damaged: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line of a JSONL file; a last line without a newline is ignored.

    Args:
        skip_damaged: ignore lines that are not JSON objects instead of raising.

    Raises:
        DataError: the file can't be read, or a line is not a JSON object.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        value = _parsed(line)
        if value is not None:
            yield number, value
        elif not skip_damaged:
            raise DataError(f"{path}:{number}: expected a JSON object, got {line[:60]!r}; remove the line")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Replace a JSONL file atomically; raises like `storage.write_whole`."""
    write_whole(path, b"".join(map(_line, values)))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write indented JSON atomically; raises like `storage.write_whole`."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def in_threads(
    work: Callable[[T], R], tasks: Sequence[T], threads: int, on_exit: Callable[[], object] | None = None
) -> Generator[R, None, None]:
    """`work(task)` of every task, in the order of completion.

    If the caller stops early, tasks that have started are waited for and the others are cancelled.

    Args:
        threads: tasks in progress at once; 1 runs them in the caller's thread.
        on_exit: called before waiting for running tasks, to make them return early.

    Raises:
        UsageError: fewer than one thread. Whatever `work` raises.
    """
    if threads < 1:
        raise UsageError(f"expected 1 or more threads, got {threads}")
    if threads == 1:
        yield from map(work, tasks)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        for done in as_completed([pool.submit(work, task) for task in tasks]):
            yield done.result()
    finally:
        if on_exit is not None:
            on_exit()
        pool.shutdown(cancel_futures=True)


def error_text(error: Exception) -> str:
    """An error's message and notes on one line."""
    return " ".join([str(error), *getattr(error, "__notes__", ())]).replace("\n", " ")


class FailureStreak:
    """Counts consecutive unexpected failures: many in a row mean a broken device or installation, not broken inputs."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.length = 0

    def update(self, *, unexpected: bool) -> bool:
        """Count one task's outcome; True once the limit is reached and the job should end."""
        self.length = self.length + 1 if unexpected else 0
        return self.length >= self.limit


def share_from_environment(environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """This process's share (rank, number of processes) as torchrun sets it; (0, 1) outside torchrun.

    Raises:
        UsageError: RANK and WORLD_SIZE don't name a share.
    """
    env = os.environ if environment is None else environment
    return parse_share(f"{env.get('RANK', '0')}/{env.get('WORLD_SIZE', '1')}")


def parse_share(text: str) -> tuple[int, int]:
    """`0/2` → (0, 2): the first of two shares.

    Raises:
        UsageError: the text is not K/N with K below N.
    """
    rank, _, world = text.partition("/")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise UsageError(f"expected a share K/N with K from 0 to N-1 (0/2 and 1/2 are the two halves), got {text!r}")
    return int(rank), int(world)


def _lock(file: BinaryIO, path: Path, in_use: str) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on this system
        pass
    except BlockingIOError:
        file.close()
        raise UsageError(f"another process is writing {path}; {in_use}") from None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _line(value: Any) -> bytes:
    return (dumps_line(value) + "\n").encode()
