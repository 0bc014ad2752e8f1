"""Frames as a player shows them: rotated, mirrored, with square pixels; and notes on what is not converted.

Colour matrices (BT.601, 709, 2020) and limited range are converted according to the stream's tags; the notes report the
rest.
"""

import struct
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from PIL import Image

from .clip import Frame

_HDR = {16: "PQ (HDR10)", 18: "HLG"}  # transfer functions, ITU-T H.273
_PROGRESSIVE = (0, 1)  # field orders: unknown, progressive
_MAX_STRETCH = 20  # beyond it, the header is wrong


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


def square_pixels(frames: Sequence[Frame], stream: Any) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """The frames at the width a player shows, and a note if it differs from the stored width."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not ratio or ratio == 1 or not 1 / _MAX_STRETCH <= ratio <= _MAX_STRETCH or not frames:
        return tuple(frames), ()
    width, height = stream.codec_context.width, stream.codec_context.height
    turned = frames[0].shape[:2] == (width, height) and width != height
    note = f"its pixels are not square ({ratio.numerator}:{ratio.denominator})"
    wide = [_stretched(frame, float(1 / ratio if turned else ratio)) for frame in frames]
    note += f": frames are stretched to {wide[0].shape[1]}x{wide[0].shape[0]} from {width}x{height}"
    return tuple(wide), (note,)


def _stretched(frame: Frame, ratio: float) -> Frame:
    """One side is enlarged, never shrunk, so that no detail is lost."""
    height, width = frame.shape[:2]
    size = (round(width * ratio), height) if ratio >= 1 else (width, round(height / ratio))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def picture_notes(stream: Any) -> tuple[str, ...]:
    """Notes on how a video's frames differ from what a player shows."""
    codec, notes = stream.codec_context, []
    components = codec.format.components if codec.format is not None else ()
    if any(component.is_alpha for component in components) or stream.metadata.get("alpha_mode") == "1":
        notes.append("the video has transparency, which is ignored")
    if codec.color_trc in _HDR:
        notes.append(f"the video is {_HDR[codec.color_trc]}: its colours are not tone-mapped and look washed out")
    if int(codec.field_order or 0) not in _PROGRESSIVE:
        notes.append("the video is interlaced and not deinterlaced: moving edges show combing")
    return tuple(notes)
