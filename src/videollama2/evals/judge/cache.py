"""Judges' replies on disk, by a hash of the whole request: the same request is never paid for twice.

One small file per reply, written as a whole, so that runs may share a folder and a killed run loses nothing. Files hold
no prompts and no API keys. An unreadable file counts as missing.
"""

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import StorageError


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A judge's reply. `served`: the model according to the server; tokens are None if it does not say."""

    text: str
    served: str | None
    tokens_in: int | None
    tokens_out: int | None


def key_of(endpoint: str, body: Mapping[str, Any], take: int) -> str:
    """The key of a request's reply: a hash of endpoint, model, parameters, messages, and which take it is.

    The endpoint is part of it because two servers may call different models by one name.
    """
    whole = {"endpoint": endpoint, "body": body, "take": take}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode("ascii")).hexdigest()


class Cache:
    """A folder of replies; used by many threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def get(self, key: str) -> Reply | None:
        """The reply under a key; None if there is none."""
        try:
            data = json.loads(self._path(key).read_bytes())
            reply = Reply(**data)
        except (OSError, ValueError, TypeError, RecursionError):  # missing, or not one of ours
            return None
        numbers = (reply.tokens_in, reply.tokens_out)
        whole = isinstance(reply.text, str) and all(n is None or type(n) is int for n in numbers)
        return reply if whole and isinstance(reply.served, str | None) else None

    def put(self, key: str, reply: Reply) -> None:
        """Store a reply.

        Raises:
            StorageError: it can't be written.
        """
        path = self._path(key)
        beside = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            path.parent.mkdir(exist_ok=True)
            beside.write_text(json.dumps(asdict(reply)), encoding="ascii")
            beside.replace(path)
        except OSError as error:
            raise self._unwritable(error) from error

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._folder} can't be written ({error.strerror or error}); make room, or name another with --cache."
        )
