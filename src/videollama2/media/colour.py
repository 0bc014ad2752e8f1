"""A video frame's colours as an SDR display shows them: matrix, gamut and HDR to sRGB.

    frame ──FFmpeg's matrix──► R'G'B' ──transfer──► light ──tone curve, HDR only──► ──gamut──► sRGB

matrix    as tagged; untagged: BT.2020 with HDR or BT.2020 primaries, BT.709 in HD, else BT.601, as mpv guesses it
HDR       PQ (SMPTE ST 2084) and HLG (ITU-R BT.2100) as absolute light; the peak of the master, or 1000 cd/m², is
          brought to SDR white, 203 cd/m² (BT.2408), by the curve of ITU-R BT.2390 §5.4.1 on the largest of R, G, B
gamut     BT.2020 and P3 primaries to BT.709's, in linear light; colours outside are clipped
"""

import struct
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clip import Frame

PQ, HLG = 16, 18  # transfer functions; all numbers are of ITU-T H.273
_MATRICES = {1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}  # that FFmpeg converts
_UNTAGGED = (0, 2, 3)  # RGB's, which a YUV frame can't have; unspecified; reserved
_ODD_MATRICES = {8: "YCgCo", 10: "BT.2020 constant luminance", 14: "ICtCp", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_GAMUTS = {9: "BT.2020", 11: "P3", 12: "P3"}  # wider than an SDR display's
_PRIMARIES = {  # x, y of red, green and blue
    "BT.709": (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    "BT.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    "P3": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_D65 = (0.3127, 0.3290)
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_WHITE = 203.0  # cd/m² of SDR white in an HDR picture
_PEAK = 1000.0  # of a master that doesn't say, and of an HLG display
_ROWS = 64  # converted at once, so that floats of a whole picture are never held


@dataclass(frozen=True)
class Colours:
    """How a frame's numbers mean colours, in numbers of H.273. `peak`: cd/m² of the brightest pixel, for PQ."""

    matrix: int
    transfer: int
    primaries: int
    peak: float = _PEAK

    @property
    def hdr(self) -> str:
        """PQ or HLG; "" for SDR."""
        return {PQ: "PQ (HDR10)", HLG: "HLG"}.get(self.transfer, "")

    @property
    def gamut(self) -> str:
        """A gamut wider than BT.709; "" for the others."""
        return _GAMUTS.get(self.primaries, "BT.2020" if self.hdr else "")


def colours_of(frame: Any, codec: Any) -> Colours:
    """As the frame is tagged; what it leaves open, as its codec is."""
    transfer = int(getattr(frame, "color_trc", 2) or codec.color_trc or 2)  # before PyAV 17, of the codec alone
    primaries = int(getattr(frame, "color_primaries", 2) or codec.color_primaries or 2)
    return Colours(int(frame.colorspace), transfer, primaries, _peak(frame) if transfer == PQ else _PEAK)


def matrix_for(frame: Any, colours: Colours) -> tuple[int, str]:
    """The matrix that a player uses, and a note if it is a guess that matters."""
    if not _is_yuv(frame) or colours.matrix in _MATRICES:
        return colours.matrix, ""
    if colours.hdr or colours.primaries == 9:
        guess = 9
    else:
        guess = 1 if frame.width >= 1280 or frame.height > 576 else 5
    if colours.matrix in _UNTAGGED:
        note = "" if guess == 5 else f"the video doesn't state its colour matrix: {_MATRICES[guess]} is assumed"
        return guess, note
    odd = _ODD_MATRICES.get(colours.matrix, f"number {colours.matrix}")
    return guess, f"the colour matrix {odd} is not supported: {_MATRICES[guess]} is used, and colours are wrong"


def stored_rgb(frame: Any, matrix: int | None = None) -> Frame:
    """u8[H, W, 3] by the frame's matrix and range; transfer and gamut stay. `matrix`: another one."""
    if matrix is None and _is_yuv(frame) and frame.colorspace not in (*_MATRICES, 0, 2):
        matrix = 5  # FFmpeg converts none of the others; it takes this one for what is not tagged
    chosen = {} if matrix is None else {"src_colorspace": matrix, "dst_colorspace": matrix}
    rgb: Frame = frame.to_ndarray(format="rgb24", **chosen)
    return rgb


def displayed_rgb(frame: Any, colours: Colours) -> Frame:
    """u8[H, W, 3] in sRGB, as an SDR display shows the frame."""
    matrix, _ = matrix_for(frame, colours)
    if not colours.gamut:
        return stored_rgb(frame, matrix)
    coded: NDArray[Any]
    if max((component.bits for component in frame.format.components), default=8) <= 8:
        coded, white = stored_rgb(frame, matrix), 255
    else:
        coded = frame.to_ndarray(format="rgb48le", src_colorspace=matrix, dst_colorspace=matrix)
        white = 65535 if frame.color_range == 2 else 65280  # FFmpeg's
    shown = np.empty(coded.shape, np.uint8)
    for top in range(0, len(coded), _ROWS):
        rows = slice(top, top + _ROWS)
        shown[rows] = _to_srgb(coded[rows], white, colours)
    return shown


def _to_srgb(coded: NDArray[Any], white: int, colours: Colours) -> Frame:
    """u8 sRGB of coded R'G'B'."""
    light = _light(colours.transfer, white)[coded]
    if colours.transfer == HLG:  # the light of the scene, to that of a display of 1000 cd/m² (BT.2100, table 5)
        light *= (light @ _LUMA_2020)[..., None] ** np.float32(0.2)
        light *= np.float32(_PEAK / _WHITE)
    if colours.hdr:
        table = _curve(colours.peak if colours.transfer == PQ else _PEAK)
        largest = light.max(axis=-1)
        places = np.minimum(np.sqrt(largest * np.float32(_WHITE / 10_000)) * np.float32(len(table) - 1) + 0.5, 65535)
        light *= table[places.astype(np.intp)][..., None]
    if colours.gamut:
        light = light @ _gamut_matrix(colours.gamut).T
    places = np.clip(light, 0, 1) * np.float32(65535) + np.float32(0.5)
    return _srgb_table()[places.astype(np.uint16)]


# ── curves ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def pq_to_light(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """cd/m² of PQ numbers from 0 to 1 (SMPTE ST 2084)."""
    root = np.maximum(coded, 0.0) ** (1 / _M2)
    return 10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def light_to_pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """PQ numbers of cd/m²."""
    power = (np.maximum(light, 0.0) / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def hlg_to_scene(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """The light of the scene, 0 to 1, of HLG numbers (ITU-R BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)


def tone_mapped(light: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """cd/m² on a display of 203 cd/m², of a master whose brightest pixel has `peak` (ITU-R BT.2390 §5.4.1)."""
    if peak <= _WHITE:
        return np.minimum(light, _WHITE)
    top = light_to_pq(np.array(peak))
    relative = np.minimum(light_to_pq(light) / top, 1.0)
    largest = light_to_pq(np.array(_WHITE)) / top
    knee = 1.5 * largest - 0.5
    t = np.maximum(relative - knee, 0.0) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * largest
    return pq_to_light(np.where(relative < knee, relative, bent) * top)


@cache
def _light(transfer: int, white: int) -> NDArray[np.float32]:
    """Light of each coded number: 1 is SDR white, or the brightest scene of HLG."""
    coded = np.minimum(np.arange(256 if white == 255 else 65536) / white, 1.0)
    if transfer == PQ:
        light = pq_to_light(coded) / _WHITE
    elif transfer == HLG:
        light = hlg_to_scene(coded)
    else:  # sRGB's, whatever the SDR curve: it is undone after the gamut, so that greys stay as they are
        light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@lru_cache(8)
def _curve(peak: float) -> NDArray[np.float32]:
    """What to multiply light by, for each place in the square root of 0 to 10,000 cd/m²."""
    light = np.linspace(0, 1, 65536)[1:] ** 2 * 10_000
    factors = tone_mapped(light, peak) / light
    return np.concatenate([factors[:1], factors]).astype(np.float32)


@cache
def _srgb_table() -> NDArray[np.uint8]:
    """The sRGB byte of light in 16 bits (IEC 61966-2-1)."""
    light = np.arange(65536) / 65535
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * coded).astype(np.uint8)


@cache
def _gamut_matrix(name: str) -> NDArray[np.float32]:
    """[3, 3]: light in these primaries to light in BT.709's."""
    return (np.linalg.inv(_to_xyz("BT.709")) @ _to_xyz(name)).astype(np.float32)


def _to_xyz(gamut: str) -> NDArray[np.float64]:
    """[3, 3]: light in some primaries to CIE XYZ; 1, 1, 1 is D65 white."""
    x, y = np.array(_PRIMARIES[gamut][::2]), np.array(_PRIMARIES[gamut][1::2])
    columns = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    white_x, white_y = _D65
    scale: NDArray[np.float64] = np.linalg.solve(columns, [white_x / white_y, 1.0, (1 - white_x - white_y) / white_y])
    return columns * scale


def _is_yuv(frame: Any) -> bool:
    return not frame.format.is_rgb and len(frame.format.components) >= 3


def _peak(frame: Any) -> float:
    """cd/m² of the brightest pixel, from the frame's metadata; 1000 if it doesn't say."""
    data = frame.side_data
    level = data.get("CONTENT_LIGHT_LEVEL") if data else None
    if level is not None and (most := struct.unpack_from("=I", bytes(level))[0]):
        return float(min(max(most, _WHITE), 10_000))
    master = data.get("MASTERING_DISPLAY_METADATA") if data else None
    if master is not None:  # 8 rationals of primaries and white, then the smallest and the largest light, two flags
        numerator, denominator, _, has_light = struct.unpack_from("=4i", bytes(master), 8 * 9)
        if has_light and numerator > 0 and denominator > 0:
            return float(min(max(numerator / denominator, _WHITE), 10_000))
    return _PEAK
