"""Unlabelled photographs and pictures from packages → one pack (photographs.npz), u8[N, 260, 260, 3].

    python recipes/nano/photographs.py ASSETS OUT/photographs.npz

Nobody has said what they show. They are what the connector's tokens look like for real pictures, and what the
classifier makes of them.
"""

import argparse
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from waves import qt_resources

SIDE = 260
BACKGROUNDS = ("gnome-backgrounds", "mate-backgrounds", "plasma-workspace-wallpapers", "lomiri-wallpapers-16.04",
               "lomiri-wallpapers-20.04", "scratch", "megaglest-data", "searchandrescue-data")  # fmt: skip
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".JPG")
GCOMPRIS = ("explore_monuments", "categorization", "explore_farm_animals", "photo_hunter", "instruments")
CROPS = 4  # of a picture that is much larger than SIDE
Image.MAX_IMAGE_PIXELS = 60_000_000


def pictures(assets: Path) -> Iterator[Image.Image]:
    for package in BACKGROUNDS:
        for path in sorted((assets / "deb" / package).rglob("*")):
            if path.suffix in ENDINGS and path.is_file() and path.stat().st_size > 20_000:
                yield from opened(path)
    for name in GCOMPRIS:
        for archive in sorted((assets / "deb" / "gcompris-qt-data").rglob(f"{name}.rcc")):
            for member, data in qt_resources(archive.read_bytes()):
                if member.lower().endswith(ENDINGS) and len(data) > 8_000:
                    yield from opened(io.BytesIO(data))


def opened(source: Path | io.BytesIO) -> Iterator[Image.Image]:
    """The picture on white, unless it is too small or not a picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(source)
            picture.draft("RGB", (1600, 1600))
            picture = picture.convert("RGBA")
    except (OSError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        print(f"skipped {source}: {error}")
        return
    if min(picture.size) >= 128:
        picture.thumbnail((1600, 1600), Image.Resampling.BOX)
        white = Image.new("RGBA", picture.size, "white")
        yield Image.alpha_composite(white, picture).convert("RGB")


def crops(picture: Image.Image, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """The whole picture, and parts of a large one."""
    size = (SIDE, SIDE)
    yield np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
    for _ in range(CROPS if min(picture.size) >= 2 * SIDE else 0):
        side = int(min(picture.size) * rng.uniform(0.3, 0.8))
        left, top = (int(rng.integers(n - side)) for n in picture.size)
        part = picture.crop((left, top, left + side, top + side))
        if np.asarray(part).std() > 20:  # not only sky
            yield np.asarray(part.resize(size, Image.Resampling.BICUBIC))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    found = [crop for picture in pictures(args.assets) for crop in crops(picture, rng)]
    np.savez(args.out, photographs=np.stack(found))
    print(f"{args.out}: {len(found)} pictures")


if __name__ == "__main__":
    main()
