"""Images that Pillow reads: stills, animations and lists of them (folders: folders.py).

PNG, JPEG, …                       -> u8[H, W, 3], upright, RGB
GIF, WebP, APNG                    -> numbered frames with their own times
list of paths, arrays, PIL images  -> the same
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import EmptyMedia, TimeRangeError, UnreadableMedia, UsageError
from .clip import Frame
from .frames import DecodedFrames, FrameIndex
from .heif import read_heif
from .image_rgb import TRANSPARENT, image_to_rgb, shared_notes
from .limits import Limits
from .source import MediaSource

ListItem = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".pgm",
        ".pnm",
        ".avif",
        ".heic",
        ".heif",
    ]
)
_DEFAULT_DELAY = 0.1  # seconds per frame of an animation whose file says 0, as in browsers


def array_to_rgb(array: NDArray[np.generic]) -> Frame:
    """u8[H, W, 3] from u8[H, W], [H, W, 1], [H, W, 3] or [H, W, 4].

    Raises:
        UsageError: another shape or dtype. EmptyMedia: no pixels.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UsageError(
            f"a frame is {array.dtype}{list(array.shape)}; expected uint8 [height, width, 1, 3 or 4 channels]."
        )
    if 0 in array.shape:
        raise EmptyMedia(f"a frame of shape {list(array.shape)} has no pixels.")
    if array.ndim == 2 or array.shape[2] == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3])


def transparency_of(array: NDArray[np.generic]) -> list[str]:
    """A note if an array has an alpha channel that is not opaque."""
    has_alpha = array.ndim == 3 and array.shape[2] == 4
    return [TRANSPARENT] if has_alpha and bool((array[:, :, 3] != 255).any()) else []


def read_still(source: MediaSource, limits: Limits) -> tuple[Frame, list[str]]:
    """An image file, of an animation the first frame: u8[H, W, 3], upright, and notes.

    Raises:
        UnreadableMedia, MediaTooLarge.
    """
    still = read_heif(source, limits) if source.kind() == "av" else None
    if still is not None:
        return still
    with source.image(limits) as image:
        return image_to_rgb(image, source.name, as_shown=source.as_shown)


class Animation:
    """The frames of an animated file, composed as a viewer shows them."""

    def __init__(self, image: Image.Image, source: MediaSource, limits: Limits) -> None:
        self._image, self._name, self._limits = image, source.name, limits
        self._as_shown = source.as_shown
        self._frames = _frames(image, source.name)
        limits.check_frames(len(self._frames), source.name, limits.max_animation_frames)
        pages = image.format == "TIFF"
        delays: list[float] = []
        losses: tuple[str, ...] = ()
        for i, number in enumerate(self._frames):
            try:
                image.seek(number)
                if image.format in ("WEBP", "AVIF"):
                    image.load()  # only then is the delay of a frame known
            except (EOFError, OSError, ValueError, SyntaxError):
                losses = (f"the animation is truncated after {i} frames",)
                break
            delay = 1.0 if pages else float(image.info.get("duration") or 0) / 1000
            delays.append(delay or _DEFAULT_DELAY)
        if not delays:
            raise EmptyMedia(f"{source.name} is an animation without a decodable frame.")
        times = np.concatenate([[0.0], np.cumsum(delays)[:-1]])
        notes = ("the pages of a TIFF have no times: one per second is assumed",) if pages else ()
        self.index = FrameIndex(
            times=times, fps=len(delays) / sum(delays), stated_end=sum(delays), notes=notes, losses=losses
        )

    def decode(self, indices: Sequence[int]) -> DecodedFrames:
        """Decode these frames.

        Raises:
            MediaTooLarge, UnreadableMedia.
        """
        wanted = sorted(set(indices))
        self._limits.check_held(*self._image.size, len(wanted), self._name)
        decoded: dict[int, Frame] = {}
        notes: list[str] = []
        for i in wanted:
            self._image.seek(self._frames[i])
            decoded[i], found = image_to_rgb(self._image, self._name, as_shown=self._as_shown)
            notes += found
        return DecodedFrames(
            frames=tuple(decoded[i] for i in indices),
            indices=tuple(indices),
            notes=shared_notes(notes, len(decoded)),
        )


