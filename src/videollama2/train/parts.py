"""What of a model was trained, as one file: whole parts, and a language model's adapters without the model.

This is what ships with the package (weights/nano.py joins it with its base), and what one phase hands to the next.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import TensorMismatch
from ..phases import part_of
from .lora import LoraLinear, adapter_state_dict

logger = logging.getLogger(__name__)

LANGUAGE = "model.language_model."


def trained_parts(model: nn.Module, parts: set[str]) -> dict[str, Tensor]:
    """The tensors of these parts, under their names in the model, and the language model's adapters (scale in B)."""
    out = {n: p for n, p in model.state_dict().items() if "lora_" not in n and part_of(n) in parts}
    adapters = adapter_state_dict(model)
    return out | {n: t for n, t in adapters.items() if n.startswith(LANGUAGE)}


def save_parts(model: nn.Module, parts: set[str], path: Path) -> None:
    """`trained_parts` as float16 safetensors, written whole or not at all."""
    tensors = {n: t.detach().to("cpu", torch.float16).contiguous() for n, t in trained_parts(model, parts).items()}
    unfinished = path.with_suffix(".part")
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.replace(path)
    logger.info("wrote %s: %d tensors, %.1f MB", path, len(tensors), path.stat().st_size / 1e6)


@torch.no_grad()
def load_parts(model: Any, path: Path) -> None:
    """Put a file of `save_parts` into a model, which has its adapters already where the file has any.

    Raises:
        TensorMismatch: the file holds a tensor that the model has not, or of another shape.
    """
    scales = {n: m.scale for n, m in model.named_modules() if isinstance(m, LoraLinear)}
    own = model.state_dict()
    for name, tensor in load_file(path).items():
        if name not in own or own[name].shape != tensor.shape:
            has = tuple(own[name].shape) if name in own else "nothing"
            raise TensorMismatch(f"{path} has {name} of shape {tuple(tensor.shape)}, the model has {has} there")
        module, _, last = name.rpartition(".")
        own[name].copy_(tensor.float() / scales[module] if last == "lora_B" else tensor.float())
