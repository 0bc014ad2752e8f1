"""Labelled pictures and recordings (the packs of recipes/nano), and textures made from them.

PicturePack ── texture(thing) ──► u8[96, 96, 4]   a photo, a cut-out, a drawing or a shape; tinted; one to three of it
SoundPack   ── cut ──► f32[S]                     a stretch of a recording
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...errors import EmptyMedia, MediaNotFound

TEXTURE_SIDE = 96
PHOTO_CLASSES = (
    "an airplane", "a car", "a bird", "a cat", "a deer", "a dog", "a frog", "a horse", "a ship", "a truck",
)  # fmt: skip
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35), "orange": (250, 135, 20), "yellow": (250, 220, 30), "green": (35, 160, 60),
    "blue": (35, 80, 220), "purple": (125, 45, 175), "black": (20, 20, 22), "white": (246, 246, 246),
}  # fmt: skip
# name -> corners in a unit square; a circle has none
SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "a circle": (),
    "a square": ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)),
    "a triangle": ((0.5, 0.06), (0.96, 0.9), (0.04, 0.9)),
    "a diamond": ((0.5, 0.02), (0.85, 0.5), (0.5, 0.98), (0.15, 0.5)),
    "a cross": (
        (0.36, 0.05), (0.64, 0.05), (0.64, 0.36), (0.95, 0.36), (0.95, 0.64), (0.64, 0.64), (0.64, 0.95), (0.36, 0.95),
        (0.36, 0.64), (0.05, 0.64), (0.05, 0.36), (0.36, 0.36),
    ),
    "a star": tuple(
        (0.5 + r * float(np.sin(k * np.pi / 5)), 0.53 - r * float(np.cos(k * np.pi / 5)))
        for k, r in enumerate((0.5, 0.2) * 5)
    ),
}  # fmt: skip


def _no_pictures() -> NDArray[np.uint8]:
    return np.zeros((0, TEXTURE_SIDE, TEXTURE_SIDE, 4), np.uint8)


@dataclass(frozen=True)
class PicturePack:
    """Labelled pictures: small square photos of ten classes, and many more things on transparent background.

    Attributes:
        photos: u8[N, 32, 32, 3]; `photo_labels` i64[N] index `PHOTO_CLASSES`.
        stamps: u8[M, 96, 96, 4] with transparency; `stamp_names` M texts such as "a green pepper". There is one picture
            per name, in both splits.
        drawings: u8[D, 96, 96, 4], several per name; those of the test split are by another artist.
    """

    photos: NDArray[np.uint8]
    photo_labels: NDArray[np.int64]
    stamps: NDArray[np.uint8]
    stamp_names: tuple[str, ...]
    drawings: NDArray[np.uint8] = field(default_factory=_no_pictures)
    drawing_names: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path, split: str) -> "PicturePack":
        """The `split` ("train" or "test") of a pack that recipes/nano/pictures.py wrote."""
        with _open_pack(path) as pack:
            drawn: tuple[Any, ...] = ()
            if "drawings" in pack:  # missing in packs of the first nano
                chosen = pack["drawing_splits"] == split
                drawn = pack["drawings"][chosen], tuple(pack["drawing_names"][chosen].tolist())
            photos = pack[f"photos_{split}"], pack[f"labels_{split}"]
            return cls(*photos, pack["stamps"], tuple(pack["stamp_names"].tolist()), *drawn)

    @cached_property
    def by_label(self) -> dict[str, NDArray[np.int64]]:
        """Photo class → indices of its photos."""
        return {name: np.flatnonzero(self.photo_labels == i) for i, name in enumerate(PHOTO_CLASSES)}

    @cached_property
    def by_drawing(self) -> dict[str, list[int]]:
        """Name → indices of its drawings."""
        out: dict[str, list[int]] = {}
        for i, name in enumerate(self.drawing_names):
            out.setdefault(name, []).append(i)
        return out

    def texture(self, picture: str) -> NDArray[np.uint8]:
        """u8[96, 96, 4] of "photo:i", "stamp:i", "drawing:i" or "shape:name"."""
        kind, _, which = picture.partition(":")
        match kind:
            case "stamp":
                return self.stamps[int(which)]
            case "drawing":
                return self.drawings[int(which)]
            case "shape":
                return shape(which)
        small = Image.fromarray(self.photos[int(which)])
        photo = np.asarray(small.resize((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.BICUBIC))
        return np.concatenate([photo, np.full((TEXTURE_SIDE, TEXTURE_SIDE, 1), 255, np.uint8)], axis=2)


def shape(name: str) -> NDArray[np.uint8]:
    """u8[96, 96, 4]: a white shape of `SHAPES`."""
    big = TEXTURE_SIDE * 4  # downscaled for smooth edges
    mask = Image.new("L", (big, big))
    corners = [(x * big, y * big) for x, y in SHAPES[name]]
    if corners:
        ImageDraw.Draw(mask).polygon(corners, fill=255)
    else:
        ImageDraw.Draw(mask).ellipse((big * 0.05, big * 0.05, big * 0.95, big * 0.95), fill=255)
    alpha = np.asarray(mask.resize((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.LANCZOS))
    return np.concatenate([np.full((TEXTURE_SIDE, TEXTURE_SIDE, 3), 255, np.uint8), alpha[..., None]], axis=2)


def tint(texture: NDArray[np.uint8], colour: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture in shades of one of `COLOURS`, randomly varied."""
    base = np.clip(np.array(COLOURS[colour], np.float32) + rng.normal(0, 8, 3), 0, 255)
    light = texture[..., :3].astype(np.float32).mean(-1, keepdims=True) / 255
    shaded = base * (0.55 + 0.45 * light)
    return np.concatenate([shaded.astype(np.uint8), texture[..., 3:]], axis=2)


