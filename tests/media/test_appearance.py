"""Pictures as a player shows them: turned, mirrored, square pixels, tiles; and what the notes say of the rest."""

import itertools
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from videollama2.errors import UnreadableMedia
from videollama2.media import open_clip

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ONE = 1 << 16


def corners(width: int = 128, height: int = 96) -> np.ndarray:
    """u8[H, W, 3]: red, green, blue and white quarters."""
    picture = np.zeros((height, width, 3), np.uint8)
    y, x = height // 2, width // 2
    picture[:y, :x], picture[:y, x:], picture[y:, :x], picture[y:, x:] = RED, GREEN, BLUE, WHITE
    return picture


def seen(frame: np.ndarray) -> list[str]:
    """The colours of the quarters: upper left, upper right, lower left, lower right."""
    names = {RED: "red", GREEN: "green", BLUE: "blue", WHITE: "white"}
    places = [frame[y, x] for y, x in itertools.product((8, -8), (8, -8))]
    return [names[tuple(int(255 * (v > 127)) for v in place)] for place in places]


def write_video(path: Path, picture: np.ndarray, codec: str = "libx264", fmt: str = "yuv420p", **settings: Any) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=settings.pop("rate", 10), options=settings.pop("options", {}))
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], fmt
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=fmt)
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), "red green blue white"),
        ((-1, 0, 0, 1), "green red white blue"),
        ((1, 0, 0, -1), "blue white red green"),
        ((-1, 0, 0, -1), "white blue green red"),
        ((0, 1, -1, 0), "blue red white green"),
        ((0, -1, 1, 0), "green white red blue"),
        ((0, 1, 1, 0), "red blue green white"),
        ((0, -1, -1, 0), "white green blue red"),
    ],
)
def test_the_whole_display_matrix(tmp_path: Path, matrix: tuple[int, ...], expected: str) -> None:
    path = write_video(tmp_path / "a.mp4", corners())
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (ONE * n for n in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    for protocol in ("full", "released"):
        frame = open_clip(path, protocol=protocol, num_frames=1).frames[0]
        assert " ".join(seen(frame)) == expected
        assert frame.shape[:2] == ((128, 96) if matrix[0] == 0 else (96, 128))


@pytest.mark.parametrize(("ratio", "size"), [((2, 1), (96, 256)), ((1, 2), (192, 128))])
def test_pixels_that_are_not_square(tmp_path: Path, ratio: tuple[int, int], size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", corners(), sample_aspect_ratio=Fraction(*ratio))
    clip = open_clip(path, protocol="full")
    assert clip.frames[0].shape[:2] == size and seen(clip.frames[0]) == ["red", "green", "blue", "white"]
    assert clip.notes[0] == (
        f"its pixels are not square ({ratio[0]}:{ratio[1]}): frames are stretched to {size[1]}x{size[0]} from 128x96"
    )
    released = open_clip(path, protocol="released")
    assert released.frames[0].shape[:2] == (96, 128), "the published arithmetic takes pixels as they are stored"


def test_pixels_that_change_their_shape(tmp_path: Path) -> None:
    """Television: a 4:3 programme, then one in 16:9, of the same size as stored."""
    parts = [
        write_video(tmp_path / f"{i}.ts", corners(), "mpeg2video", sample_aspect_ratio=Fraction(*ratio), rate=25)
        for i, ratio in enumerate(((1, 1), (4, 3)))
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = open_clip(tmp_path / "a.ts", protocol="full", num_frames=8)
    assert [clip.frames[i].shape[1] for i in (0, 1, -2, -1)] == [128, 128, 171, 171]
    assert "the shape of its pixels changes (1:1, 4:3): each frame is stretched by its own" in clip.notes


@pytest.mark.parametrize(
    ("codec", "fmt", "settings", "note"),
    [
        ("ffv1", "yuva420p", {}, "the video has transparency, which is ignored"),
        ("libx264", "yuv420p", {"options": {"x264-params": "interlaced=1"}}, "the video is interlaced"),
    ],
)
def test_what_is_not_shown_as_a_player_does(
    tmp_path: Path, codec: str, fmt: str, settings: dict[str, Any], note: str
) -> None:
    clip = open_clip(write_video(tmp_path / "a.mkv", corners(), codec, fmt, **settings), protocol="full", num_frames=4)
    assert len(clip.notes) == 1 and clip.notes[0].startswith(note)


# ── stills ─────────────────────────────────────────────────────────────────────────────────────────────────────


def box(kind: str, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind.encode()) + b"".join(parts)


def coded(picture: np.ndarray) -> tuple[bytes, bytes]:
    """A picture as HEVC: its hvcC and its data, with lengths before the units."""
    codec = av.CodecContext.create("libx265", "w")
    codec.options = {"x265-params": "log-level=none:qp=4:frame-threads=1:pools=none"}
    codec.height, codec.width, codec.pix_fmt, codec.time_base = *picture.shape[:2], "yuv444p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv444p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    stream = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1")[1:]]
    sets = [unit for unit in units if unit[0] >> 1 in (32, 33, 34)]
    arrays = [struct.pack(">BHH", unit[0] >> 1, 1, len(unit)) + unit for unit in sets]
    slices = [struct.pack(">I", len(unit)) + unit for unit in units if unit[0] >> 1 < 32]
    return b"\1" + bytes(20) + bytes([3, len(arrays)]) + b"".join(arrays), b"".join(slices)


def write_heic(
    path: Path, picture: np.ndarray, *, tile: int = 0, turned: bytes = b"", kind: str = "grid", lacks: int = 0
) -> Path:
    """A HEIC file of one picture, or of a grid of tiles; `turned`: properties such as irot."""
    height, width = picture.shape[:2]
    step = tile or max(width, height)
    places = [(y, x) for y in range(0, height, step) for x in range(0, width, step)]
    pieces = []
    for y, x in places:
        piece = np.zeros((step, step, 3), np.uint8) if tile else picture
        if tile:
            cut = picture[y : y + step, x : x + step]
            piece[: cut.shape[0], : cut.shape[1]] = cut
        pieces.append(coded(piece))
    numbers = list(range(1, len(pieces) + 1))
    primary = len(pieces) + 1 if tile else 1
    infe = [box("infe", b"\2\0\0\0", struct.pack(">HH4s", n, 0, b"hvc1"), b"\0") for n in numbers]
    idat, iref = b"", b""
    if tile:
        infe.append(box("infe", b"\2\0\0\0", struct.pack(">HH4s", primary, 0, kind.encode()), b"\0"))
        idat = struct.pack(">BBBBHH", 0, 0, -(-height // step) - 1, -(-width // step) - 1, width, height)
        kept = numbers[: len(numbers) - lacks]
        dimg = box("dimg", struct.pack(f">HH{len(kept)}H", primary, len(kept), *kept))
        iref = box("iref", b"\0\0\0\0", dimg)
    shape = box("ispe", b"\0\0\0\0", struct.pack(">II", *((step, step) if tile else (width, height))))
    ipco = box("ipco", box("hvcC", pieces[0][0]), shape, turned)
    use = [struct.pack(">HB2B", n, 2, 1, 2) for n in numbers if n != primary or not turned]
    if turned:
        use.append(struct.pack(">HBB", primary, 1, 3) if tile else struct.pack(">HB3B", primary, 3, 1, 2, 3))
    ipma = box("ipma", b"\0\0\0\0", struct.pack(">I", len(use)), *use)
    ftyp = box("ftyp", b"heic\0\0\0\0mif1heic")

    def meta(start: int) -> bytes:
        rows, at = [], start
        for n, (_, data) in zip(numbers, pieces, strict=True):
            rows.append(struct.pack(">HHHHII", n, 0, 0, 1, at, len(data)))
            at += len(data)
        if tile:
            rows.append(struct.pack(">HHHHII", primary, 1, 0, 1, 0, len(idat)))
        iloc = box("iloc", b"\1\0\0\0", struct.pack(">HH", 0x4400, len(rows)), *rows)
        items = box("iinf", b"\0\0\0\0", struct.pack(">H", len(infe)), *infe)
        pitm = box("pitm", b"\0\0\0\0", struct.pack(">H", primary))
        return box("meta", b"\0\0\0\0", pitm, items, iref, box("iprp", ipco, ipma), box("idat", idat), iloc)

    head = ftyp + meta(0)
    path.write_bytes(ftyp + meta(len(head) + 8) + box("mdat", *(data for _, data in pieces)))
    return path


ORDER = ["red", "green", "blue", "white"]


def test_heic_of_one_picture_and_of_tiles(tmp_path: Path) -> None:
    for tile in (0, 64):
        clip = open_clip(write_heic(tmp_path / "a.heic", corners(160, 96), tile=tile), protocol="full")
        assert clip.kind == "image" and clip.frames[0].shape == (96, 160, 3) and clip.notes == ()
        assert seen(clip.frames[0]) == ORDER
    assert seen(open_clip([tmp_path / "a.heic"], protocol="full").frames[0]) == ORDER


@pytest.mark.parametrize(
    ("turned", "expected"),
    [
        (box("irot", b"\1"), "green white red blue"),
        (box("irot", b"\2"), "white blue green red"),
        (box("imir", b"\1"), "green red white blue"),
        (box("imir", b"\0"), "blue white red green"),
    ],
)
@pytest.mark.parametrize("tile", [0, 64])
def test_heic_is_turned_as_stored(tmp_path: Path, turned: bytes, expected: str, tile: int) -> None:
    frame = open_clip(write_heic(tmp_path / "a.heic", corners(), tile=tile, turned=turned), protocol="full").frames[0]
    assert " ".join(seen(frame)) == expected


def test_heic_that_can_not_be_composed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match="a HEIF item of type 'iovl'"):
        open_clip(write_heic(tmp_path / "a.heic", corners(), tile=64, kind="iovl"))
    with pytest.raises(UnreadableMedia, match="a grid of 2x2 tiles, but lists 3"):
        open_clip(write_heic(tmp_path / "b.heic", corners(), tile=64, lacks=1))
    whole = write_heic(tmp_path / "c.heic", corners(), tile=64).read_bytes()
    for length in (40, 200, len(whole) - 60):
        (tmp_path / "d.heic").write_bytes(whole[:length])
        with pytest.raises(UnreadableMedia):
            open_clip(tmp_path / "d.heic")


def test_transparency_is_told_in_every_mode(tmp_path: Path) -> None:
    palette = Image.fromarray(corners()).quantize(4)
    grey = Image.fromarray(corners()[:, :, 0])
    for picture, clear in ((palette, 0), (Image.fromarray(corners()), RED), (grey, 255)):
        picture.save(tmp_path / "a.png", transparency=clear)
        notes = open_clip(tmp_path / "a.png", protocol="full").notes
        assert notes == ("the image is partly transparent; transparency is ignored",)
        picture.save(tmp_path / "b.png")
        assert open_clip(tmp_path / "b.png", protocol="full").notes == ()


@pytest.mark.parametrize(("dtype", "top"), [(np.float32, 1.0), (np.float32, 255.0), (np.float32, 65535.0)])
def test_float_tiff(tmp_path: Path, dtype: Any, top: float) -> None:
    levels = np.array([[0.0, 0.25], [0.5, 1.0]], dtype) * top
    Image.fromarray(levels).save(tmp_path / "a.tif")
    frame = open_clip(tmp_path / "a.tif", protocol="full").frames[0]
    assert np.abs(frame[:, :, 0].astype(int) - [[0, 64], [128, 255]]).max() <= 1


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = open_clip(tmp_path / "a.jpg", protocol="full").frames[0][8, 8]
    assert red > 200 and green < 60 and blue < 60
