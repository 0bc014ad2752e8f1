"""A corpus made here: containers × codecs × odd properties; each receipt is compared with a straight decode.

Not in the corpus, because PyAV has no encoder for them: Theora, VC-1, WMV 9, AMR-WB, DTS, Speex, GSM, Dolby Vision,
H.264 with pictures of one field (fields.py writes some); nor live radio, 4K, and anything of more than a few seconds.
Joined, cut-off, edited and repeating files, whose straight decode is itself wrong, are in test_timeline.py and
test_file_end.py; tracks, layouts of channels, colours and images have tests of their own.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videollama2.media import Clip, open_clip

from .remux import Account, record, remux, strongest

VIDEO: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"bf": "2"}),
    "h264 without B-frames": ("libx264", {"bf": "0"}),
    "h264 open GOP": ("libx264", {"bf": "2", "x264-params": "open-gop=1"}),
    "hevc": ("libx265", {"x265-params": "log-level=none:bframes=2:open-gop=0"}),
    "vp8": ("libvpx", {"deadline": "realtime"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime"}),
    "mpeg4": ("mpeg4", {}),
    "mpeg2": ("mpeg2video", {"bf": "2"}),
    "mpeg2 without B-frames": ("mpeg2video", {"bf": "0"}),
    "mpeg1": ("mpeg1video", {}),
    "wmv2": ("wmv2", {}),
    "ffv1": ("ffv1", {}),
    "flv1": ("flv", {}),
}
AUDIO = {
    "aac": "aac", "mp3": "libmp3lame", "mp2": "mp2", "opus": "libopus", "flac": "flac", "ac3": "ac3",
    "pcm": "pcm_s16le",
}  # fmt: skip
BOTH: dict[str, tuple[str | None, list[tuple[str, str]]]] = {
    "mp4": (None, [("h264", "aac"), ("h264 without B-frames", "mp3"), ("hevc", "aac"), ("vp9", "opus"),
                   ("mpeg4", "flac"), ("h264 open GOP", "ac3")]),
    "mov": (None, [("h264", "pcm"), ("mpeg4", "aac"), ("hevc", "aac"), ("mpeg2", "ac3")]),
    "mkv": (None, [("h264", "aac"), ("hevc", "opus"), ("vp8", "mp3"), ("ffv1", "flac"), ("mpeg2", "ac3"),
                   ("h264 open GOP", "pcm"), ("vp9", "mp2")]),
    "webm": (None, [("vp8", "opus"), ("vp9", "opus")]),
    "avi": (None, [("mpeg4", "mp3"), ("h264", "mp3"), ("h264 without B-frames", "pcm"), ("ffv1", "ac3"),
                   ("vp8", "mp2")]),
    "ts": (None, [("h264", "aac"), ("mpeg2", "mp2"), ("hevc", "ac3"), ("h264 open GOP", "mp3")]),
    "flv": (None, [("h264", "aac"), ("flv1", "mp3"), ("h264 without B-frames", "aac")]),
    "mpg": (None, [("mpeg2", "mp2"), ("mpeg1", "mp2")]),
    "3gp": (None, [("h264", "aac"), ("mpeg4", "aac")]),
}  # fmt: skip
ALONE = [
    ("m4a", "aac"), ("mka", "aac"), ("mka", "opus"), ("mka", "flac"), ("mka", "pcm"), ("webm", "opus"),
    ("ogg", "opus"), ("ogg", "flac"), ("flac", "flac"), ("mp3", "mp3"), ("wav", "pcm"), ("aac", "aac"), ("ac3", "ac3"),
    ("ts", "aac"), ("ts", "mp2"), ("flv", "mp3"), ("avi", "mp3"), ("caf", "pcm"), ("aiff", "pcm_s16be"),
    ("au", "pcm_s16be"),
    ("w64", "pcm"),
]  # fmt: skip
PLAIN = [("mxf", "mpeg2", "pcm"), ("mxf", "mpeg2 without B-frames", "pcm"), ("wmv", "wmv2", "mp3")]
RAW = [("h264", "h264"), ("h264", "h264 without B-frames"), ("hevc", "hevc"), ("ivf", "vp8"), ("ivf", "vp9"),
       ("m2v", "mpeg2"), ("m4v", "mpeg4")]  # fmt: skip


@dataclass(frozen=True)
class Odd:
    """A property of a file. `only` and `never`: the containers it is made in."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


def _until(kind: str, last: float, of: str, second: float) -> bool:
    return of != kind or second < last


def _hole(kind: str, start: float, end: float, of: str, second: float) -> bool:
    return of != kind or not start <= second < end


ODD = [
    Odd("plain"),
    Odd("late sound", {"shift": {"audio": 1.0}}),
    Odd("late picture", {"shift": {"video": 0.7}}, never=("avi",)),
    Odd("late start", {"shift": {"video": 5.0, "audio": 5.0}}, never=("avi",)),
    Odd("hole in the sound", {"keep": partial(_hole, "audio", 1.0, 1.9)}, only=("mkv", "webm", "ts", "flv", "mp4")),
    Odd("hole in the picture", {"keep": partial(_hole, "video", 1.0, 2.0)}, only=("mkv", "webm", "ts", "mp4")),
    Odd("short sound", {"keep": partial(_until, "audio", 1.5)}),
    Odd("short picture", {"keep": partial(_until, "video", 1.0)}),
    Odd("no times in the header", {"options": {"live": "1"}}, only=("mkv", "webm")),
    Odd("fragments", {"options": {"movflags": "frag_keyframe+delay_moov+default_base_moof"}}, only=("mp4", "mov")),
    Odd("cut at the front", {"shift": {"video": -0.5, "audio": -0.5}}, only=("mp4", "mov")),
    Odd("index first", {"options": {"movflags": "faststart"}}, only=("mp4", "mov", "3gp")),
    Odd("wrapped clock", {"shift": {"video": 95442.2, "audio": 95442.2}}, only=("ts",)),
]


