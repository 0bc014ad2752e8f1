"""Encoded media, cached by content: a second question about a clip needs no decoding and no encoding.

    content, range, modalities, frames, protocol, model ── key ──► EncodedMedia (tokens and receipt)

In memory, and in a folder of safetensors files if one is given; both evict the least recently used.
"""

import hashlib
import json
import logging
import os
import threading
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from typing import Protocol as Interface

from .encoded_media import EncodedMedia
from .protocols import Protocol
from .receipt import AudioReceipt, Loss, MediaReceipt, VideoReceipt
from .text.media_parts import Media

logger = logging.getLogger(__name__)
V = TypeVar("V")
_CHUNK = 1 << 20
_METADATA = "media_receipt"  # metadata key; files written by other versions have another key and are ignored


class MediaCache(Interface):
    """The cache interface that `Engine.prepare` uses."""

    def key(self, media: Media, protocol: Protocol) -> str | None:
        """The media item's key; None if it can't be cached."""

    def get(self, key: str) -> EncodedMedia | None:
        """The media cached under a key."""

    def put(self, key: str, value: EncodedMedia) -> None:
        """Cache it."""


class RecentlyUsed(Generic[V]):
    """Values of at most `max_bytes` in all; the least recently used are dropped. Thread-safe.

    Attributes:
        nbytes: size of the values.
    """

    def __init__(self, max_bytes: int) -> None:
        self.nbytes, self._max = 0, max_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[V, int]] = OrderedDict()

    def get(self, key: str) -> V | None:
        """The value of a key."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def put(self, key: str, value: V, nbytes: int) -> None:
        """Keep a value of that size, unless it alone exceeds `max_bytes`."""
        if nbytes > self._max:
            return
        with self._lock:
            self.nbytes += nbytes - self._held.pop(key, (None, 0))[1]
            self._held[key] = value, nbytes
            while self.nbytes > self._max:
                self.nbytes -= self._held.popitem(last=False)[1][1]


class EncodedMediaCache:
    """Least-recently-used cache in memory and, optionally, on disk. Safe to use from several threads.

    Attributes:
        model: distinguishes this model's tokens from another's.
    """

    def __init__(
        self, max_bytes: int, folder: Path | None = None, max_folder_bytes: int = 0, *, model: str = ""
    ) -> None:
        """Creates the folder if it is missing.

        Raises:
            OSError: the folder can't be created.
        """
        self.model = model
        self._folder, self._max_folder = folder, max_folder_bytes
        self._memory: RecentlyUsed[EncodedMedia] = RecentlyUsed(max_bytes)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def nbytes(self) -> int:
        """Memory of the cached tokens."""
        return self._memory.nbytes

    def key(self, media: Media, protocol: Protocol) -> str | None:
        """Hash of content, range, modalities, protocol and model; None for sources that are not files.

        Also None for a file that can't be read: opening it will raise the error.
        """
        content = _digest(media.source)
        if content is None:
            return None
        used: list[Any] = [
            media.start,
            media.end,
            media.video,
            media.audio,
            media.num_frames,
            media.fps,
            *media.tracks.items(),
            protocol.key(),
            self.model,
        ]
        if media.audio_source is not None:
            sound = _digest(media.audio_source)
            if sound is None:
                return None
            used.append(sound)
        return hashlib.sha256(f"{content} {json.dumps(used, sort_keys=True)}".encode()).hexdigest()

    def get(self, key: str) -> EncodedMedia | None:
        """The media cached under a key, in memory or on disk; the tensors are on the CPU."""
        found = self._memory.get(key)
        if found is None:
            found = self._read(key)
            if found is not None:
                self._memory.put(key, found, found.nbytes)
        return found

    def put(self, key: str, value: EncodedMedia) -> None:
        """Cache a copy, evicting the least recently used if needed."""
        tokens = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in value.tokens.items()}
        copied = replace(value, tokens=tokens, reused=True)
        self._memory.put(key, copied, copied.nbytes)
        self._write(key, copied)

    def _read(self, key: str) -> EncodedMedia | None:
        if self._folder is None:
            return None
        from safetensors import SafetensorError, safe_open

        path = self._folder / f"{key}.safetensors"
        try:
            with safe_open(path, "pt") as file:
                receipt = _receipt(json.loads((file.metadata() or {})[_METADATA]))
                tokens = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            os.utime(path)
            if not tokens or receipt.tokens != {name: len(t) for name, t in tokens.items()}:
                raise ValueError("its tokens and its receipt differ")
            return EncodedMedia(tokens=tokens, receipt=receipt, reused=True)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            logger.warning("ignoring unreadable cache file %s: %s", path, type(error).__name__)
            return None

    def _write(self, key: str, value: EncodedMedia) -> None:
        if self._folder is None or value.nbytes > self._max_folder:
            return
        from safetensors.torch import save

        from .storage import write_whole

        path = self._folder / f"{key}.safetensors"
        try:
            write_whole(path, save(dict(value.tokens), {_METADATA: json.dumps(asdict(value.receipt))}))
            files = sorted((stat.st_mtime, stat.st_size, file) for file, stat in _stats(self._folder))
            left = sum(size for _, size, _ in files)
            for _, size, file in files:
                if left <= self._max_folder:
                    break
                file.unlink(missing_ok=True)
                left -= size
        except OSError as error:  # with a full disk only the copy on disk is lost
            logger.warning("encoded media can't be cached on disk: %s", error.strerror or type(error).__name__)


def _digest(source: Any) -> str | None:
    """Of bytes or a regular file; None for anything else, such as a folder."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    if not isinstance(source, str | os.PathLike):
        return None
    digest, path = hashlib.sha256(), Path(os.fspath(source))
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (OSError, ValueError):  # ValueError: a null character in the path
        return None
    return digest.hexdigest()


def _stats(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.glob("*.safetensors"):
        try:
            found.append((path, path.stat()))
        except FileNotFoundError:  # another process that shares the folder evicted it
            continue
    return found


def _receipt(plain: dict[str, Any]) -> MediaReceipt:
    return MediaReceipt(
        source=str(plain["source"]),
        video=None if plain["video"] is None else VideoReceipt(**_tuples(plain["video"])),
        audio=None if plain["audio"] is None else AudioReceipt(**_tuples(plain["audio"])),
        losses=tuple(Loss(**loss) for loss in plain["losses"]),
    )


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    def frozen(value: Any) -> Any:
        return tuple(frozen(v) for v in value) if isinstance(value, list) else value

    return {name: frozen(value) for name, value in plain.items()}
