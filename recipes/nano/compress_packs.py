"""Compress the packs to about 50 MB, for a machine that can't fetch the packages; lossy (JPEG and Vorbis).

    python recipes/nano/compress_packs.py pack pictures.npz sounds.npz FOLDER [--photos 40000]
    python recipes/nano/compress_packs.py unpack FOLDER pictures.npz sounds.npz

Needs the package `soundfile`. Of the test split, only what training uses is kept: 2,000 photos, and up to a minute of
sound per class. Photos are stored as JPEG 4:4:4, quality 85, each 32 × 32 tile aligned to block boundaries.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

TILES, RATE, TEST_SECONDS = 1000, 16_000, 60


def mosaic(photos: np.ndarray) -> bytes:
    tiles = photos.reshape(25, 40, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(800, 1280, 3)
    out = io.BytesIO()
    Image.fromarray(tiles).save(out, "JPEG", quality=85, subsampling=0, optimize=True)
    return out.getvalue()


def tiles(jpeg: bytes) -> np.ndarray:
    picture = np.asarray(Image.open(io.BytesIO(jpeg)))
    return picture.reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(TILES, 32, 32, 3)


def strip(pictures: np.ndarray) -> np.ndarray:
    """u8[N, 96, 96, 4] → the bytes of one tall PNG."""
    out = io.BytesIO()
    Image.fromarray(pictures.reshape(-1, 96, 4), "RGBA").save(out, "PNG")
    return np.frombuffer(out.getvalue(), np.uint8)


def pack(pictures: Path, sounds: Path, folder: Path, photos: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    small: dict[str, np.ndarray] = {}
    with np.load(pictures) as data:
        for split, count in (("train", photos), ("test", 2000)):
            jpegs = [mosaic(data[f"photos_{split}"][i : i + TILES]) for i in range(0, count, TILES)]
            small[f"sizes_{split}"] = np.array([len(j) for j in jpegs])
            small[f"jpegs_{split}"] = np.frombuffer(b"".join(jpegs), np.uint8)
            small[f"labels_{split}"] = data[f"labels_{split}"][:count]
        for name in ("stamps", "drawings"):
            small[name] = strip(data[name])
        for name in ("stamp_names", "drawing_names", "drawing_splits"):
            small[name] = data[name]
    np.savez(folder / "pictures.npz", **small)
    with np.load(sounds) as data:
        index, wave = json.loads(str(data["index"])), data["wave"]
    kept, pieces, total, test = [], [], 0, {}
    for r in index:
        seconds = (r["stop"] - r["start"]) / RATE
        if r["split"] == "test" and test.get(r["label"], 0) > TEST_SECONDS:
            continue
        if r["split"] == "test":
            test[r["label"]] = test.get(r["label"], 0) + seconds
        pieces.append(wave[r["start"] : r["stop"]])
        kept.append({**r, "start": total, "stop": total + pieces[-1].size})
        total += pieces[-1].size
    with soundfile.SoundFile(
        folder / "sounds.ogg", "w", RATE, 1, format="OGG", subtype="VORBIS", compression_level=0.85
    ) as out:
        joined = np.concatenate(pieces)
        for i in range(0, joined.size, RATE * 10):  # one long write overflows the encoder's stack
            out.write(joined[i : i + RATE * 10])
    (folder / "sounds.json").write_text(json.dumps(kept))


def unpack(folder: Path, pictures: Path, sounds: Path) -> None:
    full: dict[str, np.ndarray] = {}
    with np.load(folder / "pictures.npz") as data:
        for split in ("train", "test"):
            ends = np.cumsum(data[f"sizes_{split}"])
            raw = data[f"jpegs_{split}"].tobytes()
            starts = np.concatenate([[0], ends[:-1]])
            full[f"photos_{split}"] = np.concatenate([tiles(raw[a:b]) for a, b in zip(starts, ends, strict=True)])
            full[f"labels_{split}"] = data[f"labels_{split}"]
        for name in ("stamp_names", "drawing_names", "drawing_splits"):
            full[name] = data[name]
        for name in ("stamps", "drawings"):
            tall = np.asarray(Image.open(io.BytesIO(data[name].tobytes())).convert("RGBA"))
            full[name] = tall.reshape(-1, 96, 96, 4)
    np.savez(pictures, **full)
    index = json.loads((folder / "sounds.json").read_text())
    wave, _ = soundfile.read(folder / "sounds.ogg", dtype="int16")
    if wave.size < index[-1]["stop"]:
        raise SystemExit(f"sounds.ogg has {wave.size} samples, expected {index[-1]['stop']}")
    np.savez(sounds, wave=wave, index=json.dumps(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("pack", "unpack"))
    parser.add_argument("paths", type=Path, nargs=3)
    parser.add_argument("--photos", type=int, default=40_000)
    args = parser.parse_args()
    if args.action == "pack":
        pack(*args.paths, args.photos)
    else:
        unpack(*args.paths)


if __name__ == "__main__":
    main()
