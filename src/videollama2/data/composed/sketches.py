"""A picture pack from a few lines of numbers: simple drawings of things that have a sound, and the shapes.

SKETCHES[name] ──► strokes in a unit square ──► PicturePack with u8[6, 96, 96, 4] drawings
"""

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .packs import TEXTURE_SIDE, PicturePack

_FINER = 4  # drawn this many times larger and scaled down, for smooth edges


class Stroke(NamedTuple):
    """A filled shape in a unit square: corners of a polygon, or opposite corners of an ellipse's box."""

    form: Literal["polygon", "ellipse"]
    colour: tuple[int, int, int]
    corners: tuple[tuple[float, float], ...]


def _box(colour: tuple[int, int, int], left: float, top: float, right: float, bottom: float) -> Stroke:
    return Stroke("polygon", colour, ((left, top), (right, top), (right, bottom), (left, bottom)))


def _oval(colour: tuple[int, int, int], left: float, top: float, right: float, bottom: float) -> Stroke:
    return Stroke("ellipse", colour, ((left, top), (right, bottom)))


_GOLD, _DARK, _WOOD, _LIGHT = (240, 190, 50), (60, 45, 30), (165, 95, 45), (250, 245, 235)
_RED, _BLACK, _GREY = (200, 40, 40), (25, 25, 28), (150, 150, 155)
_BARS = ((220, 50, 50), (240, 140, 40), (240, 210, 50), (60, 170, 80), (60, 100, 210), (130, 60, 180))

SKETCHES: dict[str, tuple[Stroke, ...]] = {
    "a bell": (
        _oval(_DARK, 0.42, 0.78, 0.58, 0.96),
        Stroke("polygon", _GOLD, ((0.38, 0.2), (0.62, 0.2), (0.72, 0.55), (0.92, 0.84), (0.08, 0.84), (0.28, 0.55))),
        _oval(_GOLD, 0.36, 0.08, 0.64, 0.36),
        _box((200, 150, 30), 0.08, 0.8, 0.92, 0.86),
    ),
    "a drum": (
        _oval(_RED, 0.08, 0.58, 0.92, 0.92),
        _box(_RED, 0.08, 0.32, 0.92, 0.75),
        *(
            Stroke("polygon", _GOLD, ((x, 0.4), (x + 0.03, 0.4), (x + 0.17, 0.85), (x + 0.14, 0.85)))
            for x in (0.12, 0.32, 0.52, 0.68)
        ),
        _oval(_GOLD, 0.06, 0.14, 0.94, 0.48),
        _oval(_LIGHT, 0.1, 0.16, 0.9, 0.44),
        Stroke("polygon", _WOOD, ((0.35, 0.28), (0.38, 0.31), (0.95, 0.06), (0.93, 0.02))),
    ),
    "a xylophone": (
        Stroke("polygon", _WOOD, ((0.05, 0.3), (0.95, 0.38), (0.95, 0.44), (0.05, 0.38))),
        Stroke("polygon", _WOOD, ((0.05, 0.72), (0.95, 0.62), (0.95, 0.68), (0.05, 0.8))),
        *(_box(bar, 0.06 + 0.15 * k, 0.14 + 0.05 * k, 0.18 + 0.15 * k, 0.94 - 0.05 * k) for k, bar in enumerate(_BARS)),
    ),
    "a piano": (
        Stroke("polygon", _BLACK, ((0.06, 0.5), (0.06, 0.28), (0.3, 0.1), (0.62, 0.14), (0.94, 0.42), (0.94, 0.5))),
        _box(_BLACK, 0.06, 0.46, 0.94, 0.66),
        _box(_LIGHT, 0.1, 0.54, 0.9, 0.64),
        *(_box(_BLACK, 0.145 + 0.07 * k, 0.54, 0.175 + 0.07 * k, 0.6) for k in range(11) if k not in (2, 6, 9)),
        *(_box(_BLACK, x, 0.64, x + 0.06, 0.95) for x in (0.12, 0.82)),
        _box(_BLACK, 0.47, 0.64, 0.53, 0.9),
    ),
    "a guitar": (
        _box(_DARK, 0.46, 0.04, 0.54, 0.55),
        _box(_WOOD, 0.42, 0.02, 0.58, 0.13),
        _oval((205, 130, 60), 0.28, 0.4, 0.72, 0.72),
        _oval((205, 130, 60), 0.2, 0.58, 0.8, 0.98),
        _oval(_DARK, 0.4, 0.54, 0.6, 0.72),
        _box(_DARK, 0.36, 0.84, 0.64, 0.88),
        *(_box(_LIGHT, x, 0.1, x + 0.008, 0.85) for x in (0.475, 0.495, 0.515)),
    ),
    "a trumpet": (
        _box(_GOLD, 0.06, 0.42, 0.7, 0.49),
        Stroke("polygon", _GOLD, ((0.66, 0.42), (0.9, 0.22), (0.9, 0.69), (0.66, 0.49))),
        _oval(_GOLD, 0.86, 0.2, 0.97, 0.71),
        _oval(_GREY, 0.02, 0.4, 0.09, 0.51),
        _oval(_GOLD, 0.22, 0.44, 0.64, 0.74),
        _oval((0, 0, 0), 0.28, 0.52, 0.58, 0.67),
        *(_box(_GREY, x, 0.28, x + 0.07, 0.72) for x in (0.31, 0.4, 0.49)),
    ),
}
"""Name → strokes, back to front. Each thing has a sound in `tones.NOISES`."""


@cache
def sketches() -> PicturePack:
    """The sketches as a pack without photos and cut-outs."""
    drawn = np.stack([sketch(strokes) for strokes in SKETCHES.values()])
    none = np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, np.int64), np.zeros((0, *drawn.shape[1:]), np.uint8)
    return PicturePack(*none, (), drawn, tuple(SKETCHES))


def sketch(strokes: tuple[Stroke, ...]) -> NDArray[np.uint8]:
    """Strokes as u8[96, 96, 4] on transparent background."""
    side = TEXTURE_SIDE * _FINER
    image = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        corners = [(x * side, y * side) for x, y in stroke.corners]
        (pen.ellipse if stroke.form == "ellipse" else pen.polygon)(corners, fill=(*stroke.colour, 255))
    return np.asarray(image.resize((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.LANCZOS))
