"""The clips that were opened last, for who asks several questions about each.

opener = Remembered(IsolatedMedia().open_clip)     # used as open_clip itself
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
from .opening import Medium, Opener


class Remembered:
    """An opener that gives the same clip when asked the same again. Safe to use from several threads.

    Files only; one that has changed since is opened anew. What can't be opened is tried again. Whoever asks for a clip
    that another thread is opening waits for it.
    """

    def __init__(self, opener: Opener, keep: int = 4) -> None:
        """`keep` is the number of clips that are held."""
        if keep < 1:
            raise UsageError(f"keep={keep}; expected 1 or more")
        self._opener, self._keep = opener, keep
        self._clips: OrderedDict[Hashable, Future[Clip]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, medium: Medium, **asked: Any) -> Clip:
        """As the opener."""
        key = _key(medium, asked)
        if key is None:
            return self._opener(medium, **asked)
        with self._lock:
            found = self._clips.get(key)
            if found is None:
                ours: Future[Clip] = Future()
                self._clips[key] = ours
                while len(self._clips) > self._keep:
                    self._clips.popitem(last=False)
            else:
                self._clips.move_to_end(key)
        if found is not None:
            return found.result()
        try:
            clip = self._opener(medium, **asked)
        except BaseException as error:
            with self._lock:
                self._clips.pop(key, None)
            ours.set_exception(error)
            raise
        ours.set_result(clip)
        return clip


def _key(medium: Medium, asked: dict[str, Any]) -> Hashable:
    """What makes two askings the same; None where it can't be told."""
    if not isinstance(medium, str | os.PathLike):
        return None
    try:
        stat = Path(medium).stat()
        key = (os.fspath(medium), str(Path.cwd()), stat.st_size, stat.st_mtime_ns, tuple(sorted(asked.items())))
        hash(key)
    except (OSError, ValueError, TypeError):
        return None
    return key
