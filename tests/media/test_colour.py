"""Colours as a player shows them, against formulas written here once more from the standards."""

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from videollama2.media import colour, open_clip
from videollama2.media.colour import Colours

LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # red, blue
BT2020_TO_709 = np.array(  # ITU-R BT.2087, annex 2
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
P3_TO_709 = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])


def coded_yuv(rgb: tuple[float, float, float], matrix: int, bits: int, *, full: bool) -> tuple[int, int, int]:
    """Y, Cb and Cr of R'G'B' from 0 to 1 (ITU-T H.273, equations 34 to 40)."""
    red, blue = LUMA[matrix]
    y = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    cb, cr = (rgb[2] - y) / (2 - 2 * blue), (rgb[0] - y) / (2 - 2 * red)
    if full:
        top = 2**bits - 1
        return round(y * top), round(cb * top + 2 ** (bits - 1)), round(cr * top + 2 ** (bits - 1))
    unit = 2 ** (bits - 8)
    return round(unit * (16 + 219 * y)), round(unit * (128 + 224 * cb)), round(unit * (128 + 224 * cr))


def write_flat(
    path: Path, yuv: tuple[int, int, int], fmt: str, size: tuple[int, int] = (64, 48), frames: int = 4, **tags: Any
) -> Path:
    """A lossless video of one colour, with these tags."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for i in range(frames):
            frame = av.VideoFrame(*size, fmt)
            for plane, level in zip(frame.planes, yuv, strict=True):
                kind = np.uint16 if "10" in fmt else np.uint8
                plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, level, kind).tobytes())
            for name, value in tags.items():
                setattr(frame, name, value)
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def shown(path: Path, protocol: str = "full") -> tuple[np.ndarray, tuple[str, ...]]:
    clip = open_clip(path, protocol=protocol, num_frames=1, want_audio=False)
    return clip.frames[0][20, 30].astype(int), clip.notes


@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("fmt", "bits"), [("yuv420p", 8), ("yuv422p10le", 10)])
def test_matrices_and_ranges(tmp_path: Path, matrix: int, full: bool, fmt: str, bits: int) -> None:
    for rgb in ((0.8, 0.3, 0.1), (0.1, 0.6, 0.9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
        yuv = coded_yuv(rgb, matrix, bits, full=full)
        path = write_flat(tmp_path / "a.mkv", yuv, fmt, colorspace=matrix, color_range=2 if full else 1)
        for protocol in ("full", "released"):
            pixel, notes = shown(path, protocol)
            assert np.abs(pixel - 255 * np.array(rgb)).max() <= 2.5 and not notes


@pytest.mark.parametrize(
    ("size", "matrix"), [((64, 48), 5), ((720, 576), 5), ((1280, 720), 1), ((64, 720), 1), ((1920, 800), 1)]
)
def test_untagged(tmp_path: Path, size: tuple[int, int], matrix: int) -> None:
    rgb = (0.8, 0.3, 0.1)
    path = write_flat(tmp_path / "a.mkv", coded_yuv(rgb, matrix, 8, full=False), "yuv420p", size, frames=1)
    pixel, notes = shown(path)
    assert np.abs(pixel - 255 * np.array(rgb)).max() <= 2.5
    assert notes == (("the video doesn't state its colour matrix: BT.709 is assumed",) if matrix == 1 else ())
    released, notes = shown(path, "released")
    assert not notes and (np.abs(released - pixel).max() > 5) == (matrix == 1), "FFmpeg takes BT.601"


@pytest.mark.parametrize("matrix", [3, 8, 14])
def test_a_matrix_that_ffmpeg_refuses(tmp_path: Path, matrix: int) -> None:
    path = write_flat(tmp_path / "a.mkv", coded_yuv((0.8, 0.3, 0.1), 5, 8, full=False), "yuv420p")
    tagged = write_flat(tmp_path / "b.mkv", coded_yuv((0.8, 0.3, 0.1), 5, 8, full=False), "yuv420p", colorspace=matrix)
    for protocol in ("full", "released"):
        pixel, notes = shown(tagged, protocol)
        assert (pixel == shown(path, protocol)[0]).all()
        assert bool(notes) == (matrix != 3) and all("is not supported: BT.601 is used" in note for note in notes)


def test_levels_of_the_standards() -> None:
    """PQ: BT.2100 and ST 2084; HLG: 75 % is 203 cd/m² on a display of 1000 (BT.2408)."""
    assert colour.pq_to_light(np.array([0.0, 0.508078, 0.751827, 1.0])) == pytest.approx(
        [0, 100, 1000, 10_000], rel=1e-4
    )
    assert colour.light_to_pq(np.array([100.0, 203.0])) == pytest.approx([0.508078, 0.580689], abs=1e-5)
    assert colour.hlg_to_scene(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, 1 / 12, 1], abs=1e-6)
    assert 1000 * float(colour.hlg_to_scene(np.array(0.75))) ** 1.2 == pytest.approx(203, abs=0.5)


def pq(light: float) -> float:
    power = (light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def pq_inverse(coded: float) -> float:
    root = coded ** (1 / 78.84375)
    return 10_000 * (max(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def bt2390(light: float, peak: float = 1000.0, white: float = 203.0) -> float:
    """ITU-R BT.2390 §5.4.1, without black lift."""
    e1, most = pq(light) / pq(peak), pq(white) / pq(peak)
    knee = 1.5 * most - 0.5
    if e1 >= knee:
        t = (e1 - knee) / (1 - knee)
        e1 = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_inverse(e1 * pq(peak))


def test_the_tone_curve() -> None:
    light = np.linspace(0, 1000, 2001)
    mapped = colour.tone_mapped(light, 1000.0)
    assert (np.diff(mapped) > 0).all() and mapped[-1] == pytest.approx(203, abs=0.01)
    assert mapped[:150] == pytest.approx(light[:150]), "up to the knee, at 89 cd/m², nothing changes"
    assert float(colour.tone_mapped(np.array(203.0), 1000.0)) == pytest.approx(bt2390(203.0), abs=0.01)
    assert float(colour.tone_mapped(np.array(150.0), 203.0)) == 150.0


def srgb(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    "light", [(20.0, 20.0, 20.0), (80.0, 40.0, 10.0), (203.0, 203.0, 203.0), (1000.0, 1000.0, 1000.0), (5.0, 60.0, 5.0)]
)
def test_pq(tmp_path: Path, light: tuple[float, float, float]) -> None:
    path = write_flat(
        tmp_path / "a.mkv",
        coded_yuv(tuple(pq(v) for v in light), 9, 10, full=False),  # type: ignore[arg-type]
        "yuv420p10le", color_trc=16, color_primaries=9, colorspace=9, color_range=1,
    )  # fmt: skip
    pixel, notes = shown(path)
    factor = bt2390(max(light)) / max(light)
    assert np.abs(pixel - srgb(BT2020_TO_709 @ (np.array(light) * factor / 203))).max() <= 4
    assert notes == ("the video is PQ (HDR10): tone-mapped from 1000 cd/m² to SDR",)
    stored, notes = shown(path, "released")
    assert np.abs(stored - 255 * np.array([pq(v) for v in light])).max() <= 3.5
    assert notes == ("the video is PQ (HDR10): its colours are not tone-mapped and look washed out",)


def test_hlg(tmp_path: Path) -> None:
    for level, expected in ((0.75, bt2390(203) / 203), (0.5, 1000 * (1 / 12) ** 1.2 / 203), (1.0, 1.0)):
        yuv = coded_yuv((level, level, level), 9, 10, full=False)
        path = write_flat(tmp_path / "a.mkv", yuv, "yuv420p10le", color_trc=18, color_primaries=9, colorspace=9)
        pixel, notes = shown(path)
        assert np.abs(pixel - srgb(np.array([expected] * 3))).max() <= 2
        assert notes == ("the video is HLG: tone-mapped to SDR",)


@pytest.mark.parametrize(("primaries", "name"), [(9, "BT.2020"), (12, "P3"), (11, "P3")])
@pytest.mark.parametrize(("fmt", "bits"), [("yuv444p", 8), ("yuv444p10le", 10)])
def test_wide_gamut(tmp_path: Path, primaries: int, name: str, fmt: str, bits: int) -> None:
    rgb = (0.7, 0.5, 0.4)
    path = write_flat(
        tmp_path / "a.mkv", coded_yuv(rgb, 1, bits, full=False), fmt, color_primaries=primaries, colorspace=1
    )
    pixel, notes = shown(path)
    light = ((np.array(rgb) + 0.055) / 1.055) ** 2.4
    assert np.abs(pixel - srgb((BT2020_TO_709 if primaries == 9 else P3_TO_709) @ light)).max() <= 3
    assert notes == (f"the video's colours are {name}: converted to sRGB",)
    stored, notes = shown(path, "released")
    assert np.abs(stored - 255 * np.array(rgb)).max() <= 2.5 and "which looks washed out" in notes[0]


def test_the_peak_of_the_master() -> None:
    class Frame:
        color_trc, color_primaries, colorspace = 16, 9, 9

        def __init__(self, **data: bytes) -> None:
            self.side_data = data

    def peak(**data: bytes) -> float:
        found: Colours = colour.colours_of(Frame(**data), None)
        return found.peak

    master = struct.pack("=20i2i", *[0, 1] * 9, 4000 * 10_000, 10_000, 1, 1)
    assert peak() == 1000 and peak(MASTERING_DISPLAY_METADATA=master) == 4000
    assert peak(MASTERING_DISPLAY_METADATA=master, CONTENT_LIGHT_LEVEL=struct.pack("=2I", 600, 100)) == 600
    assert peak(CONTENT_LIGHT_LEVEL=struct.pack("=2I", 0, 0)) == 1000
    assert peak(CONTENT_LIGHT_LEVEL=struct.pack("=2I", 65535, 0)) == 10_000
    assert peak(MASTERING_DISPLAY_METADATA=struct.pack("=20i2i", *[0, 0] * 10, 1, 1)) == 1000
