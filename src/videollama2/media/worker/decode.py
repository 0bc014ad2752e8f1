"""What a worker of the pool runs: `python -m videollama2.media.worker.decode` opens one clip per task."""

import os
from collections.abc import Sequence
from typing import Any

from ...errors import VideoLlama2Error
from ...protocols import Protocol
from ...receipt import source_name
from ..limits import Limits
from ..opening import open_clip
from . import loop
from .messages import Blob, clip_to_message


def handle(task: Any, blobs: list[bytearray]) -> tuple[Any, Sequence[Blob]]:
    """Open the clip of a task.

    Args:
        task: {"folder": working directory, "item": path, list of paths, or null for the bytes in `blobs`,
            "options": arguments of open_clip}.

    Returns:
        The clip as a message, or {"error": class name, "message": …, "notes": […]}.
    """
    try:
        os.chdir(task["folder"])  # the parent's paths are relative to it
        options = dict(task["options"])
        options |= {"protocol": Protocol(**options["protocol"]), "limits": Limits(**options["limits"])}
        return clip_to_message(open_clip(task["item"] if task["item"] is not None else bytes(blobs[0]), **options))
    except VideoLlama2Error as error:
        notes = list(getattr(error, "__notes__", ()))
        return {"error": type(error).__name__, "message": str(error), "notes": notes}, ()
    except MemoryError:
        message = "decoding exceeded the worker's memory limit"
        return {"error": "MediaTooLarge", "message": f"{_name(task, blobs)}: {message}", "notes": []}, ()
    except Exception as error:  # a failure inside a decoder affects only this file
        message = f"{_name(task, blobs)} can't be decoded ({type(error).__name__}: {error})"
        return {"error": "UnreadableMedia", "message": message, "notes": []}, ()


def _name(task: Any, blobs: list[bytearray]) -> str:
    return source_name(blobs[0] if task["item"] is None else task["item"])


if __name__ == "__main__":
    loop.run_worker(handle)
