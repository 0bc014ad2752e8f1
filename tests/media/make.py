"""Tiny media with known contents, written with PyAV and Pillow at test time."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 64, 48


def grey(i: int) -> int:
    """The level of frame i: far enough from its neighbours to survive lossy coding."""
    return 16 + (i * 7) % 220


def flat(i: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """u8[H, W, 3]: frame i, one grey."""
    return np.full((height, width, 3), grey(i), np.uint8)


def noisy(i: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """u8[H, W, 3]: a moving pattern, so that frames refer to each other."""
    y, x = np.mgrid[:height, :width]
    base = (127 + 100 * np.sin((x + 3 * i) / 5) * np.cos((y - 2 * i) / 7)).astype(np.uint8)
    return np.stack([base, np.roll(base, i, 0), 255 - base], axis=2)


def tone(seconds: float, rate: int = 44100, channels: int = 1, hz: float = 440.0) -> np.ndarray:
    """f32[channels, S]: a sine per channel, an octave apart."""
    t = np.arange(round(seconds * rate)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * hz * 2**c * t) for c in range(channels)]).astype(np.float32)


def write(
    path: Path,
    frames: int = 0,
    *,
    fps: int = 10,
    codec: str = "libx264",
    draw: Callable[..., np.ndarray] = flat,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    stamps: Sequence[int] | None = None,
    sound: np.ndarray | None = None,
    rate: int = 44100,
    sound_codec: str = "aac",
    layout: str | None = None,
    rotation: int = 0,
) -> Path:
    """Write a video (`frames` > 0), audio (`sound`: f32[channels, S]), or both.

    stamps: presentation times in milliseconds instead of a constant rate.
    """
    with av.open(str(path), "w") as out:
        video = audio = None
        if frames:
            video = out.add_stream(codec, rate=fps, options=options or {})
            video.width, video.height, video.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
            if stamps is not None:
                video.time_base = video.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            layout = layout or {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
            audio = out.add_stream(sound_codec, rate=rate, layout=layout, options={"strict": "experimental"})
        if video is not None:
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(draw(i, *size), format="rgb24").reformat(format=video.pix_fmt)
                frame.pts = i if stamps is None else stamps[i]
                frame.time_base = Fraction(1, fps) if stamps is None else Fraction(1, 1000)
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        if audio is not None and sound is not None:
            _write_sound(out, audio, sound, rate, layout or "mono")
    return path


def _write_sound(
    out: av.container.OutputContainer, audio: av.AudioStream, sound: np.ndarray, rate: int, layout: str
) -> None:
    resampler = av.AudioResampler(audio.codec_context.format, layout, rate, audio.codec_context.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout=layout)
    frame.sample_rate, frame.pts = rate, 0
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        out.mux(audio.encode(part))
    out.mux(audio.encode(None))


def truth(path: Path) -> list[np.ndarray]:
    """All frames of a video, decoded from the first to the last."""
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
