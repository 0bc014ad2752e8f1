"""Scenes to frames: a batch of scenes on any device, or one scene as an array.

Shapes: B scenes, K things per scene, T frames, S texture side, G background grid side.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .packs import TEXTURE_SIDE, PicturePack, repeat, tint
from .scenes import MAX_THINGS, Scene, poses

GRID_SIDE = 12


def backdrop_grid(scene: Scene) -> NDArray[np.uint8]:
    """u8[G, G, 3]: random background colours, from nearly uniform to busy."""
    rng = np.random.default_rng(scene.backdrop)
    cells = int(rng.choice((2, 3, 4, 6, 12)))
    base, spread = rng.uniform(20, 235, 3), float(rng.uniform(5, 90))
    colours = np.clip(base + rng.normal(0, spread, (cells, cells, 3)), 0, 255).astype(np.uint8)
    return np.array(Image.fromarray(colours).resize((GRID_SIDE, GRID_SIDE), Image.Resampling.BICUBIC))


def batch_frames(textures: Tensor, poses: Tensor, grids: Tensor, drifts: Tensor, times: Tensor, side: int) -> Tensor:
    """Draw a batch of scenes.

    Args:
        textures: u8[B, K, S, S, 4]. poses: f32[B, K, T, 4] as from `poses`. grids: u8[B, G, G, 3].
        drifts: f32[B, 2]. times: f32[T] in 0..1, those of the poses. side: of the square frames, in pixels.

    Returns:
        f32[B, T, 3, side, side] in 0..255, on the inputs' device.
    """
    B, K, T, _ = poses.shape
    device = textures.device
    axis = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
    ys, xs = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([xs, ys], dim=-1)  # [side, side, 2] in 0..1

    # the frame shows the middle of the background, which leaves room to slide
    slid = (points - 0.5) * 1.2 + (times.view(1, T, 1, 1, 1) - 0.5) * drifts.view(B, 1, 1, 1, 2) * 2
    wide = grids.permute(0, 3, 1, 2).float().unsqueeze(1).expand(B, T, 3, GRID_SIDE, GRID_SIDE).flatten(0, 1)
    canvas = F.grid_sample(wide, slid.flatten(0, 1), padding_mode="reflection", align_corners=False)

    for k in range(K):
        pose = poses[:, k].reshape(B * T, 1, 1, 4)
        grid = (points - pose[..., :2]) / pose[..., 2:3].clamp_min(1e-3) * 2
        texture = textures[:, k].permute(0, 3, 1, 2).float() / 255
        texture = torch.cat([texture[:, :3] * texture[:, 3:], texture[:, 3:]], dim=1)  # premultiplied alpha
        texture = texture.unsqueeze(1).expand(B, T, *texture.shape[1:]).flatten(0, 1)
        drawn = F.grid_sample(texture, grid, padding_mode="zeros", align_corners=False) * pose[..., 3].unsqueeze(1)
        canvas = canvas * (1 - drawn[:, 3:]) + drawn[:, :3] * 255
    return canvas.view(B, T, 3, side, side)


def scene_arrays(scene: Scene, pictures: PicturePack | None, times: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """The inputs of `batch_frames` for one scene (textures, poses, grids, drifts), without the batch axis."""
    textures = np.zeros((MAX_THINGS, TEXTURE_SIDE, TEXTURE_SIDE, 4), np.uint8)
    for k, thing in enumerate(scene.things):
        assert pictures is not None
        rng = np.random.default_rng((scene.seed, k))
        texture = pictures.texture(thing.picture)
        if thing.colour is not None:
            texture = tint(texture, thing.colour, rng)
        textures[k] = repeat(texture, thing.count, rng)
    return {
        "textures": textures,
        "poses": poses(scene, times),
        "grids": backdrop_grid(scene),
        "drifts": np.array(scene.drift, np.float32),
    }


def render_frames(scene: Scene, pictures: PicturePack, count: int, side: int) -> NDArray[np.uint8]:
    """u8[count, side, side, 3]: frames at evenly spaced times, from the start to the end of the clip."""
    times = np.linspace(0, 1, count)
    arrays = {k: torch.from_numpy(v)[None] for k, v in scene_arrays(scene, pictures, times).items()}
    frames = batch_frames(**arrays, times=torch.from_numpy(times).float(), side=side)
    return frames[0].round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
