"""The server's pool of decoding workers: a WorkerPool with the server's limits, and no paths in messages.

Engine(opener=Decoding(limits).open_clip)
"""

import logging
import os
import re
from dataclasses import replace
from typing import Any

from ..errors import MediaNotFound, NumericsError, UnreadableMedia, UsageError, VideoLlama2Error
from ..media import Clip
from ..media.worker import WorkerPool
from ..receipt import source_name
from .errors import public_message
from .intake import UploadedFile
from .settings import RequestLimits

logger = logging.getLogger(__name__)
# advice that only the operator can follow, not a server's clients
_RAISE = re.compile(r",? or raise (Limits\.\w+|the limit in Limits)")


class Decoding:
    """Decodes the media of requests in worker processes. Safe to use from several threads."""

    def __init__(self, limits: RequestLimits) -> None:
        """No process is started yet."""
        self._media = WorkerPool(
            workers=limits.media_workers, worker_limits=limits.worker_limits, limits=limits.decode_limits
        )

    def start(self) -> None:
        """Start a worker before the first request, and log which protections this system lacks.

        Raises:
            WorkerError: no worker can be started.
        """
        if "calls" not in self._media.start():
            logger.warning(
                "this system can't confine the decoding workers: they keep network and write access, and only time is "
                "limited; serve untrusted clients from Linux, with seccomp filters allowed"
            )

    def close(self) -> None:
        """End the workers."""
        self._media.close()

    def open_clip(self, item: Any, **asked: Any) -> Clip:
        """Like `media.open_clip`, for MediaIntake's results: an UploadedFile, or bytes.

        Raises:
            VideoLlama2Error: as open_clip, with the file called by its id.
        """
        if not isinstance(item, UploadedFile | bytes):
            raise UsageError(f"expected an uploaded file or bytes, got a {type(item).__name__}.")
        name = str(item) if isinstance(item, UploadedFile) else "the media item"
        path = os.fspath(item) if isinstance(item, UploadedFile) else source_name(item)

        def shown(text: str) -> str:
            return public_message(text.replace(path, name))

        try:
            clip = self._media.open_clip(item, **asked)
        except VideoLlama2Error as error:
            # numbers that are not finite are the file's fault here, not the server's
            kind = UnreadableMedia if isinstance(error, NumericsError) else type(error)
            words = shown(_RAISE.sub("", str(error)))
            if isinstance(error, MediaNotFound):  # an upload that expired since it was named
                words = f"{name} can no longer be read; upload it again"
            raise kind(words) from None
        return replace(clip, source=name, notes=tuple(map(shown, clip.notes)), losses=tuple(map(shown, clip.losses)))
