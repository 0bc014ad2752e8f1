"""Long videos for the benchmarks: one group of pictures is encoded, and its packets are repeated.

A key frame resets the decoder, so a file of repeats costs what any other of its length does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FPS = 25
WIDTH, HEIGHT = 1920, 1080
_MBIT = 4

ENCODERS = {
    "h264": ("libx264", {"preset": "veryfast", "bf": "3", "x264-params": "scenecut=0:open-gop=0"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "scenecut=0:open-gop=0:bframes=3:log-level=none"}),
    "av1": ("libsvtav1", {"preset": "10", "svtav1-params": "scd=0"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "6", "row-mt": "1"}),
}
SUFFIXES = {"h264": "mp4", "hevc": "mp4", "av1": "mp4", "vp9": "webm"}


@dataclass(frozen=True)
class LongVideo:
    """What to make: `gop` frames between key frames, in `suffix`'s container; `sound` adds AAC."""

    codec: str
    gop: int
    seconds: int = 600
    suffix: str = ""
    sound: bool = False

    @property
    def name(self) -> str:
        """Its file name."""
        sound = "_sound" if self.sound else ""
        return f"{self.codec}_gop{self.gop}_{self.seconds}s{sound}.{self.suffix or SUFFIXES[self.codec]}"


def make(folder: Path, video: LongVideo) -> Path:
    """The file in `folder`; it is made unless it is there."""
    path = folder / video.name
    if path.is_file():
        return path
    part = path.with_name(f"part-{path.name}")
    with av.open(str(part), "w") as out:
        packets, template = _encoded(folder, video)
        stream = out.add_stream_from_template(template, opaque=True)
        sound = out.add_stream("aac", rate=44100, layout="stereo") if video.sound else None
        step, repeats = video.gop, -(-video.seconds * FPS // video.gop)
        heard = _noise() if sound is not None else None
        for i in range(repeats):
            for pts, dts, data, key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, FPS), key
                packet.pts, packet.dts, packet.duration = pts + i * step, dts + i * step, 1
                out.mux(packet)
            if heard is not None:
                _add_sound(out, sound, heard, i * step / FPS, (i + 1) * step / FPS)
        if sound is not None:
            out.mux(sound.encode(None))
    part.rename(path)
    return path


def _encoded(folder: Path, video: LongVideo) -> "tuple[list[tuple[int, int, bytes, bool]], av.VideoStream]":
    """Packets of one group of pictures, and the stream that has its header."""
    suffix = SUFFIXES[video.codec]
    path = folder / f"group_{video.codec}_{video.gop}.{suffix}"
    encoder, options = ENCODERS[video.codec]
    if not path.is_file():
        with av.open(str(path), "w") as out:
            stream = out.add_stream(encoder, rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.bit_rate, stream.codec_context.gop_size = _MBIT * 1_000_000, video.gop
            for rgb in _pictures(video.gop):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            out.mux(stream.encode(None))
    container = av.open(str(path))
    stream = container.streams.video[0]
    ticks = stream.time_base * FPS
    found = [
        (round(p.pts * ticks), round(p.dts * ticks), bytes(p), p.is_keyframe) for p in container.demux(stream) if p.size
    ]
    assert len(found) == video.gop and [key for *_, key in found] == [True] + [False] * (video.gop - 1), path
    return found, stream


def _pictures(count: int) -> Iterator[np.ndarray]:
    """A camera that pans over a landscape of noise in all sizes, things that cross it, and a little grain."""
    random = np.random.default_rng(11)
    world = np.zeros((HEIGHT + 256, WIDTH + 1024, 3), np.float32)
    for size, strength in ((256, 60), (64, 30), (16, 18), (4, 10), (1, 4)):
        coarse = random.uniform(-1, 1, (-(-world.shape[0] // size), -(-world.shape[1] // size), 3))
        world += strength * coarse.repeat(size, 0).repeat(size, 1)[: world.shape[0], : world.shape[1]]
    world = np.clip(world + 128, 0, 255).astype(np.uint8)
    grain = random.integers(0, 6, (HEIGHT + 64, WIDTH + 64, 1), np.uint8)
    for i in range(count):
        x, y = 3 * i % 1000, round(100 + 90 * np.sin(i / 20))
        picture = np.clip(world[y : y + HEIGHT, x : x + WIDTH], 0, 249)
        picture = picture + grain[i * 13 % 64 :, i * 29 % 64 :][:HEIGHT, :WIDTH]
        for k in range(6):
            left, top = (k * 300 + (k + 2) * 4 * i) % (WIDTH - 160), (k * 170 + 40 + 3 * k * i) % (HEIGHT - 160)
            picture[top : top + 160, left : left + 160] = world[k * 160 : (k + 1) * 160, :160][:, ::-1]
        yield picture


def _noise() -> np.ndarray:
    """int16[2, S]: a minute of noise that swells."""
    n = 60 * 44100
    swell = 3000 + 2500 * np.sin(np.arange(n) * (2 * np.pi * 0.7 / 44100))
    return (np.random.default_rng(5).uniform(-1, 1, (2, n)) * swell).astype(np.int16)


def _add_sound(out: Any, stream: Any, heard: np.ndarray, start: float, end: float) -> None:
    """Encode and write the noise of a range of seconds."""
    first, last = round(start * 44100), round(end * 44100)
    for at in range(first, last, 1024):
        count = min(1024, last - at)
        samples = heard.take(range(at, at + count), axis=1, mode="wrap").T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44100, at, Fraction(1, 44100)
        out.mux(stream.encode(frame))
