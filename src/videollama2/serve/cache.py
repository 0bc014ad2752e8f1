"""Encoded media, kept by what they are: a second question about a clip needs no decoding and no encoding.

    content, range, modalities, frames, protocol ── key_of ──► key ── EncodedMedia.get ──► features, receipts

In memory, and in a folder of safetensors files where one is named; in both, what was used longest ago goes first.
"""

import hashlib
import json
import logging
import os
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UnreadableMedia
from ..processing import Prepared
from ..protocols import Protocol
from ..receipt import AudioReceipt, VideoReceipt
from ..text.conversations import Media

logger = logging.getLogger(__name__)
Features = dict[str, Tensor]
_PIECE = 1 << 20


@dataclass(frozen=True)
class Kept:
    """One medium: its features on the CPU, and what was prepared of it, without pixels and sound."""

    prepared: Prepared
    features: Features

    @property
    def bytes(self) -> int:
        """Memory of the features."""
        return sum(t.nbytes for t in self.features.values())


def key_of(media: Media, protocol: Protocol, model: str) -> str:
    """What makes two media the same to a model: their bytes, and what is used of them, and how.

    Raises:
        UnreadableMedia: the file is gone.
    """
    digest = hashlib.sha256()
    if isinstance(media.source, bytes):
        digest.update(media.source)
    else:
        try:
            with Path(os.fspath(media.source)).open("rb") as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
        except OSError as error:
            raise UnreadableMedia(f"{media.source} can't be read any more; upload it again") from error
    asked = [media.start, media.end, media.video, media.audio, media.num_frames, asdict(protocol), model]
    return hashlib.sha256(f"{digest.hexdigest()} {json.dumps(asked, sort_keys=True)}".encode()).hexdigest()


def name_of(media: Media, number: int | None = None) -> str:
    """What it is called in receipts: an uploaded file by its id, others by their number where there are several."""
    if not isinstance(media.source, bytes):
        return str(media.source)
    return "the medium" if number is None else f"medium {number}"


def kept(prepared: Prepared, features: Features) -> Kept:
    """Of a medium that was encoded, what further questions need."""
    lean = replace(
        prepared,
        pixels=None if prepared.pixels is None else prepared.pixels[:0].clone(),
        fbank=None if prepared.fbank is None else prepared.fbank[:0].clone(),
    )
    return Kept(lean, {name: t.detach().to("cpu", copy=True).contiguous() for name, t in features.items()})


def renamed(prepared: Prepared, name: str) -> Prepared:
    """The same medium under the name that it has in this request."""
    named: dict[str, Any] = {}
    old = next((r.source for r in (prepared.video, prepared.audio) if r is not None), name)
    for part in ("video", "audio"):
        receipt = getattr(prepared, part)
        named[part] = None if receipt is None else replace(receipt, source=name)
    losses = tuple(name + loss.removeprefix(old) if loss.startswith(old) else loss for loss in prepared.losses)
    return replace(prepared, **named, losses=losses)


class EncodedMedia:
    """The cache. Safe to use from several threads."""

    def __init__(self, most_bytes: int, folder: Path | None = None, most_folder_bytes: int = 0) -> None:
        """Makes the folder, if there is to be one.

        Raises:
            OSError: the folder can't be made.
        """
        self._most, self._folder, self._most_folder = most_bytes, folder, most_folder_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Kept] = OrderedDict()
        self.bytes = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, key: str) -> Kept | None:
        """What is kept under a key, from memory or disk."""
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                return found
        found = self._read(key)
        if found is not None:
            self._hold(key, found)
        return found

    def put(self, key: str, value: Kept) -> None:
        """Keep it; what was used longest ago makes room."""
        self._hold(key, value)
        self._write(key, value)

    def _hold(self, key: str, value: Kept) -> None:
        if value.bytes > self._most:
            return
        with self._lock:
            old = self._held.pop(key, None)
            self.bytes += value.bytes - (old.bytes if old else 0)
            self._held[key] = value
            while self.bytes > self._most:
                self.bytes -= self._held.popitem(last=False)[1].bytes

    def _read(self, key: str) -> Kept | None:
        if self._folder is None:
            return None
        from safetensors import SafetensorError, safe_open

        path = self._folder / f"{key}.safetensors"
        try:
            with safe_open(path, "pt") as file:
                told = json.loads((file.metadata() or {})["prepared"])
                features = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
            os.utime(path)
            return _whole(Kept(_prepared(told), features))
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            logger.warning("a file of the cache is not used: %s", type(error).__name__)
            return None

    def _write(self, key: str, value: Kept) -> None:
        if self._folder is None or value.bytes > self._most_folder:
            return
        from safetensors.torch import save

        from ..storage import write_whole

        path = self._folder / f"{key}.safetensors"
        try:
            write_whole(path, save(value.features, {"prepared": json.dumps(_told(value.prepared))}))
            files = sorted((stat.st_mtime, stat.st_size, file) for file, stat in _stats(self._folder))
            left = sum(size for _, size, _ in files)
            for _, size, file in files:
                if left <= self._most_folder:
                    break
                file.unlink(missing_ok=True)
                left -= size
        except OSError as error:  # a full disk costs the copy on disk, and nothing else
            logger.warning("encoded media can't be kept on disk: %s", error.strerror or type(error).__name__)


def _stats(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.glob("*.safetensors"):
        try:
            found.append((path, path.stat()))
        except FileNotFoundError:  # another server of the same folder made room
            continue
    return found


def _whole(found: Kept) -> Kept:
    """The same; a ValueError if its features are not those that its receipts tell of."""
    counts = found.prepared.counts
    if not counts or counts != {name: len(features) for name, features in found.features.items()}:
        raise ValueError("its features and its receipts differ")
    return found


def _told(prepared: Prepared) -> dict[str, Any]:
    return {
        "pixels": None if prepared.pixels is None else list(prepared.pixels.shape),
        "fbank": None if prepared.fbank is None else list(prepared.fbank.shape),
        "still": prepared.still,
        "video": None if prepared.video is None else asdict(prepared.video),
        "audio": None if prepared.audio is None else asdict(prepared.audio),
        "losses": prepared.losses,
    }


def _prepared(told: dict[str, Any]) -> Prepared:
    return Prepared(
        pixels=None if told["pixels"] is None else torch.empty(told["pixels"]),
        fbank=None if told["fbank"] is None else torch.empty(told["fbank"]),
        still=bool(told["still"]),
        video=None if told["video"] is None else VideoReceipt(**_tuples(told["video"])),
        audio=None if told["audio"] is None else AudioReceipt(**_tuples(told["audio"])),
        losses=tuple(told["losses"]),
    )


def _tuples(told: dict[str, Any]) -> dict[str, Any]:
    def frozen(value: Any) -> Any:
        return tuple(frozen(v) for v in value) if isinstance(value, list) else value

    return {name: frozen(value) for name, value in told.items()}
