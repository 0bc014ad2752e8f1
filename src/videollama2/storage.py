"""Atomic file writes: a killed process leaves the old file or the new one, never half of one."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from .errors import StorageError


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file atomically, also if several processes write it at once.

    Args:
        content: all of it, or its chunks, one of which is in memory at a time.

    Raises:
        StorageError: it can't be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise unwritable(path, error) from error
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def unwritable(path: Path, error: OSError) -> StorageError:
    """The StorageError for output that can't be written."""
    return StorageError(
        f"{path} can't be written ({error.strerror or error}); earlier output is intact. Free some space, or choose "
        "another folder with --out, then run the same command again."
    )
