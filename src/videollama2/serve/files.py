"""Uploaded files: kept in one folder under names of our own, until they are deleted or expire.

Each file has two: ID.bin, its content, and ID.json, what is known of it. A folder that outlives the server is read
again.
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
_PIECE = 1 << 20
_ID = re.compile(r"file-[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file. Times are seconds since 1970."""

    id: str
    filename: str
    bytes: int
    created_at: int
    expires_at: int
    purpose: str


_LIKE = StoredFile(id="", filename="", bytes=0, created_at=0, expires_at=0, purpose="")


class FileStore:
    """The files of one server. Safe to use from several threads."""

    def __init__(self, settings: ServeSettings) -> None:
        """Makes the folder, and reads what is in it.

        Raises:
            OSError: the folder can't be made or read.
        """
        self._settings, self._lock = settings, threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._promised = 0  # bytes of uploads that are being written
        if settings.files_folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="videollama2-files-"))
            self._goes = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        else:
            self.folder = settings.files_folder
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._read()

    def close(self) -> None:
        """Delete a temporary folder now: a process that ends by a signal finalizes nothing."""
        if self._settings.files_folder is None:
            self._goes()

    @property
    def bytes(self) -> int:
        """Of all files, and of those on their way."""
        with self._lock:
            return self._promised + sum(file.bytes for file in self._files.values())

    def add(
        self, content: BinaryIO, size: int, filename: str, purpose: str, seconds: float | None = None
    ) -> StoredFile:
        """Keep a file.

        Args:
            size: of the content, in bytes.
            seconds: until it expires; never later than the server's own limit.

        Raises:
            ApiError: too large, too many, or no room, on the disk either.
        """
        settings, id = self._settings, f"file-{secrets.token_hex(16)}"
        if size < 1:
            raise ApiError(
                400, "empty_media", "the file is empty; expected a video, a sound or a picture", param="file"
            )
        if size > settings.max_upload_bytes:
            limit = f"{settings.max_upload_bytes:,}"
            raise ApiError(413, "file_too_large", f"the file has more than {limit} bytes", param="file")
        self.sweep()
        with self._lock:
            held = self._promised + sum(file.bytes for file in self._files.values())
            if len(self._files) >= settings.files_count or held + size > settings.files_bytes:
                raise ApiError(
                    507, "storage_full", "the server's room for files is used up; delete some, or come later"
                )
            self._promised += size
        path = self.folder / f"{id}.bin"
        try:
            with path.open("xb") as out:
                shutil.copyfileobj(content, out, _PIECE)
            now = int(time.time())
            lasts = int(min(settings.file_seconds, settings.file_seconds if seconds is None else seconds))
            made = StoredFile(
                id=id, filename=filename, bytes=size, created_at=now, expires_at=now + max(lasts, 1), purpose=purpose
            )
            write_whole(self.folder / f"{id}.json", json.dumps(asdict(made)).encode())
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise no_room(error) from error
            raise
        finally:
            with self._lock:
                self._promised -= size
        with self._lock:
            self._files[id] = made
        return made

    def get(self, id: str) -> StoredFile:
        """What is known of a file.

        Raises:
            ApiError: there is none of that id, or it has expired.
        """
        with self._lock:
            found = self._files.get(id)
        if found is None or found.expires_at <= time.time():
            raise ApiError(404, "file_not_found", "there is no file of this id; it may have expired: upload it again")
        return found

    def path_of(self, id: str) -> Path:
        """Where its content is; raises as `get`."""
        return self.folder / f"{self.get(id).id}.bin"

    def list(self) -> list[StoredFile]:
        """All of them, the newest first."""
        now = time.time()
        with self._lock:
            alive = [file for file in self._files.values() if file.expires_at > now]
        return sorted(alive, key=lambda file: (file.created_at, file.id), reverse=True)

    def delete(self, id: str) -> None:
        """Raises as `get`."""
        self.get(id)
        self._drop(id)

    def sweep(self) -> None:
        """Delete what has expired."""
        now = time.time()
        with self._lock:
            over = [file.id for file in self._files.values() if file.expires_at <= now]
        for id in over:
            self._drop(id)

    def _drop(self, id: str) -> None:
        with self._lock:
            self._files.pop(id, None)
        for suffix in (".json", ".bin"):
            with contextlib.suppress(OSError):  # a file that is open on Windows; the next start's reading deletes it
                (self.folder / f"{id}{suffix}").unlink(missing_ok=True)

    def _read(self) -> None:
        for path in self.folder.glob("file-*.bin"):
            try:
                if not _ID.fullmatch(path.stem):
                    raise DataError("its name is none of ours")
                found = StoredFile(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
                typed = all(type(value) is type(getattr(_LIKE, name)) for name, value in vars(found).items())
                if not typed or found.id != path.stem or path.is_symlink() or found.bytes != path.stat().st_size:
                    raise DataError("it is not what was uploaded")
                self._files[found.id] = found
            except (OSError, ValueError, TypeError, RecursionError, DataError) as error:
                logger.warning("%s is left alone, and not served: %s", path.name, error)
        self.sweep()


def no_room(error: OSError) -> ApiError:
    """What an upload is told where the disk takes no more of it; the log has why."""
    logger.error("an upload can't be written: %s", error.strerror or type(error).__name__)
    return ApiError(507, "storage_full", "the server can't write the file; come later, or tell whoever runs it")


def plain_name(filename: str | None) -> str:
    """A file's name as its owner gave it, without folders and control characters; only ever shown.

    Raises:
        UsageError: it is longer than a name can be.
    """
    name = "".join(c for c in re.split(r"[/\\]", filename or "")[-1] if c.isprintable()) or "upload"
    if len(name) > 255:
        raise UsageError(f"the file's name has {len(name)} characters; at most 255 are taken")
    return name
