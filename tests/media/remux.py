"""Files with odd properties: the packets of a plain recording, put into a container with other stamps or gaps."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from .make import HEIGHT, WIDTH, flat

FPS, RATE = 10, 48000


def rising(seconds: float) -> np.ndarray:
    """f32[1, S]: 400 Hz in the first half second, 200 Hz more in each further one."""
    t = np.arange(round(seconds * RATE)) / RATE
    hz = 400 + 200 * np.floor(2 * t)
    return (0.4 * np.sin(2 * np.pi * np.cumsum(hz) / RATE)).astype(np.float32)[None]


def record(
    path: Path,
    video: str | None,
    audio: str | None,
    *,
    frames: int = 30,
    seconds: float = 3.0,
    options: dict[str, str] | None = None,
    first: int = 0,
) -> Path:
    """A plain recording: `frames` pictures `first`, `first` + 1, … at 10 a second, and the rising tone."""
    with av.open(str(path), "w") as out:
        pictures = sound = None
        if video:
            rate = 25 if video.startswith(("mpeg1", "mpeg2")) else FPS
            pictures = out.add_stream(video, rate=rate, options={"g": "10", **(options or {})})
            pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if audio:
            sound = out.add_stream(audio, rate=RATE, layout="mono", options={"strict": "experimental"})
            sound.bit_rate = 128_000
        if pictures is not None:
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(flat(first + i), format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = i, Fraction(1, pictures.codec_context.framerate)
                out.mux(pictures.encode(frame))
            out.mux(pictures.encode(None))
        if sound is not None:
            resampler = av.AudioResampler(
                sound.codec_context.format, "mono", RATE, sound.codec_context.frame_size or 960
            )
            block = av.AudioFrame.from_ndarray(rising(seconds), format="fltp", layout="mono")
            block.sample_rate, block.pts = RATE, 0
            for part in [*resampler.resample(block), *resampler.resample(None)]:
                out.mux(sound.encode(part))
            out.mux(sound.encode(None))
    return path


def remux(
    source: Path,
    path: Path,
    *,
    form: str | None = None,
    shift: dict[str, float] | None = None,
    keep: Callable[[str, float], bool] = lambda kind, second: True,
    options: dict[str, str] | None = None,
) -> Path:
    """The packets of a file in another container.

    Args:
        form: FFmpeg's name of the format; None: by the suffix.
        shift: seconds added to the stamps of "video" and "audio".
        keep: whether a packet of a kind, presented at that second, is kept.
    """
    with av.open(str(source)) as given, av.open(str(path), "w", format=form, options=options or {}) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in given.streams}
        packets: list[Any] = []
        zero = (given.start_time or 0) / av.time_base if "mpegts" in given.format.name else 0.0
        for packet in given.demux():
            if packet.dts is None and packet.pts is None:
                continue
            second = -zero + float((packet.pts if packet.pts is not None else packet.dts) * packet.time_base)
            if not keep(packet.stream.type, second):
                continue
            ticks = round(((shift or {}).get(packet.stream.type, 0.0) - zero) / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packets.append((float((packet.dts if packet.dts is not None else packet.pts) * packet.time_base), packet))
        for _, packet in sorted(packets, key=lambda pair: pair[0]):
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return path


class Account:
    """What a straight decode from the start of a file says: frames with their times, and sound on the same axis."""

    def __init__(self, path: Path) -> None:
        with av.open(str(path)) as container:
            zero, is_raw = (container.start_time or 0) / av.time_base, container.start_time is None
            is_avi = "avi" in container.format.name
            self.frames: list[tuple[float | None, float]] = []
            if container.streams.video:
                for packet in container.demux(container.streams.video[0]):
                    for frame in packet.decode() if packet.size or packet.dts is None else []:
                        time = None if frame.pts is None else float(frame.pts * frame.time_base) - zero
                        self.frames.append((time, float(frame.to_ndarray(format="rgb24").mean())))
        times = [time for time, _ in self.frames if time is not None]
        if times and is_raw:  # a raw stream
            self.frames = [(None if time is None else time - min(times), level) for time, level in self.frames]
        if is_avi and times != sorted(times):  # its stamps are those of decoding
            self.frames = [(None, level) for _, level in self.frames]
        self.blocks: list[tuple[float, np.ndarray]] = []
        with av.open(str(path)) as container:
            if container.streams.audio:
                rate = container.streams.audio[0].rate
                resampler = av.AudioResampler("fltp", "mono", rate)
                after = 0.0
                for frame in container.decode(audio=0):
                    at = after if frame.pts is None else float(frame.pts * frame.time_base) - zero
                    frame.pts = None
                    samples = np.concatenate([f.to_ndarray()[0] for f in resampler.resample(frame)])
                    self.blocks.append((at, samples))
                    after = at + len(samples) / rate
                self.rate = rate

    @property
    def ends(self) -> float:
        """Seconds at which the sound ends."""
        at, samples = self.blocks[-1]
        return at + len(samples) / self.rate

    def hertz(self, second: float) -> float:
        """The strongest frequency in the quarter of a second from there; 0 where there is no sound."""
        canvas = np.zeros(self.rate // 4, np.float32)
        for at, samples in self.blocks:
            begin = round((at - second) * self.rate)
            part = samples[max(-begin, 0) : max(len(canvas) - begin, 0)]
            canvas[max(begin, 0) : max(begin, 0) + len(part)] = part
        return strongest(canvas, self.rate)


def strongest(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency; 0 for silence."""
    if not len(samples) or float(np.abs(samples).max()) < 0.05:
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), rate))
    return float(spectrum.argmax())
