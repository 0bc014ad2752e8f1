"""Which files are read through for their timeline, and that those which are not tell the same."""

from pathlib import Path
from typing import Any

import pytest

from videollama2.media import DEFAULT_LIMITS, open_clip
from videollama2.media.packets import read_timeline
from videollama2.media.source import MediaSource

from .make import noisy, tone, write


def timeline(path: Path) -> Any:
    source = MediaSource.of(path, DEFAULT_LIMITS)
    with source.container() as container:
        return read_timeline(container, source, container.streams.audio)


def mp3(path: Path, seconds: float = 3.3) -> bytes:
    return write(path, sound=tone(seconds), sound_codec="libmp3lame").read_bytes()


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_header_of_an_mp3_suffices(tmp_path: Path, rate: int, channels: int) -> None:
    path = write(tmp_path / "a.mp3", sound=tone(3.3, rate, channels), rate=rate, sound_codec="libmp3lame")
    found = timeline(path)
    assert not found.packets
    assert found.tracks[0] == pytest.approx((0.0, 3.3), abs=1e-4)
    wave = open_clip(path).wave
    assert wave is not None and wave.available_seconds == pytest.approx(3.3, abs=1e-3) and wave.lost_seconds == 0


def test_an_mp3_with_tags_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    data = mp3(path)
    picture = b"ID3\x04\0\0" + bytes([0, 0, 7, 0]) + bytes(7 * 128)  # ID3v2 before FFmpeg's
    for name, changed in {"id3v1": data + b"TAG" + bytes(125), "id3v2": picture + data}.items():
        path.write_bytes(changed)
        assert not timeline(path).packets, name


def test_an_mp3_of_another_size_is_read_through(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    data = mp3(path)
    for name, (changed, seconds) in {
        "cut off": (data[: len(data) // 2], 1.65),
        "joined": (data + data, 6.6),
        "followed by something else": (data + bytes(5000), 3.3),
    }.items():
        path.write_bytes(changed)
        found = timeline(path)
        assert found.packets, name
        assert found.tracks[0][1] == pytest.approx(seconds, abs=0.12), name


def test_a_header_without_counts_is_no_proof(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    data = mp3(path)
    at = max(data.find(b"Xing"), data.find(b"Info"))
    path.write_bytes(data[: at + 4] + bytes(12) + data[at + 16 :])
    assert timeline(path).packets


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_audio_of_a_video_does_not_depend_on_the_pictures(tmp_path: Path, suffix: str) -> None:
    """The packets of other tracks are passed over; the samples are those of a file opened for both."""
    path = write(tmp_path / f"clip.{suffix}", 30, draw=noisy, sound=tone(3.0))
    alone, both = open_clip(path, want_video=False).wave, open_clip(path).wave
    assert alone is not None and both is not None
    assert alone.start_seconds == both.start_seconds and (alone.samples == both.samples).all()
