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
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Protocol, Self, TypeVar

from .errors import DataError, MissingExtra, StorageError, UsageError, VideoLlama2Error, WorkerError
from .json_lines import dumps_line
from .storage import unwritable, write_whole

T = TypeVar("T")
R = TypeVar("R")
T_in = TypeVar("T_in", contravariant=True)
R_out = TypeVar("R_out", covariant=True)

_CHUNK = 1 << 16  # bytes of a journal that are read at once, from its end
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

    def append(self, values: Iterable[Any]) -> int:
        """Write one line per value: all of them or none, even if the disk fills up on the way.

        Returns:
            the place in the file at which the first of the lines begins.

        Raises:
            StorageError: none of the lines was written.
        """
        return self._write(b"".join(map(_line, values)))

    def _write(self, content: bytes) -> int:
        left, size = memoryview(content), os.fstat(self._file.fileno()).st_size
        with self._storage_errors():
            try:
                while left:
                    left = left[self._file.write(left) or 0 :]
            except OSError:
                os.ftruncate(self._file.fileno(), size)
                raise
        return size

    def _repair(self) -> None:
        at = size = self._file.seek(0, os.SEEK_END)
        tail = b""  # after the last newline
        while at and b"\n" not in tail:
            step = min(at, _CHUNK)
            at = self._file.seek(at - step)
            tail = self._file.read(step) + tail
        tail = tail[tail.rfind(b"\n") + 1 :]
        if tail and _parsed(tail) is None:
            self._file.truncate(size - len(tail))
        elif tail:
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
    for number, _, value in placed_lines(path, skip_damaged=skip_damaged):
        yield number, value


def placed_lines(path: Path, *, skip_damaged: bool = False) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """As `read_lines`, with the place in the file at which each line begins; one line is in memory at a time."""
    try:
        with path.open("rb") as file:
            place = 0
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                value = _parsed(line)
                if value is not None:
                    yield number, place, value
                elif not skip_damaged:
                    raise DataError(f"{path}:{number}: expected a JSON object, got {line[:60]!r}; remove the line.")
                place += len(line)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error


def line_at(path: Path, place: int) -> dict[str, Any]:
    """The object of the line that begins at this place (`placed_lines`, `JournalFile.append`).

    Raises:
        DataError: the file can't be read, or no such line begins there.
    """
    try:
        with path.open("rb") as file:
            file.seek(place)
            value = _parsed(file.readline())
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    if value is None:
        raise DataError(f"{path} changed while it was being read; run the same command again.")
    return value


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Replace a JSONL file atomically, one line in memory at a time; raises like `storage.write_whole`."""
    write_whole(path, map(_line, values))


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
        raise UsageError(f"expected 1 or more threads, got {threads}.")
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


class EnginePool(ABC):
    """Engines that work through the tasks of a job: one in threads (`LocalPool`), or many (`backends.ray`).

    Attributes:
        name, protocol, backend: of the engines; results depend on them (`backend_of`).
        weights_sha256: of the engines' weights; None if they are not in memory here, as behind a server.
        facts: more of them, if the job needs more.
        elsewhere: whether tasks run outside this process, which may have another working folder.
    """

    name: str
    protocol: Any
    backend: Mapping[str, str] = MappingProxyType({})
    weights_sha256: str | None = None
    facts: Any = None
    elsewhere: bool = False

    @abstractmethod
    def map(self, work: "EngineWork[T, R]", tasks: Sequence[T]) -> Generator[R, None, None]:
        """The result of every task, in the order of completion. Closing it cancels tasks that have not started.

        Raises:
            VideoLlama2Error: an error that would hit every task (`STOPS_THE_JOB`), or a lost cluster.
        """


class EngineWork(Protocol[T_in, R_out]):
    """What a job does with one task. Sent to other machines, so it can be pickled."""

    def __call__(self, engine: Any, task: T_in, stopped: Callable[[], bool]) -> R_out:
        """The result of a task; may end early, by raising `Stopped`, once `stopped()` is true."""

    def lost(self, task: T_in, error: VideoLlama2Error) -> R_out:
        """The result of a task that killed every process which worked on it."""


class Stopped(Exception):
    """The job is ending, so the rest of this task is not needed."""


class LocalPool(EnginePool):
    """One engine, with tasks in several threads: while one is answered, media of others are decoded."""

    def __init__(self, engine: Any, threads: int, weights_sha256: str | None = None) -> None:
        self.engine, self.threads, self.weights_sha256 = engine, threads, weights_sha256
        self.name, self.protocol, self.backend = engine.name, engine.protocol, backend_of(engine)

    def map(self, work: "EngineWork[T, R]", tasks: Sequence[T]) -> Generator[R, None, None]:
        """As `EnginePool.map`; tasks in progress when it is closed are waited for."""
        stop = threading.Event()
        return in_threads(lambda task: work(self.engine, task, stop.is_set), tasks, self.threads, on_exit=stop.set)


def backend_of(engine: Any) -> dict[str, str]:
    """What runs an engine's language model, and from which GGUF file, as in receipts; empty for a server."""
    decoder = getattr(getattr(engine, "runner", None), "decoder", None)
    return {} if decoder is None else {"engine": decoder.engine, "weights": decoder.weights}


def with_backend(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with what earlier versions did not write: they knew torch alone."""
    return {"engine": "torch", "weights": "", **manifest}


def abridged(value: Any) -> Any:
    """A manifest's value for a message: a hash is cut short."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else value


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
        raise UsageError(f"expected a share K/N with K from 0 to N-1 (0/2 and 1/2 are the two halves), got {text!r}.")
    return int(rank), int(world)


def _lock(file: BinaryIO, path: Path, in_use: str) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on this system
        pass
    except BlockingIOError:
        file.close()
        raise UsageError(f"another process is writing {path}; {in_use}.") from None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _line(value: Any) -> bytes:
    return (dumps_line(value) + "\n").encode()
