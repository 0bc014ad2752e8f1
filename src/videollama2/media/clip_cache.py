"""LRU cache of decoded clips, for several questions about the same file.

opener = ClipCache(WorkerPool().open_clip)     # called like open_clip
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .clip import Clip
from .opening import MediaItem, Opener


class ClipCache:
    """An opener that decodes the same request once. Thread-safe.

    Only files are cached, until they change; errors are not. A thread that requests a clip which another thread is
    decoding waits for it.
    """

    def __init__(self, opener: Opener, max_clips: int = 4) -> None:
        """`max_clips` is the number of clips to hold; the least recently used is dropped."""
        if max_clips < 1:
            raise UsageError(f"max_clips={max_clips}; expected 1 or more.")
        self._opener, self._max_clips = opener, max_clips
        self._clips: OrderedDict[Hashable, Future[Clip]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, item: MediaItem, **options: Any) -> Clip:
        """Open a clip, with the opener's arguments."""
        key = _key(item, options)
        if key is None:
            return self._opener(item, **options)
        with self._lock:
            cached = self._clips.get(key)
            if cached is None:
                pending: Future[Clip] = Future()
                self._clips[key] = pending
                while len(self._clips) > self._max_clips:
                    self._clips.popitem(last=False)
            else:
                self._clips.move_to_end(key)
        if cached is not None:
            return cached.result()
        try:
            clip = self._opener(item, **options)
        except BaseException as error:
            with self._lock:
                self._clips.pop(key, None)
            pending.set_exception(error)
            raise
        pending.set_result(clip)
        return clip


def _key(item: MediaItem, options: dict[str, Any]) -> Hashable:
    """Equal for requests that give the same clip; None if this can't be known."""
    if not isinstance(item, str | os.PathLike):
        return None
    try:
        stat = Path(item).stat()
        key = (os.fspath(item), str(Path.cwd()), stat.st_size, stat.st_mtime_ns, tuple(sorted(options.items())))
        hash(key)
    except (OSError, ValueError, TypeError):
        return None
    return key