def repeat(texture: NDArray[np.uint8], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`count` (1 to 4) copies of a picture in one texture, without overlap."""
    if count == 1:
        return texture
    half = TEXTURE_SIDE // 2
    out = np.zeros_like(texture)
    for cell in rng.permutation(4)[:count]:
        side = int(rng.integers(half - 8, half - 2))
        small = np.asarray(Image.fromarray(texture).resize((side, side), Image.Resampling.BILINEAR))
        y, x = (int(c) * half + int(rng.integers(0, half - side + 1)) for c in divmod(int(cell), 2))
        out[y : y + side, x : x + side] = small
    return out


@dataclass(frozen=True)
class SoundPack:
    """Labelled recordings: one long int16 wave at 16 kHz, and each recording's span in it."""

    wave: NDArray[np.int16]
    labels: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    by_label: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, split: str) -> "SoundPack":
        """The `split` ("train" or "test") of a pack that recipes/nano/sounds.py wrote."""
        with _open_pack(path) as pack:
            index = [r for r in json.loads(str(pack["index"])) if r["split"] == split]
            wave = pack["wave"]
        return cls.of(wave, [(r["label"], r["start"], r["stop"]) for r in index])

    @classmethod
    def of(cls, wave: NDArray[np.int16], index: list[tuple[str, int, int]]) -> "SoundPack":
        by_label: dict[str, list[int]] = {}
        for i, (label, _, _) in enumerate(index):
            by_label.setdefault(label, []).append(i)
        return cls(wave, tuple(i[0] for i in index), tuple((i[1], i[2]) for i in index), by_label)

    def cut(self, recording: int, offset: float, samples: int) -> NDArray[np.float32]:
        """f32[samples] of a recording from `offset` (a fraction of its spare length), repeated if too short.

        Raises:
            EmptyMedia: the recording has no samples.
        """
        start, stop = self.spans[recording]
        begin = start + int(offset * max(0, stop - start - samples))
        piece = self.wave[begin : min(stop, begin + samples)].astype(np.float32) / 32768
        if piece.size == 0:
            raise EmptyMedia(f"recording {recording} has no samples; rebuild the pack of sounds.")
        return np.resize(piece, samples)


def _open_pack(path: Path) -> Any:
    if not path.is_file():
        raise MediaNotFound(f"pack {path} not found; build it with recipes/nano (see its README.md).")
    return np.load(path, allow_pickle=False)
