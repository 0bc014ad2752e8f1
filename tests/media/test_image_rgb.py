"""Images of every depth, with profiles and transparency: the pixels, and the notes on what differs."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from videollama2.errors import UnreadableMedia
from videollama2.media import open_clip

from .test_appearance import RED, corners

TRANSPARENT = "the image is partly transparent; transparency is ignored"


def p3_profile(name: str = "Display P3") -> bytes:
    """An ICC profile of three primaries and a gamma of 2.2 (ICC.1:2010)."""

    def xyz(x: float, y: float, z: float) -> bytes:
        return struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in (x, y, z)))

    text = name.encode("ascii") + b"\0"
    white, gamma = xyz(0.9642, 1.0, 0.8249), struct.pack(">4s4xIHxx", b"curv", 1, round(2.2 * 256))
    tags = {
        b"desc": struct.pack(">4s4xI", b"desc", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": white,
        b"rXYZ": xyz(0.5151, 0.2412, -0.0011),  # Display P3's, adapted to D50
        b"gXYZ": xyz(0.2920, 0.6922, 0.0419),
        b"bXYZ": xyz(0.1571, 0.0666, 0.7841),
        b"rTRC": gamma,
        b"gTRC": gamma,
        b"bTRC": gamma,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data
    head = bytearray(128)
    struct.pack_into(
        ">I4sI4s4s4s", head, 0, 128 + len(table) + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ "
    )
    head[36:40], head[68:80] = b"acsp", struct.pack(">3i", 63190, 65536, 54061)
    return bytes(head) + table + body


def write_tiff(path: Path, levels: np.ndarray, *, photometric: int, sample_format: int = 1, planes: int = 1) -> Path:
    """An uncompressed TIFF, also of kinds that Pillow can't write."""
    height, width = levels.shape[:2]
    colours = levels.shape[2] if levels.ndim == 3 else 1
    data = (levels if planes == 1 else levels.transpose(2, 0, 1)).tobytes()
    strips = 1 if planes == 1 else colours
    size = len(data) // strips
    lists = 8 + 2 + 12 * 10 + 4  # where values that don't fit begin: bits, formats, offsets and sizes of strips
    start = lists + 4 * colours + 8 * strips
    bits, formats, offsets, sizes = lists, lists + 2 * colours, lists + 4 * colours, lists + 4 * colours + 4 * strips
    depth = levels.dtype.itemsize * 8

    def entry(tag: int, kind: int, count: int, value: int, place: int) -> bytes:
        return struct.pack("<HHII", tag, kind, count, value if count * (2 if kind == 3 else 4) <= 4 else place)

    entries = [
        entry(256, 4, 1, width, 0), entry(257, 4, 1, height, 0), entry(258, 3, colours, depth, bits),
        entry(259, 3, 1, 1, 0), entry(262, 3, 1, photometric, 0), entry(273, 4, strips, start, offsets),
        entry(277, 3, 1, colours, 0), entry(279, 4, strips, size, sizes), entry(284, 3, 1, planes, 0),
        entry(339, 3, colours, sample_format, formats),
    ]  # fmt: skip
    extra = struct.pack(f"<{colours}H", *[depth] * colours) + struct.pack(f"<{colours}H", *[sample_format] * colours)
    extra += struct.pack(f"<{strips}I", *(start + k * size for k in range(strips)))
    extra += struct.pack(f"<{strips}I", *[size] * strips)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, 10) + b"".join(entries) + bytes(4) + extra + data)
    return path


