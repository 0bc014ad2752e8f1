"""Files that a killed process leaves whole: JSON lines that are only added to, and files that are replaced whole."""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DataError, StorageError, UsageError


def open_lines(path: Path, otherwise: str) -> BinaryIO:
    """A file to add lines to, for this process alone; a last line that was cut off when its writer was killed goes.

    Args:
        otherwise: what to do where another process has it, for the error's message.

    Raises:
        UsageError: another process writes it. OSError: it can't be written.
    """
    file = path.open("a+b", buffering=0)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # a system without such locks
        pass
    except BlockingIOError:
        file.close()
        raise UsageError(f"another process writes {path}; {otherwise}") from None
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)
    return file


def append(file: BinaryIO, lines: Sequence[bytes]) -> None:
    """All of the lines or none, also on a disk that is nearly full.

    Raises:
        OSError: none was written.
    """
    left, size = memoryview(b"".join(lines)), os.fstat(file.fileno()).st_size
    try:
        while left:
            left = left[file.write(left) or 0 :]
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def read_lines(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """Number and content of each line. A last one that is still being written, or was cut off, is left out.

    Raises:
        DataError: the file can't be read, or a line is no JSON object.
    """
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


def unwritable(path: Path, error: OSError) -> StorageError:
    """The error of output that can't be written."""
    return StorageError(
        f"{path} can't be written ({error.strerror or error}); what was written before is whole. Make room or name "
        "another folder with --out, then run the same command again"
    )
