"""Degrade the evaluation's clips in one way (compression, scale, crop, frame rate, noise), to measure robustness.

python recipes/nano/degrade.py CLIPS OUT --how crf40 [--set ten] [--most 50]
python recipes/nano/evaluate.py run OUT --out degraded.jsonl --settings all
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RATE = 16_000


@dataclass(frozen=True)
class Clip:
    """Frames u8[T, H, W, 3] at `rate` per second, wave f32[S] at 16 kHz, and options of the video encoder."""

    frames: NDArray[np.uint8]
    rate: Fraction
    wave: NDArray[np.float32]
    options: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> Clip:
    with av.open(str(path)) as file:
        rate = file.streams.video[0].average_rate
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    with av.open(str(path)) as file:
        wave = [f.to_ndarray()[0] for f in file.decode(audio=0)]
    assert rate is not None
    return Clip(np.stack(frames), rate, np.concatenate(wave).astype(np.float32))


def write(path: Path, clip: Clip) -> None:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=clip.rate, options=clip.options)
        video.height, video.width, video.pix_fmt = *clip.frames.shape[1:3], "yuv420p"
        audio = out.add_stream("aac", rate=RATE, layout="mono")
        for image in clip.frames:
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(clip.wave[None], format="fltp", layout="mono")
        sound.sample_rate = RATE
        out.mux(audio.encode(sound))
        out.mux(audio.encode())


def scaled(clip: Clip, side: int) -> Clip:
    return replace(clip, frames=np.stack([np.asarray(Image.fromarray(f).resize((side, side))) for f in clip.frames]))


def cropped(clip: Clip, share: float) -> Clip:
    """The middle of each frame, `share` of its width and height."""
    side = clip.frames.shape[1]
    rim = round(side * (1 - share) / 2)
    inner = (side - 2 * rim) // 2 * 2
    return replace(clip, frames=clip.frames[:, rim : rim + inner, rim : rim + inner])


def at_rate(clip: Clip, rate: int) -> Clip:
    count = max(2, round(len(clip.frames) / clip.rate * rate))
    places = np.minimum((np.arange(count) + 0.5) * len(clip.frames) / count, len(clip.frames) - 1).astype(int)
    return replace(clip, frames=clip.frames[places], rate=Fraction(rate))


def noisy(clip: Clip, decibels: float) -> Clip:
    """Add white noise at this signal-to-noise ratio."""
    rng = np.random.default_rng(0)
    level = float(np.sqrt((clip.wave**2).mean())) * 10 ** (-decibels / 20)
    return replace(clip, wave=clip.wave + level * rng.standard_normal(clip.wave.size, dtype=np.float32))


DEGRADATIONS: dict[str, Callable[[Clip], Clip]] = {
    "crf40": lambda c: replace(c, options={"crf": "40"}),
    "scale112": lambda c: scaled(c, 112),
    "scale448": lambda c: scaled(c, 448),
    "crop80": lambda c: cropped(c, 0.8),
    "rate3": lambda c: at_rate(c, 3),
    "rate25": lambda c: at_rate(c, 25),
    "noise20": lambda c: noisy(c, 20),
    "noise10": lambda c: noisy(c, 10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--how", choices=DEGRADATIONS, required=True)
    parser.add_argument("--set", default="ten")
    parser.add_argument("--most", type=int, default=50)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    truth = json.loads((args.clips / "truth.json").read_text(encoding="utf-8"))
    chosen = [t for t in truth if t["set"] == args.set][: args.most]
    for item in chosen:
        write(args.out / item["clip"], DEGRADATIONS[args.how](read(args.clips / item["clip"])))
    (args.out / "truth.json").write_text(json.dumps(chosen, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
