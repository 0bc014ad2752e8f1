"""Make the repository's second example clip: the view moves slowly over a photograph while a recording plays.

    python recipes/nano/example_photograph.py coffee.png misc_crow.flac examples/photograph.mp4

The photograph of the shipped clip is `skimage/data/coffee.png` of PyPI scikit-image (CC0, by Rachel Michetti), the
recording `misc_crow.flac` of Debian's sonic-pi-samples (CC0, by davidworksonline).
"""

import argparse
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from videollama2.data.composed import SOUND_RATE_HZ, write_clip

SECONDS, FRAMES_PER_SECOND, SIZE = 6.0, 12, (320, 240)
SHOWN = (0.95, 0.8)  # of the largest possible view, at the start and at the end
PATH = ((0.4, 0.5), (0.6, 0.5))  # of the view's centre


def frames(
    photograph: Image.Image, size: tuple[int, int] = SIZE, count: int = round(SECONDS * FRAMES_PER_SECOND)
) -> NDArray[np.uint8]:
    """u8[count, H, W, 3]: a view of this size (W, H) moves over the photograph."""
    width, height = size
    out = []
    for done in np.linspace(0, 1, count):
        tall = min(photograph.height, photograph.width * height / width) * (SHOWN[0] + (SHOWN[1] - SHOWN[0]) * done)
        wide = tall * width / height
        x, y = (PATH[0][i] + (PATH[1][i] - PATH[0][i]) * done for i in range(2))
        left = min(max(x * photograph.width - wide / 2, 0), photograph.width - wide)
        top = min(max(y * photograph.height - tall / 2, 0), photograph.height - tall)
        view = photograph.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + wide, top + tall))
        out.append(np.asarray(view))
    return np.stack(out)


def sound(recording: Path) -> NDArray[np.float32]:
    """f32[S] in ±1: the recording at 16 kHz, again from its start until the clip ends."""
    resampler = av.AudioResampler("flt", "mono", SOUND_RATE_HZ)
    with av.open(str(recording)) as file:
        parts = [part.to_ndarray()[0] for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    wave = np.concatenate(parts)
    return np.resize(0.7 * wave / np.abs(wave).max(), round(SECONDS * SOUND_RATE_HZ)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("photograph", "recording", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    photograph = Image.open(args.photograph).convert("RGB")
    write_clip(args.out, frames(photograph), sound(args.recording), seconds=SECONDS)


if __name__ == "__main__":
    main()
