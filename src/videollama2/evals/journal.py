"""A run's results on disk as they come, so that a run that was killed goes on where it was.

    one process        results.jsonl                     timings.jsonl
    process k of n     results-k.jsonl                   timings-k.jsonl
    when all is done   results.jsonl, in item order, of whatever the processes wrote

Seconds stand in a file of their own: all others are the same, byte for byte, however often a run was stopped.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import DataError, StorageError, UsageError
from .items import Outcome, Result

RESULTS, TIMINGS = "results", "timings"

Key = tuple[str, str]  # ablation, item


class Journal:
    """Where one process writes. Results that are asked for together are written together."""

    def __init__(self, folder: Path, rank: int = 0, world: int = 1) -> None:
        """Open for writing at the end; a last line that was cut off when its writer was killed goes.

        Raises:
            StorageError: the folder can't be written.
            UsageError: another process writes there.
        """
        self._folder = folder
        part = "" if world == 1 else f"-{rank}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = [_opened(folder / f"{kind}{part}.jsonl") for kind in (TIMINGS, RESULTS)]
        except OSError as error:
            raise unwritable(folder, error) from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def write(self, results: Sequence[Result]) -> None:
        """Keep these.

        Raises:
            StorageError: they can't be written; the lines before them are whole.
        """
        timings, lines = self._files
        try:
            _append(timings, [_timing(result) for result in results])
            _append(lines, [_line(result) for result in results])
        except OSError as error:
            raise unwritable(self._folder, error) from error


def read_results(folder: Path) -> list[Result]:
    """The results of a run, with their seconds; of one that is not finished, what there is, process by process.

    Where an item stands there twice, because a failed one was asked again, the answer wins, else the later failure.

    Raises:
        UsageError: the folder holds no results.
        DataError: a line is no result.
    """
    files = _parts(folder, RESULTS)
    if not files:
        raise UsageError(f"{folder} holds no {RESULTS}.jsonl; give the folder of a run (OUT/BENCHMARK)")
    found: dict[Key, Result] = {}
    for path in files:
        for number, data in _lines(path):
            try:
                result = Result.of_dict({**data, "seconds": {}})
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}:{number} is no result of a run ({error}); remove the line") from error
            key = (result.ablation, result.id)
            if key not in found or result.outcome != Outcome.FAILED or found[key].outcome == Outcome.FAILED:
                found[key] = result
    for path in _parts(folder, TIMINGS):
        for _, data in _lines(path):
            seconds = data.pop("seconds", None)
            key = (data.get("ablation", ""), data.get("id", ""))
            if key in found and isinstance(seconds, dict):
                found[key].seconds.update(seconds)  # type: ignore[attr-defined]  # made above, as a dict
    return list(found.values())


def known_results(folder: Path) -> dict[Key, Result]:
    """As `read_results`, by ablation and item; empty where there are none yet."""
    return {(r.ablation, r.id): r for r in read_results(folder)} if _parts(folder, RESULTS) else {}


def write_results(folder: Path, results: Iterable[Result]) -> None:
    """Replace results.jsonl and timings.jsonl, each all or nothing.

    Raises:
        StorageError: they can't be written; the old ones are whole.
    """
    listed = list(results)
    write_whole(folder / f"{TIMINGS}.jsonl", b"".join(map(_timing, listed)))
    write_whole(folder / f"{RESULTS}.jsonl", b"".join(map(_line, listed)))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file all or nothing; several processes may do so at once.

    Raises:
        StorageError: it can't be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise unwritable(path, error) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON that people can read; raises as `write_whole`."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def unwritable(path: Path, error: OSError) -> StorageError:
    """The error of output that can't be written."""
    return StorageError(
        f"{path} can't be written ({error.strerror or error}); what was written before is whole. Make room or name "
        "another folder with --out, then run the same command again"
    )


def _opened(path: Path) -> BinaryIO:
    file = path.open("a+b", buffering=0)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # a system without such locks
        pass
    except BlockingIOError:
        file.close()
        raise UsageError(
            f"another process writes {path}; wait for it, name another folder with --out, or give each its --shard"
        ) from None
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)
    return file


def _append(file: BinaryIO, lines: Sequence[bytes]) -> None:
    """All or nothing, also on a disk that is nearly full."""
    left, size = memoryview(b"".join(lines)), os.fstat(file.fileno()).st_size
    try:
        while left:
            left = left[file.write(left) or 0 :]
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def _line(result: Result) -> bytes:
    data = result.to_dict()
    del data["seconds"]
    return (json.dumps(data) + "\n").encode()


def _timing(result: Result) -> bytes:
    told = {"id": result.id, "ablation": result.ablation, "seconds": dict(result.seconds)}
    return (json.dumps(told) + "\n").encode()


def _parts(folder: Path, kind: str) -> list[Path]:
    whole = folder / f"{kind}.jsonl"
    return [*([whole] if whole.is_file() else []), *sorted(folder.glob(f"{kind}-*.jsonl"))]


def _lines(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """Number and content of each line. A last one that is still being written, or was cut off, is left out."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            data = json.loads(line)
            if not isinstance(data, dict):
                raise ValueError("it is no object")
        except ValueError as error:
            raise DataError(f"{path}:{number} is no line of a run ({error}); remove the line") from error
        yield number, data
