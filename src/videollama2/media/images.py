"""Pictures that Pillow reads: stills, animations, folders and lists of them.

PNG, JPEG, …                       -> u8[H, W, 3], upright, RGB
GIF, WebP, APNG                    -> numbered pictures with their own times
folder of pictures                 -> the same, in the order of their names
list of paths, arrays, PIL images  -> the same
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import EmptyMedia, TimeRangeError, UnreadableMedia, UsageError
from .clip import Frame, FrameIndex, Picked
from .limits import Limits
from .source import Source

Item = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".avif"]
)
_DEFAULT_DELAY = 0.1  # seconds a picture of an animation stays when the file says 0, as browsers do


def rgb(picture: Image.Image) -> Frame:
    """u8[H, W, 3]: turned upright by EXIF, 16-bit grey scaled to 8, palette and CMYK converted, alpha dropped.

    Raises:
        UnreadableMedia: the pixels are corrupt or cut off.
    """
    try:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I;16") or (upright.mode == "I" and picture.format in {"PNG", "PPM", "TIFF"}):
            deep = np.asarray(upright).astype(np.int64).clip(0, 65535)
            upright = Image.fromarray((deep >> 8).astype(np.uint8))
        return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableMedia(
            "the picture is corrupt or cut off in the middle; its pixels can't be decoded."
        ) from error


def array_rgb(array: NDArray[np.generic]) -> Frame:
    """u8[H, W, 3] from u8[H, W], [H, W, 1], [H, W, 3] or [H, W, 4].

    Raises:
        UsageError: another shape or dtype.
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UsageError(
            f"a frame is {array.dtype}{list(array.shape)}; expected uint8 [height, width, 1, 3 or 4 channels]."
        )
    if 0 in array.shape:
        raise EmptyMedia(f"a frame is {list(array.shape)}: it has no pixels.")
    if array.ndim == 2 or array.shape[2] == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3])


def read_still(source: Source, limits: Limits) -> Frame:
    """The picture of a file.

    Raises:
        UnreadableMedia, MediaTooLarge.
    """
    with source.picture(limits) as picture:
        return _named(picture, source.name)


def _named(picture: Image.Image, name: str) -> Frame:
    try:
        return rgb(picture)
    except UnreadableMedia as error:
        raise UnreadableMedia(f"{name}: {error}") from error


class Animation:
    """The pictures of an animated file, composed as a viewer shows them."""

    def __init__(self, picture: Image.Image, source: Source, limits: Limits) -> None:
        self._picture, self._name, self._limits = picture, source.name, limits
        limits.check_frames(_frames(picture, source.name), source.name, limits.max_animation_frames)
        delays: list[float] = []
        losses: tuple[str, ...] = ()
        for i in range(_frames(picture, source.name)):
            try:
                picture.seek(i)
                if picture.format in ("WEBP", "AVIF"):
                    picture.load()  # these tell a picture's delay only then
            except (EOFError, OSError, ValueError, SyntaxError):
                losses = (f"the animation breaks off after {i} pictures",)
                break
            delays.append(float(picture.info.get("duration") or 0) / 1000 or _DEFAULT_DELAY)
        if not delays:
            raise EmptyMedia(f"{source.name} is an animation without a decodable picture.")
        times = np.concatenate([[0.0], np.cumsum(delays)[:-1]])
        self.index = FrameIndex(times=times, fps=len(delays) / sum(delays), losses=losses)

    def pick(self, indices: Sequence[int]) -> Picked:
        """Decode these pictures.

        Raises:
            MediaTooLarge, UnreadableMedia.
        """
        wanted = sorted(set(indices))
        self._limits.check_held(*self._picture.size, len(wanted), self._name)
        got: dict[int, Frame] = {}
        for i in wanted:
            self._picture.seek(i)
            got[i] = _named(self._picture, self._name)
        return Picked(frames=tuple(got[i] for i in indices), indices=tuple(indices))


@contextmanager
def open_animation(source: Source, limits: Limits) -> Iterator[Animation | None]:
    """An Animation for the duration of the block, or None for a file of one picture.

    Raises:
        UnreadableMedia, MediaTooLarge, EmptyMedia.
    """
    with source.picture(limits) as picture:
        yield Animation(picture, source, limits) if _frames(picture, source.name) > 1 else None


def _frames(picture: Image.Image, name: str) -> int:
    try:
        return int(getattr(picture, "n_frames", 1)) if picture.format != "MPO" else 1
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableMedia(f"{name} is corrupt: its pictures can't be counted.") from error


class PictureList:
    """Pictures handed in one by one: paths, arrays and PIL images, also mixed."""

    def __init__(
        self, items: Sequence[Item], times: Sequence[float], limits: Limits, notes: tuple[str, ...] = ()
    ) -> None:
        if not items:
            raise EmptyMedia("the list of frames is empty; give at least one picture.")
        limits.check_frames(len(items), "the list")
        seconds = np.array(times, dtype=np.float64)
        if seconds.shape != (len(items),) or not np.isfinite(seconds).all() or (np.diff(seconds) < 0).any():
            raise TimeRangeError(
                f"{len(items)} frames need as many finite, ascending times in seconds; got {list(times)[:8]}…."
            )
        span = float(seconds[-1] - seconds[0])
        fps = (len(items) - 1) / span if span > 0 else 1.0
        self._items, self._limits = items, limits
        self.index = FrameIndex(times=seconds, fps=fps, notes=notes)

    def pick(self, indices: Sequence[int]) -> Picked:
        """Read these pictures.

        Raises:
            MediaNotFound, UnreadableMedia, MediaTooLarge, UsageError (not a picture).
        """
        got: dict[int, Frame] = {}
        for i in sorted(set(indices)):
            got[i] = self._read(self._items[i])
            height, width = got[i].shape[:2]
            self._limits.check_held(width, height, len(got), "the list")
        return Picked(frames=tuple(got[i] for i in indices), indices=tuple(indices))

    def _read(self, item: Item) -> Frame:
        if isinstance(item, np.ndarray):
            return array_rgb(item)
        if isinstance(item, Image.Image):
            self._limits.check_pixels(*item.size, "a frame")
            return rgb(item)
        if isinstance(item, str | os.PathLike):
            return read_still(Source.of(item, self._limits), self._limits)
        raise UsageError(f"a frame is a {type(item).__name__}; expected a path, a uint8 array or a PIL image.")


def open_folder(folder: Path, fps: float, limits: Limits) -> PictureList:
    """The pictures of a folder, in the order of their names, `fps` of them a second.

    Raises:
        EmptyMedia: no picture file in it. MediaTooLarge: too many.
    """
    names: list[str] = []
    ignored = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES:
                names.append(entry.name)
            else:
                ignored += 1
            limits.check_frames(len(names) + ignored, str(folder))
    if not names:
        raise EmptyMedia(
            f"{folder} holds no picture ({ignored} other entries); expected files like 0001.jpg or 0001.png."
        )
    notes = (f"{ignored} entries of the folder are no pictures and were ignored",) if ignored else ()
    return PictureList([folder / n for n in sorted(names)], [i / fps for i in range(len(names))], limits, notes)
