"""Frozen DINOv2 features of the sweep's clips: encoded once, stored in pieces, and reduced to fewer channels."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rendering import frames_to_pixels
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scenes import FRAMES, Happening, happening
from torch import Tensor
from transformers import Dinov2Model

from videollama2.data.composed.drawing import render_frames
from videollama2.data.composed.packs import PicturePack
from videollama2.vision import encode_frames

logger = logging.getLogger("sweep")

SIDE, DRAWN_SIDE = 84, 168  # pixels: 6 × 6 patches
PIECE = 50  # clips per file
FIRST_SEED = {"train": 1_000_000, "test": 2_000_000}


@dataclass(frozen=True)
class Encoded:
    """Encoded clips: `patches` float32 [clips, FRAMES, h·w, width], and what each clip shows (`told`)."""

    patches: Tensor
    told: list[Happening]


def encode_split(vision: Path, pictures: Path, split: str, count: int, folder: Path) -> list[Path]:
    """Encode `count` clips of a split, except pieces that exist in `folder`; returns the pieces' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [folder / f"{split}-{i:04d}.safetensors" for i in range(-(-count // PIECE))]
    missing = [p for p in pieces if not p.is_file()]
    if not missing:
        return pieces
    encoder = Dinov2Model.from_pretrained(vision, dtype=torch.float32).eval().requires_grad_(False)
    layer = min(11, encoder.config.num_hidden_layers)  # as in nano: all but the last of 12 blocks
    photos = PicturePack.load(pictures, split)
    for path in missing:
        first = FIRST_SEED[split] + int(path.stem[-4:]) * PIECE
        frames = np.stack(
            [render_frames(happening(first + i, photos)[1], photos, FRAMES, DRAWN_SIDE) for i in range(PIECE)]
        )
        encoded = []
        for clip in torch.from_numpy(frames).split(4):
            pixels = frames_to_pixels(clip.permute(0, 1, 4, 2, 3).float(), SIDE)
            encoded.append(encode_frames(encoder, pixels.flatten(0, 1), layer).unflatten(0, (-1, FRAMES)))
        unfinished = path.with_suffix(".part")
        save_file({"patches": torch.cat(encoded).half()}, unfinished)
        unfinished.replace(path)
        logger.info("%s: %d clips", path.name, PIECE)
    return pieces


def reduction(pieces: list[Path], width: int) -> tuple[Tensor, Tensor]:
    """A linear map to `width` channels: principal components of the standardised channels, of unit mean variance.

    Rows without a RegStage require features as wide as the language model, as in the original, so all rows get the same
    narrow features.

    Returns:
        (matrix [384, width], offset [width]): features · matrix + offset.
    """
    sample = torch.cat([_read(p)[:, ::3] for p in pieces[:20]]).flatten(0, 2).float()
    mean, std = sample.mean(0), sample.std(0).clamp_min(1e-6)
    standard = (sample - mean) / std
    values, vectors = torch.linalg.eigh(standard.T @ standard / len(standard))
    kept = vectors[:, -width:].flip(1)
    scale = values[-width:].mean().sqrt()
    logger.info(
        "%d of %d channels keep %.0f %% of the variance", width, len(mean), 100 * values[-width:].sum() / values.sum()
    )
    matrix = kept / std[:, None] / scale
    return matrix, -(mean @ matrix)


def encoded_clips(vision: Path, pictures: Path, counts: dict[str, int], width: int, folder: Path) -> dict[str, Encoded]:
    """Both splits with `width` channels, encoding what is missing."""
    pieces = {s: encode_split(vision, pictures, s, n, folder) for s, n in counts.items()}
    reduced = folder / f"reduce-{width}.safetensors"
    if not reduced.is_file():
        matrix, offset = reduction(pieces["train"], width)
        save_file({"matrix": matrix.contiguous(), "offset": offset.contiguous()}, reduced)
    with safe_open(reduced, "pt") as file:
        matrix, offset = file.get_tensor("matrix"), file.get_tensor("offset")
    out = {}
    for split, count in counts.items():
        photos = PicturePack.load(pictures, split)
        told = [happening(FIRST_SEED[split] + i, photos)[0] for i in range(count)]
        patches = torch.cat([_read(p).float() @ matrix + offset for p in pieces[split]])[:count]
        out[split] = Encoded(patches, told)
    return out


def _read(path: Path) -> Tensor:
    return load_file(path)["patches"]
