"""Bad files: each gives one clear error from errors.py, and no other file is ever opened."""

import os
from pathlib import Path

import pytest

from videollama2.errors import (
    EmptyMedia,
    MediaError,
    MediaNotFound,
    NoAudioStream,
    NoVideoStream,
    TimeRangeError,
    UnreadableMedia,
    UsageError,
)
from videollama2.media import open_clip

from .make import noisy, tone, write


def test_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", "", "a\0b"):
        with pytest.raises(MediaNotFound):
            open_clip(path)
    with pytest.raises(FileNotFoundError):
        open_clip(tmp_path / "none.mp4")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    with pytest.raises(EmptyMedia, match="0 bytes"):
        open_clip(tmp_path / "x.mp4")
    with pytest.raises(EmptyMedia):
        open_clip(b"")


@pytest.mark.parametrize("suffix", ["mp4", "wav", "gif", "jpg"])
def test_text(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"x.{suffix}").write_text("This is a story about a video.\n" * 20)
    with pytest.raises(UnreadableMedia, match="text file"):
        open_clip(tmp_path / f"x.{suffix}")


def test_noise(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(bytes(range(128, 256)) * 50)
    with pytest.raises(UnreadableMedia, match="corrupt"):
        open_clip(tmp_path / "x.mp4")


def test_no_memory_address_in_messages(tmp_path: Path) -> None:
    (tmp_path / "x.gif").write_bytes(b"GIF89a" + bytes(range(256)))
    with pytest.raises(MediaError) as caught:
        open_clip(tmp_path / "x.gif")
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize("cut", [20, 200, 900, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "wav", "flac", "webm"])
def test_truncated_anywhere(suffix: str, cut: float, tmp_path: Path) -> None:
    """A truncated file gives a clip of the rest or a MediaError, never another exception."""
    path = tmp_path / f"x.{suffix}"
    video = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "webm": "libvpx-vp9"}.get(suffix)
    if video:
        write(path, 12, codec=video, draw=noisy)
    else:
        write(path, sound=tone(1.0, 16000), rate=16000, sound_codec="flac" if suffix == "flac" else "pcm_s16le")
    data = path.read_bytes()
    path.write_bytes(data[: int(cut if cut > 1 else len(data) * cut)])
    try:
        clip = open_clip(path, num_frames=4, protocol="full")
    except MediaError as error:
        assert "x." in str(error)
    else:
        assert clip.frames or clip.wave


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes(seed: int, tmp_path: Path) -> None:
    import random

    path = write(tmp_path / "x.mp4", 12, draw=noisy, sound=tone(1.2))
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(30):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)
    try:
        clip = open_clip(path, num_frames=4)
    except MediaError:
        return
    assert clip.frames or clip.wave


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:9/x.mp4",
        "https://example.invalid/x.mp4",
        "file:///etc/passwd",
        "concat:a.mp4|b.mp4",
        "rtsp://127.0.0.1/x",
        "data:video/mp4;base64,AAAA",
        "lavfi:testsrc",
        "pipe:0",
    ],
)
def test_urls(text: str) -> None:
    with pytest.raises(UnreadableMedia, match="only local files"):
        open_clip(text)


PLAYLISTS = {
    "x.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n",
    "x.txt": "ffconcat version 1.0\nfile '{}'\n",
    "x.mpd": '<?xml version="1.0"?><MPD><BaseURL>{}</BaseURL></MPD>',
    "x.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n",
    "x.pls": "[playlist]\nFile1={}\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("before", ["", "\ufeff", "\n\n  "])
def test_playlists_open_nothing(name: str, before: str, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.mp4", 3)
    path = tmp_path / name
    path.write_text(before + PLAYLISTS[name].format(secret))
    with pytest.raises(UnreadableMedia):
        open_clip(path)
    with pytest.raises(UnreadableMedia):
        open_clip(path.rename(tmp_path / "x.mp4"))


def test_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    """FFmpeg would expand img%03d.png and read a colon as a protocol; here they are plain names."""
    made = write(tmp_path / "x.mp4", 3)
    for name in ("clip%03d.mp4", "concat:x.mp4", "a,b;c.mp4", "-i.mp4", "ü 視.mp4"):
        clip = open_clip(made.rename(tmp_path / name), num_frames=2)
        assert len(clip.frames) == 2
        made = tmp_path / name


def test_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaNotFound):
        open_clip(tmp_path / "pipe.mp4")


def test_no_video_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", sound=tone(0.5, 16000), rate=16000, sound_codec="pcm_s16le")
    with pytest.raises(NoVideoStream):
        open_clip(path, want_audio=False)


def test_no_audio_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 3)
    with pytest.raises(NoAudioStream):
        open_clip(path, want_video=False)


def test_audio_requested_from_an_image(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    with pytest.raises(NoAudioStream):
        open_clip(tmp_path / "x.png", want_video=False)


@pytest.mark.parametrize(
    ("start", "end"), [(2, 1), (1, 1), (-1, 1), (None, -2), (float("nan"), None), (0, float("inf")), (99, None)]
)
def test_ranges(start: float | None, end: float | None, tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 10)
    for protocol in ("released", "full"):
        with pytest.raises(TimeRangeError):
            open_clip(path, start=start, end=end, protocol=protocol)


@pytest.mark.parametrize("frames", [0, -1, 2.5, True, "8"])
def test_invalid_num_frames(frames: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="num_frames"):
        open_clip(write(tmp_path / "x.mp4", 3), num_frames=frames)  # type: ignore[arg-type]


def test_nothing_requested(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_clip(write(tmp_path / "x.mp4", 3), want_video=False, want_audio=False)


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    import av
    from PIL import Image

    cover = tmp_path / "cover.png"
    Image.new("RGB", (8, 8), (200, 0, 0)).save(cover)
    path = write(tmp_path / "x.m4a", sound=tone(0.5))
    with av.open(str(path)) as source, av.open(str(cover)) as art, av.open(str(tmp_path / "y.m4a"), "w", "mp4") as out:
        sound, picture = out.add_stream_from_template(source.streams.audio[0]), None
        picture = out.add_stream_from_template(art.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        for container, stream in ((source, sound), (art, picture)):
            for packet in container.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    clip = open_clip(tmp_path / "y.m4a")
    assert clip.kind == "audio" and not clip.frames
