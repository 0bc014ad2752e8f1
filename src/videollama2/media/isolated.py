"""open_clip in child processes: a file that hangs, crashes or bloats its decoder costs itself, and nobody else.

    with IsolatedMedia(workers=2) as media:
        clip = media.open_clip("clip.mp4", num_frames=8)      # as videollama2.media.open_clip, errors included

For evaluation, servers and batch jobs (design decision 7). Each child has one medium at a time; children start when
they are first needed, and go with whoever made them.
"""

import os
import queue
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import UnreadableMedia, UsageError, VideoLlama2Error
from ..protocols import Protocol
from ..protocols import protocol as named_protocol
from .children import Child, ChildFailure, ChildLimits, module_command
from .clip import Clip
from .framing import BadMessage, Blob
from .limits import DEFAULT_LIMITS, Limits
from .opening import Medium, open_clip
from .packing import unpack

COMMAND = module_command("videollama2.media.opener")


class IsolatedMedia:
    """Opens media in child processes. Safe to use from several threads; each waits for a child that is free."""

    def __init__(self, *, workers: int = 2, child: ChildLimits | None = None, limits: Limits = DEFAULT_LIMITS) -> None:
        """Nothing is started yet.

        Args:
            workers: most children at once.
            child: what one medium may take; None: the defaults of ChildLimits.
            limits: what a file may make a child allocate; a caller's own limits can only lower them.
        """
        if workers < 1:
            raise UsageError(f"workers={workers}; expected 1 or more")
        self.limits = limits
        children = [Child(COMMAND, child or ChildLimits()) for _ in range(workers)]
        self._free: queue.LifoQueue[Child] = queue.LifoQueue()  # one that runs is taken before one that must start
        for one in children:
            self._free.put(one)
        self._finalizer = weakref.finalize(self, _end, children, self._free)

    def __enter__(self) -> "IsolatedMedia":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child processes; whoever waits for one is told."""
        self._finalizer()

    def start(self) -> tuple[str, ...]:
        """Start a child now; what it gave up (confinement.py: "network", "calls").

        Raises:
            WorkerError: no child process can be started, or they were closed.
        """
        one = self._free.get()
        try:
            one.start()
            return one.held
        finally:
            self._free.put(one)

    def open_clip(
        self,
        medium: Medium,
        *,
        num_frames: int | None = 8,
        protocol: str | Protocol = "released",
        start: float | None = None,
        end: float | None = None,
        want_video: bool = True,
        want_audio: bool = True,
        times: Sequence[float] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        child: ChildLimits | None = None,
    ) -> Clip:
        """As `media.open_clip`. Pictures and arrays, which are decoded already, are taken as they are, in this process.

        Args:
            limits, child: what this medium may take; they can only lower what this object was made with.

        Raises:
            UnreadableMedia: also where its decoder hangs or crashes. MediaTooLarge: also for lack of memory.
            WorkerError: no child process can be started, or they were closed.
        """
        asked: dict[str, Any] = {
            "num_frames": num_frames, "start": start, "end": end, "want_video": want_video, "want_audio": want_audio,
            "times": None if times is None else [float(t) for t in times],
        }  # fmt: skip
        chosen, allowed = named_protocol(protocol), self.limits.lowered(limits)
        plain = _plain(medium)
        if plain is None and not isinstance(medium, bytes):
            return open_clip(medium, **asked, protocol=chosen, limits=allowed)
        told = {**asked, "protocol": asdict(chosen), "limits": asdict(allowed)}
        blobs = [medium] if isinstance(medium, bytes) else []
        return self._ask({"folder": str(Path.cwd()), "medium": plain, "asked": told}, blobs, child)

    def _ask(self, task: dict[str, object], blobs: Sequence[Blob], child: ChildLimits | None) -> Clip:
        name = "the medium" if task["medium"] is None else str(task["medium"])
        one = self._free.get()
        try:
            reply, found = one.ask(task, blobs, child)
            if "error" in reply:
                raise _error(reply)
            return unpack(reply, found)
        except ChildFailure as error:
            raise UnreadableMedia(f"{name} can't be used: {error}") from error
        except BadMessage as error:
            one.drop()
            raise UnreadableMedia(f"{name} can't be used: the process that opened it sent {error}") from error
        finally:
            self._free.put(one)


def _plain(medium: Medium) -> str | list[str] | None:
    """A path or a list of paths as JSON holds it; None of what is no file."""
    if isinstance(medium, str | os.PathLike):
        return os.fspath(medium)
    if isinstance(medium, list | tuple) and medium and all(isinstance(m, str | os.PathLike) for m in medium):
        return [os.fspath(m) for m in medium]
    return None


def _error(reply: dict[str, object]) -> VideoLlama2Error:
    """The error that the child met."""
    kind = getattr(errors, str(reply["error"]), None)
    known = isinstance(kind, type) and issubclass(kind, VideoLlama2Error)
    error: VideoLlama2Error = (kind if known else UnreadableMedia)(str(reply["message"]))  # type: ignore[misc]
    notes = reply["notes"]
    for note in notes if isinstance(notes, list) else ():
        error.add_note(str(note))
    return error


def _end(children: Sequence[Child], free: "queue.LifoQueue[Child]") -> None:
    for child in children:
        child.close()  # whoever waits for its reply gets an error, and puts it back
    for child in [free.get() for _ in children]:
        child.end()
        free.put(child)
