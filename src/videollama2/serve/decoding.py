"""The pool in which a server opens media: a WorkerPool with the server's ceilings, and no path in what it says.

Engine(opener=Decoding(safety).open_clip)
"""

import logging
import os
import re
from dataclasses import replace
from typing import Any

from ..errors import NumericsError, UnreadableMedia, UsageError, VideoLlama2Error
from ..media import Clip
from ..media.worker import WorkerPool
from .intake import Attachment
from .public import public
from .safety import Safety

logger = logging.getLogger(__name__)
# what helps whoever runs the code, and not whoever asks a server
_RAISE = re.compile(r",? or raise (Limits\.\w+|the limit in Limits)")


class Decoding:
    """Opens the media of requests in child processes. Safe to use from several threads."""

    def __init__(self, safety: Safety) -> None:
        """Nothing is started yet."""
        self._media = WorkerPool(workers=safety.decoders, worker_limits=safety.worker_limits, limits=safety.limits)

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
        """As `media.open_clip`, for what Intake gives: an Attachment, or bytes.

        Raises:
            VideoLlama2Error: as open_clip, with the file called by its id.
        """
        if not isinstance(medium, Attachment | bytes):
            raise UsageError(f"a server opens uploaded files and bytes; this medium is a {type(medium).__name__}")
        name = str(medium) if isinstance(medium, Attachment) else "the medium"
        path = os.fspath(medium) if isinstance(medium, Attachment) else f"<{len(medium)} bytes>"
        try:
            clip = self._media.open_clip(medium, **asked)
        except VideoLlama2Error as error:
            # numbers that are not finite are the file's here: no fault of the server's
            kind = UnreadableMedia if isinstance(error, NumericsError) else type(error)
            raise kind(public(_RAISE.sub("", str(error)).replace(path, name))) from None

        def named(texts: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(public(text.replace(path, name)) for text in texts)

        return replace(clip, source=name, notes=named(clip.notes), losses=named(clip.losses))
