"""Atomic writes: a killed process leaves the old file or folder or the new one, never half of one."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import StorageError, VideoLlama2Error

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
_HELD = "held"  # a file in a work folder, locked as long as its process lives


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


@contextlib.contextmanager
def work_folder(target: Path, needed: int = 0) -> Iterator[Path]:
    """A folder beside `target`, in which it is written before it gets its name; those of killed processes are removed.

    Args:
        needed: bytes that must be free there.

    Raises:
        StorageError: they aren't, or the disk is full or fails.
    """
    parent = target.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent, f".{target.name}.")
        free = shutil.disk_usage(parent).free
        if free < needed:
            raise StorageError(
                f"{target} takes {needed / 1e9:.1f} GB, but {parent} has {free / 1e9:.1f} GB free; free some space, or "
                "choose another folder."
            )
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=parent) as work, _hold(Path(work)):
            yield Path(work)
    except Exception as error:
        if isinstance(error, VideoLlama2Error) or not _of_the_disk(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{target} can't be written ({reason}); nothing was changed. Free some space, or choose another folder."
        ) from error


def _of_the_disk(error: Exception) -> bool:
    """Whether a write has failed; numpy and safetensors report that without an error number."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _DISK_ERRORS
    text = str(error)
    return "No space left" in text or "serializ" in text or ("requested and" in text and "written" in text)


@contextlib.contextmanager
def _hold(work: Path) -> Iterator[None]:
    """Lock a folder, as long as this process lives."""
    new = work / f"{_HELD}.new"
    with new.open("wb") as file:
        if _locked(file.fileno()):
            new.rename(work / _HELD)  # locked from the first moment of its name
        yield


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for held in parent.glob(f"{prefix}*/{_HELD}"):
        with contextlib.suppress(OSError), held.open("r+b") as file:
            if _locked(file.fileno()):
                shutil.rmtree(held.parent)


def _locked(file: int) -> bool:
    """Lock a file; False if another process has it, or the system has no such locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
