"""Make the repository's example clip: a moving public-domain picture and a tune of sine waves.

    python recipes/nano/example.py PICTURE.png "a penguin" examples/clip.mp4

The picture of the shipped clip is `animals/new_penguin_charles_mcco_01.png` of Debian's openclipart-png (public
domain); the sound is computed here.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from videollama2.data.composed import (
    SOUND_RATE_HZ,
    TEXTURE_SIDE,
    PicturePack,
    Scene,
    Thing,
    render_frames,
    write_clip,
)

SECONDS, FRAMES_PER_SECOND, SIDE = 6.0, 12, 224
TUNE = (72, 76, 79, 84, 79, 76, 74, 77, 81, 86, 81, 77, 72, 76, 79, 84, 79, 76, 71, 74, 79, 83, 84, 84)  # MIDI keys
NOTE_SECONDS = SECONDS / len(TUNE)
PARTIALS = ((1.0, 1.0, 9.0), (3.93, 0.4, 18.0), (9.2, 0.2, 40.0))  # of a struck bar: times the pitch, strength, decay


def tune() -> np.ndarray:
    """f32[S] in ±1: a xylophone, bar by bar."""
    wave = np.zeros(round((SECONDS + 1) * SOUND_RATE_HZ))
    clock = np.arange(round(0.6 * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    for i, key in enumerate(TUNE):
        hz = 440 * 2 ** ((key - 69) / 12)
        note = sum(a * np.sin(2 * np.pi * n * hz * clock) * np.exp(-d * clock) for n, a, d in PARTIALS)
        begin = round(i * NOTE_SECONDS * SOUND_RATE_HZ)
        wave[begin : begin + clock.size] += note
    wave = wave[: round(SECONDS * SOUND_RATE_HZ)]
    return (0.6 * wave / np.abs(wave).max()).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--direction", default="left", choices=("left", "right"))
    args = parser.parse_args()
    picture = Image.open(args.picture).convert("RGBA")
    picture.thumbnail((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (TEXTURE_SIDE, TEXTURE_SIDE))
    canvas.paste(picture, ((TEXTURE_SIDE - picture.width) // 2, (TEXTURE_SIDE - picture.height) // 2))
    nothing = np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, np.int64)
    pictures = PicturePack(*nothing, np.asarray(canvas)[None], (args.name,))
    start, end = ((0.75, 0.5), (0.25, 0.5)) if args.direction == "left" else ((0.25, 0.5), (0.75, 0.5))
    thing = Thing(args.name, "stamp:0", args.direction, start, end, (0.75, 0.8))
    scene = Scene(0, SECONDS, (thing,), (), backdrop=4, drift=(0.1, 0.0))
    frames = render_frames(scene, pictures, round(SECONDS * FRAMES_PER_SECOND), SIDE)
    write_clip(args.out, frames, tune(), seconds=SECONDS)


if __name__ == "__main__":
    main()
