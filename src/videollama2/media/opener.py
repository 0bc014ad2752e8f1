"""The child process in which clips are opened: `python -m videollama2.media.opener` (isolated.py asks it)."""

import os
from collections.abc import Sequence
from typing import Any

from ..errors import VideoLlama2Error
from ..protocols import Protocol
from . import serving
from .framing import Blob
from .limits import Limits
from .opening import open_clip
from .packing import pack


def answer(task: Any, blobs: list[bytearray]) -> tuple[Any, Sequence[Blob]]:
    """The clip of a task {"folder": …, "medium": path, paths or null (then its bytes are the blob), "asked": {…}}.

    Of a medium that can't be opened, the error: {"error": class, "message": …, "notes": […]}.
    """
    try:
        os.chdir(task["folder"])  # paths are relative to where the parent is
        asked = dict(task["asked"])
        asked |= {"protocol": Protocol(**asked["protocol"]), "limits": Limits(**asked["limits"])}
        clip = open_clip(task["medium"] if task["medium"] is not None else bytes(blobs[0]), **asked)
        return pack(clip)
    except VideoLlama2Error as error:
        notes = list(getattr(error, "__notes__", ()))
        return {"error": type(error).__name__, "message": str(error), "notes": notes}, ()
    except MemoryError:
        message = "opening it takes more memory than its process may have"
        return {"error": "MediaTooLarge", "message": f"{_named(task)}: {message}", "notes": []}, ()
    except Exception as error:  # of a decoder; this medium is bad, the next one may be good
        message = f"{_named(task)} can't be decoded ({type(error).__name__}: {error})"
        return {"error": "UnreadableMedia", "message": message, "notes": []}, ()


def _named(task: Any) -> str:
    medium = task["medium"]
    return "the medium" if medium is None else str(medium if isinstance(medium, str) else medium[0])


if __name__ == "__main__":
    serving.main(answer)
