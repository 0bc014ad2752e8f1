"""Thumbnails of media for a page: three frames of a clip beside each other, as one JPEG in a data URL."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import NoVideoStream, VideoLlama2Error
from ...media import Opener, open_clip
from ..items import Result

FRAMES, HEIGHT, MAX_WIDTH = 3, 90, 420


class Thumbnails:
    """Thumbnails of media, each made once.

    Args:
        root: folder that media paths are relative to; None: the working folder.
        opener: `media.open_clip`, or one that decodes in a worker.
    """

    def __init__(self, root: Path | None = None, opener: Opener = open_clip) -> None:
        self._root, self._open = root, opener
        self._made: dict[tuple[Any, ...], tuple[str | None, str]] = {}

    def of(self, result: Result) -> tuple[str | None, str]:
        """A data URL, or None; and which frames it shows, or why there are none."""
        if result.media is None:  # the error of a failed item says why
            return None, "" if result.error else "the question has no media"
        key = (result.media, *result.range_seconds)
        if key not in self._made:
            self._made[key] = self._make(result)
        return self._made[key]

    def _make(self, result: Result) -> tuple[str | None, str]:
        path = Path(result.media or "")
        if self._root is not None and not path.is_absolute() and not path.exists():
            path = self._root / path
        start, end = result.range_seconds
        try:
            clip = self._open(path, num_frames=FRAMES, protocol="full", start=start, end=end, want_audio=False)
        except NoVideoStream:
            return None, "audio only"
        except (VideoLlama2Error, OSError, ValueError) as error:
            # the page is about failures, and this is one of them
            return None, f"no thumbnail: {error}"
        if not clip.frames:
            return None, "audio only"
        shown = ", ".join(f"{seconds:.1f} s" for seconds in clip.times)
        return _data_url([Image.fromarray(frame) for frame in clip.frames]), f"frames at {shown}"


def _data_url(frames: list[Image.Image]) -> str:
    small = [frame.resize((max(1, round(frame.width * HEIGHT / frame.height)), HEIGHT)) for frame in frames]
    strip = Image.fromarray(np.concatenate([np.asarray(frame.convert("RGB")) for frame in small], axis=1))
    strip.thumbnail((MAX_WIDTH, HEIGHT))
    out = io.BytesIO()
    strip.save(out, "JPEG", quality=70, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
