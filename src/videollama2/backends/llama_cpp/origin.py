"""Which weights a GGUF file was written from: a few values of them, kept in the file and beside the encoders.

A file of the same shape may come from another revision, or from before a fine-tuning, whose adapters change matrices
alone. Values are kept, not hashes: the same weights in 16 bits, or merged on another machine, are the same weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import TensorMismatch
from ...weights.files import LazyTensor
from .families import PREFIX

KEY = "videollama2.weights"  # of the GGUF file's metadata
METADATA = "language_model"  # of the encoders' safetensors
_ROWS = _COLUMNS = 8  # of a tensor
_SAMPLED = ("input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight")
_ROUNDING = 2.0**-8  # of bfloat16
_DIFFERENT = 0.1  # share of a tensor's values that differ by more


def sample(tensors: Mapping[str, LazyTensor]) -> str:
    """Values of a checkpoint's language model as JSON, {tensor: values}; empty if it has none."""
    layers = sorted({int(n.split(".")[3]) for n in tensors if n.startswith(f"{PREFIX}layers.")})
    picked = {layers[0], layers[len(layers) // 2], layers[-1]} if layers else set()
    names = [f"{PREFIX}norm.weight", *(f"{PREFIX}layers.{k}.{name}" for k in sorted(picked) for name in _SAMPLED)]
    found = {name.removeprefix(PREFIX): _values(tensors[name][...]) for name in names if name in tensors}
    return json.dumps(found) if found else ""


def check_same(stated: Any, expected: str, path: Path, advice: str) -> None:
    """Compare the values that a GGUF file states with the checkpoint's; either may be unknown.

    Raises:
        TensorMismatch: it was written from other weights.
    """
    theirs, ours = _parsed(stated), _parsed(expected)
    for name in theirs.keys() & ours.keys():
        a, b = (np.array(values, np.float64) for values in (theirs[name], ours[name]))
        if a.shape != b.shape or np.mean(~np.isclose(a, b, rtol=_ROUNDING, atol=1e-8)) > _DIFFERENT:
            raise TensorMismatch(
                f"{path} has the shape of this checkpoint's language model, but was written from other weights "
                f"({name} differs); {advice}"
            )


def _values(tensor: Tensor) -> list[float]:
    """Some of each of the first rows, evenly spaced."""
    rows = tensor.view(1, -1) if tensor.dim() == 1 else tensor.flatten(1)
    step = max(1, rows.shape[1] // _COLUMNS)
    return [float(f"{value:.6g}") for value in rows[:_ROWS, ::step].float().flatten().tolist()]


def _parsed(text: Any) -> dict[str, list[float]]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return {name: v for name, v in found.items() if isinstance(v, list)} if isinstance(found, dict) else {}
