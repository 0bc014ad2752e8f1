"""Frames as a player shows them: colours (colour.py), square pixels, rotated, mirrored; and notes on the difference.

Where the protocol uses pixels as stored (the released one), frames are only rotated and mirrored, and the notes report
what a player shows differently.
"""

import struct
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from .clip import Frame
from .colour import Colours, colours_of, displayed_rgb, matrix_for, stored_rgb

_PROGRESSIVE = (0, 1)  # field orders: unknown, progressive
_MAX_STRETCH = 20  # beyond it, the header is wrong
_DOLBY_VISION = ("dvh1", "dvhe", "dva1", "dvav", "dav1")  # codec tags without a picture for other players


class Appearance:
    """Converts a video stream's decoded frames to RGB, and collects notes on them for the receipt."""

    def __init__(self, stream: "av.VideoStream", *, as_shown: bool, stated: Fraction | None = None) -> None:
        """`as_shown`: with a player's colours and square pixels; else as stored.

        `stated`: the aspect of pixels that the stream has at its beginning; None: probing found it.
        """
        self._stream, self._codec, self._as_shown = stream, stream.codec_context, as_shown
        self.stated = stated if stated is not None else stream.codec_context.sample_aspect_ratio
        self._notes: dict[str, None] = {}
        self._shapes: dict[Fraction, tuple[int, int, int, int]] = {}  # aspect of pixels: stored and shown size
        self._described: set[tuple[object, ...]] = set()

    def rgb(self, frame: "av.VideoFrame") -> Frame:
        """u8[H, W, 3], upright."""
        colours = colours_of(frame, self._codec)
        self._describe(frame, colours)
        if not self._as_shown:
            return upright(stored_rgb(frame), frame)
        return upright(self._square(displayed_rgb(frame, colours)), frame)

    def merge(self, other: "Appearance") -> None:
        """Take over the notes of another decoder of the same stream."""
        self._notes |= other._notes
        self._shapes |= other._shapes

    @property
    def notes(self) -> tuple[str, ...]:
        """How the frames differ from the stored ones, or from a player's."""
        notes = list(self._notes)
        if int(self._codec.field_order or 0) not in _PROGRESSIVE:
            notes.append(_INTERLACED)
        if self._stream.metadata.get("alpha_mode") == "1":
            notes.append(_TRANSPARENT)
        return (*self._shape_notes(), *dict.fromkeys(notes))

    def _square(self, rgb: Frame) -> Frame:
        """A frame, not rotated yet, with square pixels: one side is enlarged, never shrunk, to lose no detail."""
        ratio = self._aspect()
        height, width = rgb.shape[:2]
        size = (round(width * ratio), height) if ratio >= 1 else (width, round(height / ratio))
        self._shapes[ratio] = (width, height, *size)
        if ratio == 1:
            return rgb
        return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))

    def _aspect(self) -> Fraction:
        """Width to height of a pixel: the container's, until the stream states another one."""
        now = self._codec.sample_aspect_ratio
        changed = bool(now) and now != self.stated and bool(self.stated)
        ratio = now if changed else self._stream.sample_aspect_ratio or now
        return Fraction(ratio) if ratio and 1 / _MAX_STRETCH <= ratio <= _MAX_STRETCH else Fraction(1)

    def _shape_notes(self) -> tuple[str, ...]:
        odd = [(ratio, *shape) for ratio, shape in self._shapes.items() if ratio != 1]
        if not odd:
            return ()
        if len(self._shapes) > 1:
            ratios = ", ".join(_ratio(ratio) for ratio in self._shapes)
            return (f"the shape of its pixels changes ({ratios}): each frame is stretched by its own",)
        ratio, width, height, wide, high = odd[0]
        sizes = f"frames are stretched to {wide}x{high} from {width}x{height}"
        return (f"its pixels are not square ({_ratio(ratio)}): {sizes}",)

    def _describe(self, frame: "av.VideoFrame", colours: Colours) -> None:
        """Note what is odd about a frame, once for each kind of frame."""
        kind = (frame.format.name, frame.interlaced_frame, frame.width, frame.height, colours)
        if kind in self._described:
            return
        self._described.add(kind)
        if any(component.is_alpha for component in frame.format.components):
            self._notes[_TRANSPARENT] = None
        if self._codec.codec_tag in _DOLBY_VISION and not colours.hdr:
            self._notes["the video is Dolby Vision: its colours are not supported, and look green and purple"] = None
        for note in _colour_notes(frame, colours, as_shown=self._as_shown):
            self._notes[note] = None
        if frame.interlaced_frame:
            self._notes[_INTERLACED] = None


_INTERLACED = "the video is interlaced and not deinterlaced: moving edges show combing"
_TRANSPARENT = "the video has transparency, which is ignored"


def upright(rgb: Frame, frame: "av.VideoFrame") -> Frame:
    """A frame after its display matrix: mirrored, transposed, rotated by right angles."""
    matrix = frame.side_data.get("DISPLAYMATRIX") if frame.side_data else None
    if matrix is None:
        return rgb
    a, b, _, c, d = struct.unpack_from("=9i", bytes(matrix))[:5]  # x' = ax + cy, y' = bx + dy
    if abs(a) + abs(d) < abs(b) + abs(c):
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    rgb = rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(rgb)


def _colour_notes(frame: "av.VideoFrame", colours: Colours, *, as_shown: bool) -> list[str]:
    notes = []
    _, guessed = matrix_for(frame, colours)
    if guessed and (as_shown or "not supported" in guessed):
        notes.append(guessed)
    if colours.hdr and as_shown:
        peak = f" from {colours.peak:g} cd/m²" if colours.hdr.startswith("PQ") else ""
        notes.append(f"the video is {colours.hdr}: tone-mapped{peak} to SDR")
    elif colours.hdr:
        notes.append(f"the video is {colours.hdr}: its colours are not tone-mapped and look washed out")
    elif colours.gamut:
        outcome = "converted to sRGB" if as_shown else "used as stored, which looks washed out"
        notes.append(f"the video's colours are {colours.gamut}: {outcome}")
    return notes


def _ratio(ratio: Fraction) -> str:
    return f"{ratio.numerator}:{ratio.denominator}"
