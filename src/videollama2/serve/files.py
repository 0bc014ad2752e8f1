"""Uploaded files: stored in one folder under generated names until they are deleted or expire.

An upload is ID.bin (content) and ID.json (metadata). A folder that outlives the server is read at the next start.
"""

import contextlib
import json
import logging
import re
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError, UsageError
from ..storage import write_whole
from .errors import ApiError
from .settings import ServeSettings

logger = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_ID = re.compile(r"file-[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """Metadata of an uploaded file. Times are in Unix seconds."""

    id: str
    filename: str
    bytes: int
    created_at: int
    expires_at: int
    purpose: str


_TEMPLATE = StoredFile(id="", filename="", bytes=0, created_at=0, expires_at=0, purpose="")


class FileStore:
    """A server's uploaded files. Thread-safe."""

    def __init__(self, settings: ServeSettings) -> None:
        """Create the folder, or read the files in it.

        Raises:
            OSError: the folder can't be created or read.
        """
        self._settings, self._lock = settings, threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._reserved = 0  # bytes of uploads being written
        if settings.files_folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="videollama2-files-"))
            self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        else:
            self.folder = settings.files_folder
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._read()

    def close(self) -> None:
        """Delete a temporary folder now: finalizers don't run in a process killed by a signal."""
        if self._settings.files_folder is None:
            self._remove()

    @property
    def bytes(self) -> int:
        """Size of all files, including uploads in progress."""
        with self._lock:
            return self._reserved + sum(file.bytes for file in self._files.values())

    def add(
        self, content: BinaryIO, size: int, filename: str, purpose: str, seconds: float | None = None
    ) -> StoredFile:
        """Store a file.

        Args:
            size: of the content, in bytes.
            seconds: lifetime; only lowers the server's own.

        Raises:
            ApiError: an empty or too large file, too many files, or a full disk.
        """
        settings, id = self._settings, f"file-{secrets.token_hex(16)}"
        if size < 1:
            raise ApiError(400, "empty_media", "the file is empty; expected a video, audio or image file", param="file")
        if size > settings.max_upload_bytes:
            limit = f"{settings.max_upload_bytes:,}"
            raise ApiError(413, "file_too_large", f"the file is larger than {limit} bytes", param="file")
        self.sweep()
        with self._lock:
            held = self._reserved + sum(file.bytes for file in self._files.values())
            if len(self._files) >= settings.files_count or held + size > settings.files_bytes:
                raise ApiError(
                    507, "storage_full", "the server's storage for files is full; delete some files, or try again later"
                )
            self._reserved += size
        path = self.folder / f"{id}.bin"
        try:
            with path.open("xb") as out:
                shutil.copyfileobj(content, out, _CHUNK_BYTES)
            now = int(time.time())
            lifetime = int(min(settings.file_seconds, settings.file_seconds if seconds is None else seconds))
            made = StoredFile(
                id=id, filename=filename, bytes=size, created_at=now, expires_at=now + max(lifetime, 1), purpose=purpose
            )
            write_whole(self.folder / f"{id}.json", json.dumps(asdict(made)).encode())
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise no_room(error) from error
            raise
        finally:
            with self._lock:
                self._reserved -= size
        with self._lock:
            self._files[id] = made
        return made

    def get(self, id: str) -> StoredFile:
        """Metadata of a file.

        Raises:
            ApiError: no file has this id; it may have expired.
        """
        with self._lock:
            found = self._files.get(id)
        if found is None or found.expires_at <= time.time():
            raise ApiError(404, "file_not_found", "no file has this id; it may have expired: upload it again")
        return found

    def path_of(self, id: str) -> Path:
        """Path of the content; raises like `get`."""
        return self.folder / f"{self.get(id).id}.bin"

    def list(self) -> list[StoredFile]:
        """All files, newest first."""
        now = time.time()
        with self._lock:
            alive = [file for file in self._files.values() if file.expires_at > now]
        return sorted(alive, key=lambda file: (file.created_at, file.id), reverse=True)

    def delete(self, id: str) -> None:
        """Delete a file; raises like `get`."""
        self.get(id)
        self._drop(id)

    def sweep(self) -> None:
        """Delete expired files."""
        now = time.time()
        with self._lock:
            over = [file.id for file in self._files.values() if file.expires_at <= now]
        for id in over:
            self._drop(id)

    def _drop(self, id: str) -> None:
        with self._lock:
            self._files.pop(id, None)
        for suffix in (".json", ".bin"):
            with contextlib.suppress(OSError):  # open on Windows; deleted when the server next starts
                (self.folder / f"{id}{suffix}").unlink(missing_ok=True)

    def _read(self) -> None:
        for path in self.folder.glob("file-*.bin"):
            try:
                if not _ID.fullmatch(path.stem):
                    raise DataError("not a generated name.")
                found = StoredFile(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
                typed = all(type(value) is type(getattr(_TEMPLATE, name)) for name, value in vars(found).items())
                if not typed or found.id != path.stem or path.is_symlink() or found.bytes != path.stat().st_size:
                    raise DataError("its metadata don't match.")
                self._files[found.id] = found
            except (OSError, ValueError, TypeError, RecursionError, DataError) as error:
                logger.warning("ignoring %s (neither served nor deleted): %s", path.name, error)
        self.sweep()


def no_room(error: OSError) -> ApiError:
    """The error response if an upload can't be written; the reason goes to the log."""
    logger.error("could not write an upload: %s", error.strerror or type(error).__name__)
    return ApiError(507, "storage_full", "the server could not store the file; try again later, or tell its operator")


def display_name(filename: str | None) -> str:
    """The uploaded file's name, without folders and control characters; it is only displayed.

    Raises:
        UsageError: the name is too long.
    """
    name = "".join(c for c in re.split(r"[/\\]", filename or "")[-1] if c.isprintable()) or "upload"
    if len(name) > 255:
        raise UsageError(f"the file name has {len(name)} characters; expected at most 255.")
    return name