def p3_to_srgb(rgb: tuple[int, int, int]) -> np.ndarray:
    """f64[3]: a colour of that profile as sRGB, 0 to 255."""
    matrix = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    light = np.clip(matrix @ (np.array(rgb) / 255) ** 2.2, 0, 1)
    return np.asarray(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


RAMP = np.linspace(0, 1, 64).reshape(8, 8)


@pytest.mark.parametrize(
    ("kind", "top", "photometric", "sample_format"),
    [
        ("<u1", 255, 1, 1),
        ("<u2", 65535, 1, 1),
        ("<i2", 32767, 1, 2),
        ("<u4", 2**32 - 1, 1, 1),
        ("<i4", 2**31 - 1, 1, 2),
        ("<f4", 1.0, 1, 3),
        ("<f4", 65535.0, 1, 3),
        ("<u1", 255, 0, 1),
        ("<u2", 65535, 0, 1),
    ],
)
def test_grey_tiffs(tmp_path: Path, kind: str, top: float, photometric: int, sample_format: int) -> None:
    """photometric 0: the lowest number is white."""
    levels = (RAMP * top).astype(kind)
    path = write_tiff(tmp_path / "a.tif", levels, photometric=photometric, sample_format=sample_format)
    expected = 255 * (RAMP if photometric else 1 - RAMP)
    frame = open_clip(path, protocol="full").frames[0].astype(int)
    assert np.abs(frame - expected[:, :, None]).max() <= 1.01


@pytest.mark.parametrize(("kind", "top"), [("<u1", 255), ("<u2", 65535)])
def test_tiffs_of_separate_planes(tmp_path: Path, kind: str, top: int) -> None:
    levels = (np.stack([RAMP, RAMP / 2, 1 - RAMP], axis=2) * top).astype(kind)
    frame = open_clip(write_tiff(tmp_path / "a.tif", levels, photometric=2), protocol="full").frames[0]
    assert np.abs(frame - levels / (top / 255)).max() <= 1
    path = write_tiff(tmp_path / "b.tif", levels, photometric=2, planes=2)
    if kind == "<u1":
        assert np.abs(open_clip(path, protocol="full").frames[0] - levels / (top / 255)).max() <= 1
    else:
        with pytest.raises(UnreadableMedia, match="a plane of 16 bits per colour, which is not supported"):
            open_clip(path)


def test_lab_is_not_transparent(tmp_path: Path) -> None:
    grey = np.full((8, 8, 3), (128, 0, 0), np.uint8)
    clip = open_clip(write_tiff(tmp_path / "a.tif", grey, photometric=8), protocol="full")
    assert np.abs(clip.frames[0].astype(int) - 119).max() <= 1 and not clip.notes


def test_transparency_is_noted_in_every_mode(tmp_path: Path) -> None:
    palette = Image.fromarray(corners()).quantize(4)
    grey = Image.fromarray(corners()[:, :, 0])
    for picture, clear in ((palette, 0), (Image.fromarray(corners()), RED), (grey, 255)):
        picture.save(tmp_path / "a.png", transparency=clear)
        assert open_clip(tmp_path / "a.png", protocol="full").notes == (TRANSPARENT,)
        picture.save(tmp_path / "b.png")
        assert open_clip(tmp_path / "b.png", protocol="full").notes == ()
    clear = np.zeros((8, 8, 4), np.uint8)
    assert open_clip(clear, protocol="full").notes == (TRANSPARENT,)
    opaque = clear + np.uint8(255)
    assert open_clip(opaque, protocol="full").notes == ()
    assert f"1 of 2 images: {TRANSPARENT}" in open_clip([clear, opaque], num_frames=2, protocol="full").notes


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("gif", {"disposal": 2}), ("webp", {"lossless": True, "kmin": 1, "kmax": 1}), ("png", {})],
)
def test_transparency_of_animations(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    def frames(alpha: int) -> list[Image.Image]:
        made = []
        for i in range(4):
            levels = np.zeros((16, 16, 4), np.uint8)
            levels[:, : 4 + 3 * i] = (200, 40 * i, 0, 255)
            levels[:, 4 + 3 * i :, 3] = alpha
            made.append(Image.fromarray(levels))
        return made

    for alpha, notes in ((0, 1), (255, 0)):
        first, *rest = frames(alpha)
        first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=rest, duration=100, **options)
        clip = open_clip(tmp_path / f"a.{suffix}", protocol="full", num_frames=4)
        assert clip.frames_total == 4 and sum(TRANSPARENT in note for note in clip.notes) == notes


def test_colour_profiles(tmp_path: Path) -> None:
    picture = Image.new("RGB", (16, 16), (200, 90, 40))
    expected = p3_to_srgb((200, 90, 40))
    for suffix, options in (("png", {}), ("jpg", {"quality": 100}), ("webp", {"lossless": True}), ("tif", {})):
        path = tmp_path / f"a.{suffix}"
        picture.save(path, icc_profile=p3_profile(), **options)
        clip = open_clip(path, protocol="full")
        assert np.abs(clip.frames[0][8, 8] - expected).max() <= 3
        assert clip.notes == ("its colours (Display P3) are converted to sRGB",)
        released = open_clip(path, protocol="released", num_frames=1)
        assert np.abs(released.frames[0][8, 8].astype(int) - (200, 90, 40)).max() <= 2
        assert "its colour profile (Display P3) is not applied" in released.notes
    picture.save(tmp_path / "b.png", icc_profile=p3_profile("sRGB IEC61966-2.1"))
    assert open_clip(tmp_path / "b.png", protocol="full").notes == ()
    picture.save(tmp_path / "c.png", icc_profile=b"no profile" * 20)
    clip = open_clip(tmp_path / "c.png", protocol="full")
    assert clip.notes == ("its colour profile can't be used and is ignored",) and tuple(clip.frames[0][0, 0]) == (
        200,
        90,
        40,
    )


def test_cmyk(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    picture.save(tmp_path / "a.jpg", quality=95)
    clip = open_clip(tmp_path / "a.jpg", protocol="full")
    red, green, blue = clip.frames[0][8, 8]
    assert red > 200 and green < 60 and blue < 60
    assert clip.notes == ("the image is CMYK without a colour profile: its colours are approximate",)
    picture.save(tmp_path / "b.jpg", quality=95, icc_profile=p3_profile())
    clip = open_clip(tmp_path / "b.jpg", protocol="full")
    assert clip.notes == ("its colour profile can't be used and is ignored",) and clip.frames[0][8, 8, 0] > 200