def kept_in(suffix: str, video: str | None, audio: str | None) -> str:
    """A container that keeps the packets of these codecs, from which they go to the one that is tested."""
    if video == "wmv2":
        return "wmv"
    if video in ("flv1", "ffv1", "vp8", "vp9") or (audio in ("flac", "opus") and not video):
        return "flv" if video == "flv1" else "mkv"
    if suffix in ("avi", "h264", "hevc") and video and video.startswith(("h264", "hevc")):  # they want start codes
        return suffix
    return "mov" if (audio or "").startswith("pcm") else "mp4"


def cases() -> list[Any]:
    found = []
    for suffix, (form, codecs) in BOTH.items():
        for odd in ODD:
            if (odd.only and suffix not in odd.only) or suffix in odd.never:
                continue
            for video, audio in codecs:
                if kept_in(suffix, video, audio) == suffix == "avi" and odd.name != "plain":
                    continue
                label = f"{suffix}: {video} + {audio}, {odd.name}"
                found.append(pytest.param(suffix, form, video, audio, odd, id=label))
    for suffix, audio in ALONE:
        found.append(pytest.param(suffix, None, None, audio, ODD[0], id=f"{suffix}: {audio}"))
    for suffix, video, audio in PLAIN:
        found.append(pytest.param(suffix, None, video, audio, ODD[0], id=f"{suffix}: {video} + {audio}"))
    for suffix, video in RAW:
        found.append(pytest.param(suffix, None, video, None, ODD[0], id=f"{suffix}: {video}"))
    return found


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, made = tmp_path_factory.mktemp("recordings"), {}

    def recording(suffix: str, video: str | None, audio: str | None) -> Path:
        key = kept_in(suffix, video, audio), video, audio
        if key not in made:
            codec, options = VIDEO[video] if video else (None, {})
            path = folder / f"{len(made)}.{kept_in(suffix, video, audio)}"
            frames = 75 if (video or "").startswith(("mpeg1", "mpeg2")) else 30
            made[key] = record(path, codec, AUDIO.get(audio, audio) if audio else None, options=options, frames=frames)
        return made[key]

    return recording


def check(clip: Clip, account: Account, start: float | None, end: float | None) -> None:
    """The clip is what a straight decode says about the range."""
    begin, stop = start or 0.0, np.inf if end is None else end
    shown = sorted(account.frames, key=lambda frame: -1.0 if frame[0] is None else frame[0])
    if clip.frames:
        assert clip.frames_total == len(shown)
        for frame, index, time in zip(clip.frames, clip.frame_indices, clip.times, strict=True):
            expected, level = shown[index]
            assert abs(float(frame.mean()) - level) < 2.5, f"frame {index} is another picture"
            if expected is not None:
                assert abs(expected - time) < 0.0015, f"frame {index} is at {expected}"
    wave = clip.wave
    if wave is None:
        return
    assert begin - 1e-3 <= wave.start_seconds and wave.start_seconds + wave.seconds <= stop + 1e-3
    assert abs(wave.start_seconds - max(account.blocks[0][0], begin)) < 0.05
    assert abs(wave.start_seconds + wave.seconds - min(account.ends, stop)) < 0.05
    for second in np.arange(0.125, 6.0, 0.5):
        if wave.start_seconds <= second and second + 0.25 <= wave.start_seconds + wave.seconds:
            first = round((second - wave.start_seconds) * wave.rate)
            heard = strongest(wave.samples[first : first + wave.rate // 4].astype(np.float32), wave.rate)
            assert abs(heard - account.hertz(second)) < 40, f"at {second} s"


@pytest.mark.parametrize(("suffix", "form", "video", "audio", "odd"), cases())
def test_the_receipt_is_what_a_straight_decode_says(
    suffix: str, form: str | None, video: str | None, audio: str | None, odd: Odd, recordings: Any, tmp_path: Path
) -> None:
    path = recordings(suffix, video, audio)
    if path.suffix != f".{suffix}" or odd.arguments:
        path = remux(path, tmp_path / f"x.{suffix}", form=form, **odd.arguments)
    account = Account(path)
    whole = open_clip(path, num_frames=5, protocol="full")
    assert not whole.losses
    check(whole, account, None, None)
    assert bool(whole.frames) == bool(video)
    assert (whole.wave is not None) == bool(audio)
    for start, end in ((1.2, 1.95), (1.6, None)):
        try:
            part = open_clip(path, num_frames=3, protocol="full", start=start, end=end)
        except Exception as error:
            assert "ends at" in str(error) or "begins at" in str(error), error
            continue
        check(part, account, start, end)
        if part.wave is not None and part.losses:
            assert "only the audio" in part.losses[0]
