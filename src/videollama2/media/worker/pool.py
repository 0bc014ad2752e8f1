"""A pool of workers with the signature and the errors of open_clip: for evaluation, servers and batch jobs."""

import os
import queue
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ... import errors
from ...errors import UnreadableMedia, UsageError, VideoLlama2Error
from ...protocols import Protocol
from ...protocols import protocol as named_protocol
from ...receipt import source_name
from ..clip import Clip
from ..limits import DEFAULT_LIMITS, Limits
from ..opening import MediaItem, open_clip
from ..tracks import TrackChoice
from .messages import BadMessage, Blob, clip_from_message
from .process import Worker, WorkerDied, WorkerLimits, module_command

COMMAND = module_command("videollama2.media.worker.decode")


class WorkerPool:
    """Opens media in worker processes. Thread-safe; each call waits for a free worker.

    Workers start on demand and end with the pool.
    """

    def __init__(
        self, *, workers: int = 2, worker_limits: WorkerLimits | None = None, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """No worker is started yet.

        Args:
            workers: maximum number of processes.
            worker_limits: time and memory for one file; None: the defaults of WorkerLimits.
            limits: what one file may decode to; a caller's limits can only lower them.
        """
        if workers < 1:
            raise UsageError(f"workers={workers}; expected 1 or more.")
        self.limits = limits
        crew = [Worker(COMMAND, worker_limits or WorkerLimits()) for _ in range(workers)]
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()  # last in, first out: prefer a running worker
        for worker in crew:
            self._free.put(worker)
        self._finalizer = weakref.finalize(self, _shut_down, crew, self._free)

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; calls that are waiting for one raise WorkerError."""
        self._finalizer()

    def start(self) -> tuple[str, ...]:
        """Start a worker now, and return what it gave up: "network", "calls" (see confinement.py).

        Raises:
            WorkerError: it can't be started, or the pool is closed.
        """
        worker = self._free.get()
        try:
            worker.start()
            return worker.confinement
        finally:
            self._free.put(worker)

    def open_clip(
        self,
        item: MediaItem,
        *,
        num_frames: int | None = 8,
        protocol: str | Protocol = "released",
        start: float | None = None,
        end: float | None = None,
        want_video: bool = True,
        want_audio: bool = True,
        times: Sequence[float] | None = None,
        video_track: TrackChoice = None,
        audio_track: TrackChoice = None,
        limits: Limits = DEFAULT_LIMITS,
        worker_limits: WorkerLimits | None = None,
    ) -> Clip:
        """Like `media.open_clip`, in a worker. Images and arrays are already decoded and are handled in this process.

        Args:
            limits, worker_limits: limits for this file; they can only lower the pool's.

        Raises:
            UnreadableMedia: also if its worker hangs or crashes. MediaTooLarge: also if it runs out of memory.
            WorkerError: no worker can be started, or the pool is closed.
        """
        options: dict[str, Any] = {
            "num_frames": num_frames, "start": start, "end": end, "want_video": want_video, "want_audio": want_audio,
            "times": None if times is None else [float(t) for t in times],
            "video_track": video_track,
            "audio_track": audio_track,
        }  # fmt: skip
        chosen, allowed = named_protocol(protocol), self.limits.lowered(limits)
        paths = _paths(item)
        if paths is None and not isinstance(item, bytes):
            return open_clip(item, **options, protocol=chosen, limits=allowed)
        options |= {"protocol": asdict(chosen), "limits": asdict(allowed)}
        blobs = [item] if isinstance(item, bytes) else []
        return self._call({"folder": str(Path.cwd()), "item": paths, "options": options}, blobs, worker_limits)

    def _call(self, task: dict[str, object], blobs: Sequence[Blob], worker_limits: WorkerLimits | None) -> Clip:
        name = source_name(blobs[0] if task["item"] is None else task["item"])
        worker = self._free.get()
        try:
            body, found = worker.call(task, blobs, worker_limits)
            if "error" in body:
                raise _error(body)
            return clip_from_message(body, found)
        except WorkerDied as error:
            failure = UnreadableMedia(f"{name} can't be decoded: {error}")
            for note in getattr(error, "__notes__", ()):
                failure.add_note(note)
            raise failure from error
        except BadMessage as error:
            worker.kill()
            raise UnreadableMedia(f"{name} can't be decoded: its worker sent {error}") from error
        finally:
            self._free.put(worker)


def _paths(item: MediaItem) -> str | list[str] | None:
    """A path, or a list of paths, as JSON; None for anything else."""
    if isinstance(item, str | os.PathLike):
        return os.fspath(item)
    if isinstance(item, list | tuple) and item and all(isinstance(m, str | os.PathLike) for m in item):
        return [os.fspath(m) for m in item]
    return None


def _error(body: dict[str, object]) -> VideoLlama2Error:
    """The error that the worker reported."""
    kind = getattr(errors, str(body["error"]), None)
    known = isinstance(kind, type) and issubclass(kind, VideoLlama2Error)
    error: VideoLlama2Error = (kind if known else UnreadableMedia)(str(body["message"]))  # type: ignore[misc]
    notes = body["notes"]
    for note in notes if isinstance(notes, list) else ():
        error.add_note(str(note))
    return error


def _shut_down(crew: Sequence[Worker], free: "queue.LifoQueue[Worker]") -> None:
    for worker in crew:
        worker.close()  # a thread in `call` gets an error and puts the worker back
    for worker in [free.get() for _ in crew]:
        worker.shut_down()
        free.put(worker)
