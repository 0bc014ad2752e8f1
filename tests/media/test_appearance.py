"""Pictures as a player shows them: turned, mirrored, square pixels; and what the notes say of the rest."""

import itertools
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

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