@contextmanager
def open_animation(source: MediaSource, limits: Limits) -> Iterator[Animation | None]:
    """An Animation for the duration of the block, or None for a still image.

    Raises:
        UnreadableMedia, MediaTooLarge, EmptyMedia.
    """
    with source.image(limits) as image:
        limits.check_frames(_frame_count(image, source.name), source.name, limits.max_animation_frames)
        yield Animation(image, source, limits) if len(_frames(image, source.name)) > 1 else None


def _frames(image: Image.Image, name: str) -> Sequence[int]:
    """Numbers of the frames that a viewer shows, one after the other.

    Not an APNG's fallback image, nor the thumbnails of a TIFF's pages.
    """
    count = _frame_count(image, name)
    if getattr(image, "default_image", False) and count > 1:
        return range(1, count)
    if image.format != "TIFF" or count == 1:
        return range(count)
    return [i for i in range(count) if not _is_thumbnail(image, i)] or [0]


def _is_thumbnail(image: Any, page: int) -> bool:
    try:
        image.seek(page)
        return bool(int(image.tag_v2.get(254, 0)) & 1)  # NewSubfileType: a reduced-resolution version of another page
    except (EOFError, OSError, ValueError, TypeError, SyntaxError):
        return False
    finally:
        image.seek(0)


def _frame_count(image: Image.Image, name: str) -> int:
    try:
        return int(getattr(image, "n_frames", 1)) if image.format != "MPO" else 1
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableMedia(f"{name} is corrupt: its frames can't be counted.") from error


class ImageList:
    """Images passed one by one: paths, arrays and PIL images, also mixed."""

    def __init__(
        self,
        items: Sequence[ListItem],
        times: Sequence[float],
        limits: Limits,
        notes: tuple[str, ...] = (),
        *,
        as_shown: bool = False,
    ) -> None:
        """`as_shown`: with the colours of a viewer (MediaSource.as_shown); else as stored."""
        if not items:
            raise EmptyMedia("the list of images is empty; expected 1 or more.")
        limits.check_frames(len(items), "the list")
        seconds = np.array(times, dtype=np.float64)
        if seconds.shape != (len(items),) or not np.isfinite(seconds).all() or (np.diff(seconds) < 0).any():
            raise TimeRangeError(
                f"times={list(times)[:8]}… for {len(items)} images; expected one finite number of seconds for each, "
                "ascending."
            )
        span = float(seconds[-1] - seconds[0])
        fps = (len(items) - 1) / span if span > 0 else 1.0
        self._items, self._limits, self._as_shown = items, limits, as_shown
        self.index = FrameIndex(times=seconds, fps=fps, notes=notes)

    def decode(self, indices: Sequence[int]) -> DecodedFrames:
        """Read these images.

        Raises:
            MediaNotFound, UnreadableMedia, MediaTooLarge, UsageError (not an image).
        """
        decoded: dict[int, Frame] = {}
        notes: list[str] = []
        for i in sorted(set(indices)):
            decoded[i], found = self._read(self._items[i])
            notes += found
            height, width = decoded[i].shape[:2]
            self._limits.check_held(width, height, len(decoded), "the list")
        return DecodedFrames(
            frames=tuple(decoded[i] for i in indices),
            indices=tuple(indices),
            notes=shared_notes(notes, len(decoded)),
        )

    def _read(self, item: ListItem) -> tuple[Frame, list[str]]:
        if isinstance(item, np.ndarray):
            return array_to_rgb(item), transparency_of(item)
        if isinstance(item, Image.Image):
            self._limits.check_pixels(*item.size, "a frame")
            return image_to_rgb(item, as_shown=self._as_shown)
        if isinstance(item, str | os.PathLike):
            return read_still(replace(MediaSource.of(item, self._limits), as_shown=self._as_shown), self._limits)
        raise UsageError(f"a frame of type {type(item).__name__}; expected a path, a uint8 array or a PIL image.")
