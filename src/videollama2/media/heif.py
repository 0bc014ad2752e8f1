"""HEIC and HEIF stills, as phones write them (ISO/IEC 23008-12).

description (heif_boxes.py) ──► primary item: hvc1, av01 ──► decoded ──┐
                                grid, iovl, iden: its parts, each so ──┴─► joined ──► cropped, turned as stored

Thumbnails and depth maps are skipped. An image that can't be composed is an error, never returned in part.
"""

import struct

import av
import av.error
import numpy as np
from PIL import Image

from ..errors import MediaError, UnreadableMedia
from .clip import Frame
from .colour import Colours, colours_of, displayed_rgb, stored_rgb
from .heif_boxes import Description, HeifItem, read_description
from .image_rgb import TRANSPARENT, in_srgb
from .limits import Limits
from .source import MediaSource

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"MiHB", b"MiHE", b"avif")
_DECODERS = {"hvc1": ("hevc", "hvcC"), "av01": ("libdav1d", "av1C")}
_IMAGES = (*_DECODERS, "grid", "iovl", "iden")
_MAX_PARTS = 4096
_MAX_DEPTH = 4  # of items made of items


def read_heif(source: MediaSource, limits: Limits) -> tuple[Frame, list[str]] | None:
    """u8[H, W, 3] of a HEIF file's primary image, upright, and notes; None if the file is not a HEIF still.

    Raises:
        UnreadableMedia: corrupt, or its image is of a kind that can't be composed. MediaTooLarge.
    """
    head = source.head(32)
    if head[4:8] != b"ftyp" or head[8:12] not in _BRANDS:
        return None
    try:
        description = read_description(source)
        return None if description is None else _Composer(source, limits, description).primary()
    except MediaError:
        raise
    except (struct.error, IndexError, KeyError, ValueError, av.error.FFmpegError) as error:
        raise UnreadableMedia(f"{source.name} is corrupt or truncated: its HEIF image can't be decoded.") from error


