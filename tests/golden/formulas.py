"""Weights and inputs by formula: the same on every machine, without a file."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn


def wave(shape: Iterable[int], step: float, phase: float = 0.0) -> Tensor:
    """sin(step·i + phase), float64, i counting the elements of `shape` in order."""
    shape = tuple(shape)
    count = int(torch.tensor(shape).prod())
    return torch.sin(step * torch.arange(count, dtype=torch.float64) + phase).reshape(shape)


def weights(shapes: Mapping[str, torch.Size], scale: float = 0.05) -> dict[str, Tensor]:
    """Names sorted, k their index: element j is scale·sin(0.37·j + k), plus 1 for one-dimensional weights (norms)."""
    made = {}
    for k, name in enumerate(sorted(shapes)):
        tensor = scale * wave(shapes[name], 0.37, k)
        if name.endswith(".weight") and len(shapes[name]) == 1:
            tensor = tensor + 1
        made[name] = tensor.float()
    return made


def fill(module: nn.Module, scale: float = 0.05) -> None:
    """Load `weights` into every tensor of a module."""
    module.load_state_dict(weights({name: t.shape for name, t in module.state_dict().items()}, scale))


def fill_noise(module: nn.Module, scale: float, seed: int) -> None:
    """Load `noise` into every tensor, in the order of their names. No two rows are alike, so no two tokens tie."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    values = noise((sum(shape.numel() for shape in shapes.values()),), seed).float() * scale
    parts = values.split([shapes[name].numel() for name in sorted(shapes)])
    norms = {name for name in shapes if name.endswith(".weight") and len(shapes[name]) == 1}
    module.load_state_dict(
        {n: part.reshape(shapes[n]) + (n in norms) for n, part in zip(sorted(shapes), parts, strict=True)}
    )


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Uniform in [-1, 1), float64, from a linear congruential generator, so that it depends on no library."""
    state, values = seed, np.empty(int(np.prod(shape)))
    for i in range(len(values)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values[i] = (state >> 11) / 2**52 - 1
    return torch.from_numpy(values).reshape(shape)


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 [height, width, 3]: a ramp in each channel, with noise on it."""
    ramp = np.stack([np.indices((height, width))[i % 2] * (3 + i) for i in range(3)], -1)
    return ((ramp + 40 * noise((height, width, 3), seed).numpy()) % 256).astype(np.uint8)
