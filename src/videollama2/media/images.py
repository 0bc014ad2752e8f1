"""Images that Pillow reads: stills, animations and lists of them (folders: folders.py).

PNG, JPEG, …                       -> u8[H, W, 3], upright, RGB
GIF, WebP, APNG                    -> numbered frames with their own times
list of paths, arrays, PIL images  -> the same
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import EmptyMedia, TimeRangeError, UnreadableMedia, UsageError
from .clip import Frame
from .frames import DecodedFrames, FrameIndex
from .heif import read_heif
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


def image_to_rgb(image: Image.Image, name: str = "the image") -> Frame:
    """u8[H, W, 3]: turned upright by EXIF, 16-bit grey scaled to 8, palette and CMYK converted, alpha dropped.

    Raises:
        UnreadableMedia: the pixels are corrupt or truncated; `name` is for the message.
    """
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16") or (upright.mode == "I" and image.format in {"PNG", "PPM", "TIFF"}):
            deep = np.asarray(upright).astype(np.int64).clip(0, 65535)
            upright = Image.fromarray((deep >> 8).astype(np.uint8))
        elif upright.mode in ("F", "I"):
            upright = Image.fromarray(_to_bytes(np.asarray(upright)))
        return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableMedia(f"{name} is corrupt or truncated: its pixels can't be decoded.") from error


def _to_bytes(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """u8[H, W] of levels that are fractions (0 to 1), bytes (to 255), 16-bit numbers (to 65535), or others."""
    values = np.nan_to_num(levels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    top = next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    low = low if low < 0 else 0.0
    return np.round((values - low) * (255.0 / (top - low))).astype(np.uint8)


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


def transparency_note(image: Image.Image) -> tuple[str, ...]:
    """A note if the image has transparent pixels, whose alpha is dropped."""
    alpha = image
    if "transparency" in image.info and image.mode in ("P", "RGB", "L", "1"):
        alpha = image.convert("RGBA" if image.mode != "L" else "LA")
    if "A" in alpha.getbands() and alpha.getchannel("A").getextrema()[0] != 255:
        return ("the image is partly transparent; transparency is ignored",)
    return ()


class Animation:
    """The frames of an animated file, composed as a viewer shows them."""

    def __init__(self, image: Image.Image, source: MediaSource, limits: Limits) -> None:
        self._image, self._name, self._limits = image, source.name, limits
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
        for i in wanted:
            self._image.seek(self._frames[i])
            decoded[i] = image_to_rgb(self._image, self._name)
        return DecodedFrames(frames=tuple(decoded[i] for i in indices), indices=tuple(indices))


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

    Not the picture that an APNG has for viewers without animation, nor the thumbnails beside a TIFF's page.
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
        self, items: Sequence[ListItem], times: Sequence[float], limits: Limits, notes: tuple[str, ...] = ()
    ) -> None:
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
        self._items, self._limits = items, limits
        self.index = FrameIndex(times=seconds, fps=fps, notes=notes)

    def decode(self, indices: Sequence[int]) -> DecodedFrames:
        """Read these images.

        Raises:
            MediaNotFound, UnreadableMedia, MediaTooLarge, UsageError (not an image).
        """
        decoded: dict[int, Frame] = {}
        for i in sorted(set(indices)):
            decoded[i] = self._read(self._items[i])
            height, width = decoded[i].shape[:2]
            self._limits.check_held(width, height, len(decoded), "the list")
        return DecodedFrames(frames=tuple(decoded[i] for i in indices), indices=tuple(indices))

    def _read(self, item: ListItem) -> Frame:
        if isinstance(item, np.ndarray):
            return array_to_rgb(item)
        if isinstance(item, Image.Image):
            self._limits.check_pixels(*item.size, "a frame")
            return image_to_rgb(item)
        if isinstance(item, str | os.PathLike):
            source = MediaSource.of(item, self._limits)
            still = read_heif(source, self._limits) if source.kind() == "av" else None
            if still is not None:
                return still[0]
            with source.image(self._limits) as image:
                return image_to_rgb(image, source.name)
        raise UsageError(f"a frame of type {type(item).__name__}; expected a path, a uint8 array or a PIL image.")