class _Composer:
    """Decodes and composes the items of a file."""

    def __init__(self, source: MediaSource, limits: Limits, description: Description) -> None:
        self._source, self._name, self._limits = source, source.name, limits
        self._items, self._primary, self._inside = description.items, description.primary, description.inside
        self._notes: list[str] = []
        self._composed = 0

    def primary(self) -> tuple[Frame, list[str]]:
        """The primary image and notes."""
        frame = self._image(self._primary, 0)
        profile = self._profile(self._items[self._primary])
        if profile is not None:
            image, notes = in_srgb(Image.fromarray(frame), profile, as_shown=self._source.as_shown)
            frame, self._notes = np.asarray(image), self._notes + notes
        others = sum(1 for number in self._shown_alone() if number != self._primary)
        if others:
            plural = "image is" if others == 1 else "images are"
            self._notes.append(f"the primary one of {others + 1} images is used; {others} other {plural} not")
        if any("auxl" in item.of and b"alpha" in (item.property("auxC") or b"") for item in self._items.values()):
            self._notes.append(TRANSPARENT)
        return frame, list(dict.fromkeys(self._notes))

    def _shown_alone(self) -> list[int]:
        """Images that a viewer shows: no thumbnails, depth maps and parts of others."""
        parts = {number for item in self._items.values() for number in item.parts}
        return [
            number
            for number, item in self._items.items()
            if item.kind in _IMAGES and not item.hidden and number not in parts and not item.of & {"thmb", "auxl"}
        ]

    def _profile(self, item: HeifItem, depth: int = 0) -> bytes | None:
        """The ICC profile of an item, or of the first of its parts."""
        for kind, data in item.properties:
            if kind == "colr" and data[:4] in (b"prof", b"rICC"):
                return data[4:]
        return self._profile(self._items[item.parts[0]], depth + 1) if item.parts and depth < _MAX_DEPTH else None

    def _image(self, number: int, depth: int) -> Frame:
        """An item, composed of its parts, with its own crop, rotation and mirror."""
        if depth > _MAX_DEPTH:
            raise UnreadableMedia(f"{self._name}: its images are nested more than {_MAX_DEPTH} levels deep.")
        item = self._items[number]
        self._composed += 1
        if self._composed > _MAX_PARTS:
            raise UnreadableMedia(f"{self._name}: an image of more than {_MAX_PARTS} parts; expected fewer.")
        if item.kind == "grid":
            frame = self._grid(item, depth)
        elif item.kind == "iovl":
            frame = self._overlay(item, depth)
        elif item.kind == "iden":
            frame = self._image(item.parts[0], depth + 1)
        else:
            frame = self._decoded(item)
        return _transformed(frame, item)

    def _grid(self, item: HeifItem, depth: int) -> Frame:
        layout = self._data(item)
        rows, columns = layout[2] + 1, layout[3] + 1
        width, height = struct.unpack_from(">II" if layout[1] & 1 else ">HH", layout, 4)
        self._limits.check_pixels(width, height, self._name)
        if rows * columns != len(item.parts):
            raise UnreadableMedia(
                f"{self._name} declares a grid of {rows}x{columns} tiles, but lists {len(item.parts)}; it is corrupt."
            )
        canvas: Frame | None = None
        for k, number in enumerate(item.parts):
            tile = self._image(number, depth + 1)
            high, wide = tile.shape[:2]
            if canvas is None:
                if high * rows < height or wide * columns < width:
                    raise UnreadableMedia(
                        f"{self._name}: its tiles of {wide}x{high} do not cover {width}x{height} pixels."
                    )
                canvas = np.zeros((height, width, 3), np.uint8)
            _paste(canvas, tile, k // columns * high, k % columns * wide)
        assert canvas is not None
        return canvas

    def _overlay(self, item: HeifItem, depth: int) -> Frame:
        """Images on a canvas of one colour, the later ones above."""
        layout = self._data(item)
        fill = struct.unpack_from(">4H", layout, 2)
        wide = bool(layout[1] & 1)
        width, height = struct.unpack_from(">II" if wide else ">HH", layout, 10)
        self._limits.check_pixels(width, height, self._name)
        if fill[3] != 65535:
            self._notes.append(TRANSPARENT)
        canvas: Frame = np.empty((height, width, 3), np.uint8)
        canvas[:] = [level >> 8 for level in fill[:3]]
        at, step = (18, 8) if wide else (14, 4)
        for k, number in enumerate(item.parts):
            left, top = struct.unpack_from(">ii" if wide else ">hh", layout, at + k * step)
            _paste(canvas, self._image(number, depth + 1), top, left)
        return canvas

    def _decoded(self, item: HeifItem) -> Frame:
        if item.kind not in _DECODERS:
            raise UnreadableMedia(
                f"{self._name}: its image is a HEIF item of type {item.kind!r}; expected {', '.join(_IMAGES)}. "
                "Convert it, for example to JPEG."
            )
        decoder, setup = _DECODERS[item.kind]
        size = item.property("ispe")
        if size is not None:
            wide, high = struct.unpack_from(">II", size, 4)
            self._limits.check_pixels(wide, high, self._name)
        codec = av.CodecContext.create(decoder, "r")
        codec.extradata = item.property(setup)
        codec.options = {"max_pixels": str(self._limits.max_pixels)}
        frames = [*codec.decode(av.Packet(self._data(item))), *codec.decode(None)]
        if not frames:
            raise UnreadableMedia(f"{self._name} is corrupt or truncated: part of its image can't be decoded.")
        frame = frames[0]
        self._limits.check_pixels(frame.width, frame.height, self._name)
        colours = self._colours(item, frame, codec)
        if not self._source.as_shown or self._profile(self._items[self._primary]) is not None:
            return stored_rgb(frame, colours.matrix)
        if colours.hdr:
            self._notes.append(f"the image is {colours.hdr}: tone-mapped to SDR")
        elif colours.gamut:
            self._notes.append(f"its colours ({colours.gamut}) are converted to sRGB")
        return displayed_rgb(frame, colours)

    def _colours(self, item: HeifItem, frame: "av.VideoFrame", codec: "av.VideoCodecContext") -> Colours:
        """As the item states them, else its bitstream, else BT.601 (ISO/IEC 23000-22 §7.3.6.4)."""
        coded = colours_of(frame, codec)
        primaries, transfer, matrix = coded.primaries, coded.transfer, coded.matrix
        stated = [*item.properties, *self._items[self._primary].properties]
        nclx = next((data for kind, data in stated if kind == "colr" and data[:4] == b"nclx"), None)
        if nclx is not None:
            primaries, transfer, matrix, full = struct.unpack_from(">HHHB", nclx, 4)
            frame.color_range = 2 if full & 0x80 else 1
        if matrix in (0, 2, 3) and not frame.format.is_rgb:
            matrix = 5
        return Colours(matrix, transfer, primaries)

    def _data(self, item: HeifItem) -> bytes:
        if item.method == 1:
            return b"".join(self._inside[start : start + length] for start, length in item.extents)
        with self._source.reader() as read:
            return b"".join(read(start, length) for start, length in item.extents)


def _paste(canvas: Frame, part: Frame, top: int, left: int) -> None:
    """Write a part into the canvas, as far as it lies inside."""
    part = part[max(-top, 0) :, max(-left, 0) :]
    target = canvas[max(top, 0) :, max(left, 0) :][: part.shape[0], : part.shape[1]]
    target[:] = part[: target.shape[0], : target.shape[1]]


def _transformed(frame: Frame, item: HeifItem) -> Frame:
    """Crop, rotation and mirror, in the order of the item's properties."""
    for kind, data in item.properties:
        if kind == "irot":
            frame = np.rot90(frame, data[0] & 3)  # counter-clockwise
        elif kind == "imir":
            frame = frame[:, ::-1] if data[0] & 1 else frame[::-1]
        elif kind == "clap":
            wn, wd, hn, hd, xn, xd, yn, yd = struct.unpack_from(">IIIIiIiI", data)
            high, wide = frame.shape[:2]
            width, height = min(wn // wd, wide), min(hn // hd, high)
            left, top = round((wide - width) / 2 + xn / xd), round((high - height) / 2 + yn / yd)
            left, top = min(max(left, 0), wide - width), min(max(top, 0), high - height)
            frame = frame[top : top + height, left : left + width] if width and height else frame
    return np.ascontiguousarray(frame)
