"""The names of the original's tensors, and ours (spec §2)."""

import re
from collections.abc import Iterable

import torch

from ..errors import TensorMismatch

# BEATs' positional convolution in the three spellings of weight norm that torch has had.
_WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
_SHARED_BIAS = re.compile(r"^encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight$")
OUR_SHARED_BIAS = "encoder.relative_attention_bias.weight"


def beats_name(name: str) -> str:
    """Our name for a BEATs tensor of the original (names below `audio_tower.`)."""
    if _SHARED_BIAS.match(name):
        return OUR_SHARED_BIAS
    head, _, last = name.rpartition(".")
    if head == "encoder.pos_conv.0" and last in _WEIGHT_NORM:
        return f"{head}.{_WEIGHT_NORM[last]}"
    return name


def beats_state_dict(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A BEATs state dict of the original under our names; 1 … L copies of the shared bias become one.

    Raises:
        TensorMismatch: the copies differ.
    """
    ours: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        target = beats_name(name)
        if target in ours and not torch.equal(ours[target], tensor):
            raise TensorMismatch(f"copies of the shared relative_attention_bias differ (seen at {name})")
        ours.setdefault(target, tensor)
    return ours


def shared_bias_copies(names: Iterable[str], prefix: str) -> list[str]:
    """The copies of BEATs' shared bias among `names` that start with `prefix`, in order."""
    return sorted(n for n in names if n.startswith(prefix) and _SHARED_BIAS.match(n.removeprefix(prefix)))
