"""Decode the media of a question in worker processes while this one imports torch and loads the model.

What will be decoded depends on the model's config.json alone. If the guess is wrong, or the model is still to be
fetched, the clip is decoded later, as ever: the cache finds a clip only by all arguments that it was opened with.
"""

import argparse
import contextlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..media import Clip, Opener
    from ..text.media_parts import Media

_SPECIAL = ("/dev/", "/proc/")  # descriptors of this process are other files, or none, in a worker


class _Settings(NamedTuple):
    """What config.json says about opening media."""

    num_frames: int
    protocol: str
    audio_encoder: bool


def decode_ahead(args: argparse.Namespace, media: "Sequence[Media]") -> "Opener | None":
    """Begin to decode; returns the opener that has the clips, or None if nothing can be decoded ahead.

    Args:
        args: of `add_model_flags` and `add_media_flags`.
    """
    folder = _folder(args.model, args.base)
    settings = None if folder is None else _settings(folder)
    if folder is None or settings is None:
        return None
    _read_ahead(folder)
    chosen = [m for m in media if m.fps is None and not os.fspath(m.source).startswith(_SPECIAL)]
    if not chosen:
        return None
    from ..errors import UsageError, VideoLlama2Error, WorkerError
    from ..media import open_clip
    from ..media.clip_cache import ClipCache
    from ..media.worker import WorkerLimits, WorkerPool
    from ..protocols import protocol

    try:
        named = protocol(args.protocol or settings.protocol)
    except UsageError:  # reported when the request is made
        return None
    # a worker here saves time; it must not refuse what this process would open
    pool = WorkerPool(
        workers=min(len(chosen), 2), worker_limits=WorkerLimits(seconds=1e8, cpu_seconds=1e8, memory_mb=1 << 24)
    )

    def open_in_worker(item: Any, **options: Any) -> "Clip":
        try:
            return pool.open_clip(item, **options)
        except WorkerError:
            return open_clip(item, **options)

    opener = ClipCache(open_in_worker, max_clips=len(chosen))

    def decode(item: "Media") -> None:
        with contextlib.suppress(VideoLlama2Error):  # it is opened again for the answer, which reports the error
            options = item.clip_options(settings.num_frames, audio_encoder=settings.audio_encoder)
            opener(item.source, protocol=named, **options)

    for item in chosen:
        threading.Thread(target=decode, args=(item,), name="decode-ahead", daemon=True).start()
    return opener


def _folder(model: str, base: str | None) -> Path | None:
    """The model's folder if that is known without fetching or building anything."""
    from ..errors import CheckpointNotFound
    from ..weights.nano_cache import built_folder, is_nano

    if not is_nano(model):
        return Path(model) if Path(model).is_dir() else None
    try:
        return built_folder(base)
    except CheckpointNotFound:
        return None


def _settings(folder: Path) -> _Settings | None:
    """Of a model in our layout; None for any other."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config["model_type"] != "videollama2":
            return None
        return _Settings(int(config["num_frames"]), str(config["protocol"]), config["audio_config"] is not None)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _read_ahead(folder: Path) -> None:
    """Let the kernel read the weights while this process computes; where it can't, they are read when needed."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
