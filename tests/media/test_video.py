"""Frames of video files: which ones, and their times."""

import struct
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from videollama2.errors import MediaError, MediaTooLarge, TimeRangeError, UnreadableMedia
from videollama2.media import Limits, open_clip
from videollama2.media.limits import DEFAULT_LIMITS
from videollama2.media.source import MediaSource
from videollama2.media.video import VideoReader
from videollama2.protocols import RELEASED

from .make import HEIGHT, WIDTH, flat, grey, noisy, tone, truth, write

CONTAINERS = {
    "mp4": "libx264",
    "mov": "libx264",
    "mkv": "libx264",
    "webm": "libvpx-vp9",
    "avi": "mpeg4",
    "ts": "libx264",
    "flv": "libx264",
}


def frames_of(path: Path, indices: list[int]) -> list[np.ndarray]:
    source = MediaSource.of(path, DEFAULT_LIMITS)
    with source.container() as container:
        decoded = VideoReader(container, source, DEFAULT_LIMITS).decode(indices)
    assert list(decoded.indices) == indices and not decoded.losses
    return list(decoded.frames)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_containers(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"clip.{suffix}", 20, codec=CONTAINERS[suffix])
    clip = open_clip(path, num_frames=4)
    assert clip.kind == "video" and clip.frames_total == 20
    assert clip.frame_indices == (2, 7, 12, 17)
    assert (clip.width, clip.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(clip.times, [0.2, 0.7, 1.2, 1.7], atol=0.011)
    assert clip.fps == pytest.approx(10, rel=0.02)
    for frame, index in zip(clip.frames, clip.frame_indices, strict=True):
        assert frame.shape == (HEIGHT, WIDTH, 3) and abs(frame.mean() - grey(index)) < 4
    assert clip.audio_state == "absent" and clip.wave is None


@pytest.mark.parametrize(
    "options",
    [
        {"g": "7", "bf": "3"},
        {"g": "250", "bf": "2", "x264-params": "b-pyramid=normal"},
        {"g": "9", "bf": "3", "x264-params": "open-gop=1:b-pyramid=strict"},
        {"g": "10", "x264-params": "intra-refresh=1"},
        {"bf": "0", "g": "5"},
    ],
    ids=["closed", "pyramid", "open", "intra-refresh", "no-b"],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_any_frame_is_the_frame_of_a_full_decode(suffix: str, options: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / f"clip.{suffix}", 40, draw=noisy, options=options)
    whole = truth(path)
    assert len(whole) == 40
    for wanted in ([0], [39], [3, 4], [1, 13, 25, 37], [38, 2, 2, 20], list(range(40))):
        for frame, index in zip(frames_of(path, wanted), wanted, strict=True):
            assert np.array_equal(frame, whole[index]), f"frame {index} of {wanted}"


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate(suffix: str, tmp_path: Path) -> None:
    stamps = [0, 40, 80, 1000, 1040, 1080, 3000, 3040, 5000, 5500]
    path = write(tmp_path / f"clip.{suffix}", 10, stamps=stamps)
    clip = open_clip(path, num_frames=10, protocol="full")
    np.testing.assert_allclose(clip.times, np.array(stamps) / 1000, atol=0.002)
    assert all(abs(f.mean() - grey(i)) < 4 for i, f in enumerate(clip.frames))
    late = open_clip(path, num_frames=2, protocol="full", start=2.5, end=5.2)
    assert late.frame_indices == (7, 8)  # uniform over the candidates 6, 7, 8: halves round up
    np.testing.assert_allclose(late.times, [3.04, 5.0], atol=0.002)
    assert all(abs(f.mean() - grey(i)) < 4 for f, i in zip(late.frames, late.frame_indices, strict=True))
    frozen = open_clip(path, num_frames=1, protocol="full", start=2.0, end=2.5)
    assert frozen.frame_indices == (5,)  # the frame on screen then


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation(rotation: int, tmp_path: Path) -> None:
    def corner(i: int, width: int, height: int) -> np.ndarray:
        picture = flat(0, width, height)
        picture[: height // 2, : width // 2] = 240  # top left
        return picture

    path = write(tmp_path / "clip.mp4", 4, draw=corner, rotation=rotation)
    clip = open_clip(path, num_frames=1)
    upright = np.rot90(truth(path)[0], rotation // 90)
    assert (clip.width, clip.height) == ((WIDTH, HEIGHT) if rotation == 180 else (HEIGHT, WIDTH))
    assert np.array_equal(clip.frames[0], upright)


@pytest.mark.parametrize("size", [(2, 2), (66, 50), (130, 2)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    clip = open_clip(write(tmp_path / "clip.mp4", 3, size=size), num_frames=2)
    assert (clip.width, clip.height) == size


def test_one_frame(tmp_path: Path) -> None:
    clip = open_clip(write(tmp_path / "clip.mp4", 1), num_frames=8)
    assert clip.frame_indices == (0,) * 8 and clip.frames_total == 1
    assert "some repeat" in clip.notes[0] and not clip.losses


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 5).rename(tmp_path / "clip.jpg")
    assert open_clip(path, num_frames=2).kind == "video"


def test_bytes(tmp_path: Path) -> None:
    data = write(tmp_path / "clip.mp4", 5, sound=tone(0.5)).read_bytes()
    clip = open_clip(data, num_frames=2)
    assert len(clip.frames) == 2 and clip.audio_state == "used"


def test_ranges(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 50)
    exact = open_clip(path, num_frames=4, protocol="full", start=2, end=3)
    assert exact.times.min() >= 2 and exact.times.max() < 3 and exact.range_seconds == (2, 3)
    assert open_clip(path, num_frames=4, start=2, end=3).frame_indices == (20, 23, 25, 28)  # of 19..29
    late = open_clip(path, num_frames=4, start=2, end=30)
    assert late.frame_indices[-1] > 40 and "the video ends at 5.00 s" in late.notes[0] and not late.losses
    with pytest.raises(TimeRangeError, match=r"5\.000"):
        open_clip(path, start=60)
    with pytest.raises(TimeRangeError):
        open_clip(path, protocol="full", start=60, end=70)


def test_frames_per_second(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 50)
    assert open_clip(path, num_frames=None).frame_indices == (5, 15, 25, 35, 45)


def test_more_frames_than_the_protocol_allows(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 50)
    released = open_clip(path, num_frames=40)
    assert len(released.frames) == 32 and "only the first 32 of 40" in released.losses[0]
    full = open_clip(path, num_frames=40, protocol="full")
    assert len(full.frames) == 32 and full.times[-1] > 4.5


def test_truncated_in_the_middle(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 60, draw=noisy, options={"g": "10", "movflags": "faststart"})
    with_index_first = tmp_path / "cut.mkv"
    write(with_index_first, 60, draw=noisy, options={"g": "10"})
    data = with_index_first.read_bytes()
    with_index_first.write_bytes(data[: len(data) // 2])
    clip = open_clip(with_index_first, num_frames=4)
    assert 5 < clip.frames_total < 60
    path.write_bytes(path.read_bytes()[:-200])  # mp4 with its table at the end: nothing can be found any more
    with pytest.raises(UnreadableMedia, match="truncated"):
        open_clip(path)


def test_damaged_packets_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mkv", 60, draw=noisy, options={"g": "12", "bf": "0"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    clip = open_clip(path, num_frames=30)
    assert len(clip.frames) == 30
    assert clip.frames_total == 48 and any("no frames" in note for note in clip.notes)


@pytest.mark.parametrize("what", ["zeros", "noise"])
def test_damaged_frames_are_reported(what: str, tmp_path: Path) -> None:
    """The container is intact, one packet is not: later frames of its group are damaged as well."""
    path = write(tmp_path / "clip.mp4", 40, draw=noisy, options={"g": "10", "bf": "0"})
    whole = truth(path)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    at, size = places[23]
    hole = bytes(size - 5) if what == "zeros" else np.random.default_rng(0).bytes(size - 5)
    data[at + 5 : at + size] = hole
    path.write_bytes(data)
    clip = open_clip(path, num_frames=40, protocol=replace(RELEASED, max_frames=40))
    different = [i for i in range(40) if not np.array_equal(clip.frames[i], whole[i])]
    assert set(different) <= set(range(23, 30))
    assert clip.losses or not different
    alone = open_clip(path, num_frames=3)  # 6, 20, 33: none of them near the damage
    assert not alone.losses and all(
        np.array_equal(alone.frames[k], whole[i]) for k, i in enumerate(alone.frame_indices)
    )
    near = open_clip(path, num_frames=1, start=2.5, end=2.6)  # frame 24 or 25
    assert near.losses and 22 <= near.frame_indices[0] <= 25


def test_frames_over_the_limits(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 3)
    tight = Limits(max_pixels=WIDTH * HEIGHT - 1)
    with pytest.raises(MediaTooLarge, match="64x48"):
        open_clip(path, limits=tight)
    with pytest.raises(MediaTooLarge, match="GiB"):
        open_clip(path, num_frames=3, limits=Limits(max_held_bytes=WIDTH * HEIGHT * 3 * 2))
    with pytest.raises(MediaTooLarge, match="bytes"):
        open_clip(path, limits=Limits(max_file_bytes=100))


def test_video_only_and_audio_only(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 10, sound=tone(1.0))
    seen = open_clip(path, want_audio=False)
    assert seen.frames and seen.wave is None and seen.audio_state == "not_requested"
    heard = open_clip(path, want_video=False)
    assert not heard.frames and heard.wave is not None and heard.kind == "video"


def test_frame_size_that_changes_mid_stream(tmp_path: Path) -> None:
    small = write(tmp_path / "a.ts", 10).read_bytes()
    large = write(tmp_path / "b.ts", 10, size=(320, 240)).read_bytes()
    (tmp_path / "c.ts").write_bytes(small + large)
    clip = open_clip(tmp_path / "c.ts", num_frames=4)
    assert [f.shape[:2] for f in clip.frames] == [(48, 64), (48, 64), (240, 320), (240, 320)]
    kept = open_clip(tmp_path / "c.ts", num_frames=4, limits=Limits(max_pixels=WIDTH * HEIGHT))
    assert {f.shape[:2] for f in kept.frames} == {(48, 64)} and kept.losses
    with pytest.raises(MediaTooLarge, match="320x240"):
        open_clip(tmp_path / "c.ts", num_frames=4, limits=Limits(max_held_bytes=320 * 240 * 3 * 2))


@pytest.mark.parametrize("every", [0, 100], ids=["listed", "all alike"])
def test_tables_claiming_a_billion_frames(every: int, tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", 5)
    data = bytearray(path.read_bytes())
    for table, body in ((b"stsz", struct.pack(">II", every, 10**9)), (b"stts", struct.pack(">II", 1, 10**9))):
        at = data.find(table) + 8
        data[at : at + 8] = body
    path.write_bytes(data)
    try:
        clip = open_clip(path, num_frames=2)
    except MediaError:
        return
    assert clip.frames_total <= 5
