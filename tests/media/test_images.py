"""Stills, animations, folders and lists."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videollama2.errors import EmptyMedia, MediaNotFound, MediaTooLarge, TimeRangeError, UnreadableMedia, UsageError
from videollama2.media import Limits, open_clip
from videollama2.media.sampling import uniform

from .make import flat, grey


def ramp(mode: str) -> Image.Image:
    """A 20 x 10 image in a mode: left half dark, right half light."""
    rgb = np.zeros((10, 20, 3), np.uint8)
    rgb[:, 10:] = 200
    if mode == "I;16":
        return Image.fromarray((rgb[:, :, 0].astype(np.uint16)) * 257)
    return Image.fromarray(rgb).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [(m, s) for m in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16") for s in ("png", "tiff")] + [("CMYK", "jpg")],
)
def test_every_mode_becomes_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    ramp(mode).save(path)
    clip = open_clip(path)
    assert clip.kind == "image" and clip.frames_total == 1 and clip.frame_indices == (0,)
    frame = clip.frames[0]
    assert frame.shape == (10, 20, 3) and frame.dtype == np.uint8
    assert frame[5, 2].max() < 20
    light = 255 if mode == "1" else 200
    assert np.abs(frame[5, 17].astype(int) - light).max() < 12


def test_exif_orientation(tmp_path: Path) -> None:
    picture, exif = ramp("RGB"), Image.Exif()
    exif[274] = 6  # shown turned by 90 degrees clockwise
    picture.save(tmp_path / "x.jpg", exif=exif)
    frame = open_clip(tmp_path / "x.jpg").frames[0]
    assert frame.shape == (20, 10, 3) and frame[2].max() < 20 and frame[17].min() > 180


def test_transparency_is_noted(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "x.png")
    clip = open_clip(tmp_path / "x.png")
    assert tuple(clip.frames[0][0, 0]) == (10, 20, 30) and "transparen" in clip.notes[0]


def animate(path: Path, pictures: int, delays: list[int] | int = 100) -> Path:
    frames = [Image.fromarray(flat(i)) for i in range(pictures)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=delays, loop=0, lossless=True)
    return path


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations(suffix: str, tmp_path: Path) -> None:
    path = animate(tmp_path / f"x.{suffix}", 10, [100] * 5 + [200] * 5)
    clip = open_clip(path, num_frames=5, protocol="full")
    assert clip.kind == "video" and clip.frames_total == 10
    assert clip.frame_indices == (1, 3, 5, 6, 8)
    assert all(abs(f.mean() - grey(i)) < 3 for f, i in zip(clip.frames, clip.frame_indices, strict=True))
    np.testing.assert_allclose(clip.times, [0.1, 0.3, 0.5, 0.7, 1.1], atol=1e-6)
    assert clip.fps == pytest.approx(10 / 1.5)


def test_animation_as_released_has_each_frame_once(tmp_path: Path) -> None:
    clip = open_clip(animate(tmp_path / "x.gif", 3), num_frames=8)
    assert clip.frame_indices == (0, 1, 2) and len(clip.frames) == 8
    assert [f.shape for f in clip.frames[2:5]] == [(48, 64, 3), (64, 48, 3), (48, 64, 3)]


def test_animation_of_one_frame_is_an_image(tmp_path: Path) -> None:
    assert open_clip(animate(tmp_path / "x.gif", 1)).kind == "image"


def test_animation_with_too_many_frames(tmp_path: Path) -> None:
    path = animate(tmp_path / "x.gif", 12)
    with pytest.raises(MediaTooLarge, match="more than 10"):
        open_clip(path, limits=Limits(max_animation_frames=10))


def test_truncated_animation(tmp_path: Path) -> None:
    path = animate(tmp_path / "x.gif", 10)
    path.write_bytes(path.read_bytes()[:-300])
    clip = open_clip(path, num_frames=2, protocol="full")
    assert 0 < clip.frames_total < 10 and not clip.losses  # a GIF states no count: what is missing is unknown
    assert clip.frame_indices == tuple(uniform(clip.frames_total, 2))
    assert all(abs(f.mean() - grey(i)) < 3 for f, i in zip(clip.frames, clip.frame_indices, strict=True))


def test_folder(tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(flat(i)).save(tmp_path / f"{i:03d}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "deeper").mkdir()
    clip = open_clip(tmp_path, num_frames=4)
    assert clip.frame_indices == (1, 4, 7, 10) and clip.frames_total == 12
    np.testing.assert_allclose(clip.times, np.array([1, 4, 7, 10]) / 3)
    assert "3 non-image entries" in clip.notes[0] and not clip.losses
    assert all(abs(f.mean() - grey(i)) < 1 for f, i in zip(clip.frames, clip.frame_indices, strict=True))


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(EmptyMedia, match=r"0001\.jpg"):
        open_clip(tmp_path)


def test_folder_with_a_broken_image(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_text("this is text")
    with pytest.raises(UnreadableMedia, match=r"0\.png"):
        open_clip(tmp_path)


def test_lists(tmp_path: Path) -> None:
    Image.fromarray(flat(2)).save(tmp_path / "2.png")
    items = [flat(0), Image.fromarray(flat(1)), tmp_path / "2.png", str(tmp_path / "2.png"), flat(4)[:, :, 0]]
    clip = open_clip(items, num_frames=5, times=[0, 0.5, 1, 1.5, 2])
    assert [int(f[0, 0, 0]) for f in clip.frames] == [grey(0), grey(1), grey(2), grey(2), grey(4)]
    np.testing.assert_allclose(clip.times, [0, 0.5, 1, 1.5, 2])
    part = open_clip(items, num_frames=2, times=[0, 0.5, 1, 1.5, 2], start=0.5, end=1.6, protocol="full")
    assert part.frame_indices == (2, 3)  # uniform over the candidates 1, 2, 3: halves round up
    np.testing.assert_allclose(part.times, [1.0, 1.5])
    assert [int(f[0, 0, 0]) for f in part.frames] == [grey(2), grey(2)]


def test_long_lists() -> None:
    frames = np.stack([flat(i, 8, 6) for i in range(40)])
    released = open_clip(frames, num_frames=8)
    assert released.frame_indices == tuple(range(32)) and released.losses
    full = open_clip(frames, num_frames=8, protocol="full")
    assert len(full.frames) == 8 and full.frame_indices[-1] > 35 and not full.losses


def test_short_lists() -> None:
    frames = [flat(i) for i in range(3)]
    released = open_clip(frames, num_frames=4)
    assert len(released.frames) == 4 and released.frames[3].shape == (64, 48, 3) and not released.frames[3].any()
    assert len(released.times) == 3 and "1 black frame" in " ".join(released.notes)
    full = open_clip(frames, num_frames=4, protocol="full")
    assert full.frame_indices == (0, 1, 1, 2)
    assert [int(f[0, 0, 0]) for f in full.frames] == [grey(0), grey(1), grey(1), grey(2)]
    assert "some repeat" in " ".join(full.notes) and not full.losses


@pytest.mark.parametrize(
    "bad",
    [
        [np.zeros((4, 4, 3), np.float32)],
        [np.zeros((4, 4, 2), np.uint8)],
        [np.zeros((4,), np.uint8)],
        [12],
        12,
        np.zeros((2, 3, 4, 4, 3), np.uint8),
    ],
    ids=["float", "two channels", "one axis", "a number", "no medium", "five axes"],
)
def test_invalid_images(bad: object) -> None:
    with pytest.raises(UsageError):
        open_clip(bad)  # type: ignore[arg-type]


def test_empty_lists_and_images() -> None:
    with pytest.raises(EmptyMedia):
        open_clip([])
    with pytest.raises(EmptyMedia):
        open_clip([np.zeros((0, 4, 3), np.uint8)])


def test_invalid_times() -> None:
    frames = [flat(0), flat(1)]
    for times in ([0], [1, 0], [0, float("nan")]):
        with pytest.raises(TimeRangeError):
            open_clip(frames, times=times)
    with pytest.raises(UsageError, match="times="):
        open_clip(frames, start=1)


def test_missing_image_in_a_list(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound):
        open_clip([tmp_path / "none.png"])


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 10_500, 40_000])
def test_decompression_bombs(side: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(MediaTooLarge):
        open_clip(path)


def test_truncated_image(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UnreadableMedia, match=r"x\.jpg is corrupt or truncated"):
        open_clip(path)


def test_a_range_of_an_image(tmp_path: Path) -> None:
    Image.fromarray(flat(0)).save(tmp_path / "x.png")
    with pytest.raises(UsageError, match="a single image"):
        open_clip(tmp_path / "x.png", start=1)


def test_an_apng_has_a_picture_for_viewers_without_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(flat(i)) for i in range(4)]
    frames[3].save(tmp_path / "x.png", save_all=True, append_images=frames[:3], duration=100, default_image=True)
    clip = open_clip(tmp_path / "x.png", num_frames=3, protocol="full")
    assert clip.frames_total == 3 and not clip.losses
    assert all(abs(f.mean() - grey(i)) < 1 for i, f in enumerate(clip.frames))
    np.testing.assert_allclose(clip.times, [0, 0.1, 0.2])


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    pages = [Image.fromarray(flat(i)) for i in range(4)]
    pages[0].save(tmp_path / "x.tiff", save_all=True, append_images=pages[1:])
    clip = open_clip(tmp_path / "x.tiff", num_frames=4, protocol="full")
    assert clip.frames_total == 4 and [round(float(f.mean())) for f in clip.frames] == [grey(i) for i in range(4)]
    np.testing.assert_allclose(clip.times, range(4))
    assert any("pages of a TIFF have no times" in note for note in clip.notes)


def test_a_thumbnail_in_a_tiff_is_not_a_page(tmp_path: Path) -> None:
    page, thumbnail = Image.fromarray(flat(5)), Image.fromarray(flat(9, 16, 12))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "x.tiff", save_all=True, append_images=[thumbnail])
    clip = open_clip(tmp_path / "x.tiff")
    assert clip.kind == "image" and clip.frames[0].shape == (48, 64, 3)
