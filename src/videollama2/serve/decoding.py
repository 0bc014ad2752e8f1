"""The pool in which a server opens media: a WorkerPool with the server's ceilings, and no path in what it says.

Engine(opener=Decoding(limits).open_clip)
"""

import logging
import os
import re
from dataclasses import replace
from typing import Any

from ..errors import NumericsError, UnreadableMedia, UsageError, VideoLlama2Error
from ..media import Clip
from ..media.worker import WorkerPool
from .errors import public_message
from .intake import UploadedFile
from .settings import RequestLimits

logger = logging.getLogger(__name__)
# what helps whoever runs the code, and not whoever asks a server
_RAISE = re.compile(r",? or raise (Limits\.\w+|the limit in Limits)")


class Decoding:
    """Opens the media of requests in child processes. Safe to use from several threads."""

    def __init__(self, limits: RequestLimits) -> None:
        """Nothing is started yet."""
        self._media = WorkerPool(
            workers=limits.media_workers, worker_limits=limits.worker_limits, limits=limits.decode_limits
        )

    def start(self) -> None:
        """Start a child process before anybody asks, and say what does not hold of it.

        Raises:
            WorkerError: none can be started.
        """
        if "calls" not in self._media.start():
            logger.warning(
                "on this system the processes that open media keep their network and may write; limits on time are "
                "what is left: serve strangers from Linux, where seccomp filters are allowed"
            )

    def close(self) -> None:
        """End the child processes."""
        self._media.close()

    def open_clip(self, medium: Any, **asked: Any) -> Clip:
        """As `media.open_clip`, for what MediaIntake gives: an UploadedFile, or bytes.

        Raises:
            VideoLlama2Error: as open_clip, with the file called by its id.
        """
        if not isinstance(medium, UploadedFile | bytes):
            raise UsageError(f"a server opens uploaded files and bytes; this medium is a {type(medium).__name__}")
        name = str(medium) if isinstance(medium, UploadedFile) else "the medium"
        path = os.fspath(medium) if isinstance(medium, UploadedFile) else f"<{len(medium)} bytes>"
        try:
            clip = self._media.open_clip(medium, **asked)
        except VideoLlama2Error as error:
            # numbers that are not finite are the file's here: no fault of the server's
            kind = UnreadableMedia if isinstance(error, NumericsError) else type(error)
            raise kind(public_message(_RAISE.sub("", str(error)).replace(path, name))) from None

        def named(texts: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(public_message(text.replace(path, name)) for text in texts)

        return replace(clip, source=name, notes=named(clip.notes), losses=named(clip.losses))
