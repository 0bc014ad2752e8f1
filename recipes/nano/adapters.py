"""nano's adapters, W·x + B·(A·x)·scale, and the file that holds what was trained: whole parts and adapters.

That file ships with the package, which merges the adapters into the base model (weights/nano.py), and one stage of
training starts from the file of the stage before.
"""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from videollama2.errors import TensorMismatch
from videollama2.phases import part_of
from videollama2.weights.nano import LANGUAGE_PREFIX

logger = logging.getLogger("nano")

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraLinear(nn.Linear):
    """A linear layer with an adapter; its weight keeps its name, so checkpoints without adapters still load."""

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    scale: float

    @classmethod
    def adapt(cls, linear: nn.Linear, rank: int, alpha: float) -> "LoraLinear":
        """Give `linear` an adapter, in place; B starts at zero, so the output is unchanged."""
        linear.__class__ = cls
        assert isinstance(linear, cls)
        device = linear.weight.device
        linear.lora_A = nn.Parameter(torch.empty(rank, linear.in_features, device=device))
        linear.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank, device=device))
        linear.scale = alpha / rank
        nn.init.kaiming_uniform_(linear.lora_A, a=math.sqrt(5))
        return linear

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + F.linear(F.linear(input, self.lora_A), self.lora_B) * self.scale


def add_adapters(model: nn.Module, rank: int, alpha: float, targets: tuple[str, ...] = TARGETS) -> int:
    """Adapt the linear layers whose last name is in `targets`; returns how many."""
    chosen = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.rsplit(".", 1)[-1] in targets]
    for linear in chosen:
        LoraLinear.adapt(linear, rank, alpha)
    return len(chosen)


def adapter_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """`<module>.lora_A` and `<module>.lora_B` of every adapter, with the scale folded into B."""
    out: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            out[f"{name}.lora_A"] = module.lora_A.detach()
            out[f"{name}.lora_B"] = module.lora_B.detach() * module.scale
    return out


def trained_parts(model: nn.Module, parts: set[str]) -> dict[str, Tensor]:
    """The tensors of these parts and the language model's adapters, by their names in the model."""
    out = {n: p for n, p in model.state_dict().items() if "lora_" not in n and part_of(n) in parts}
    adapters = adapter_state_dict(model)
    return out | {n: t for n, t in adapters.items() if n.startswith(LANGUAGE_PREFIX)}


def save_parts(model: nn.Module, parts: set[str], path: Path) -> None:
    """Write `trained_parts` as float16 safetensors, atomically."""
    tensors = {n: t.detach().to("cpu", torch.float16).contiguous() for n, t in trained_parts(model, parts).items()}
    unfinished = path.with_suffix(".part")
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.replace(path)
    logger.info("wrote %s: %d tensors, %.1f MB", path, len(tensors), path.stat().st_size / 1e6)


@torch.no_grad()
def load_parts(model: Any, path: Path) -> None:
    """Load a file of `save_parts` into a model, which must have adapters already if the file has any.

    Raises:
        TensorMismatch: the file holds a tensor that the model lacks, or of another shape.
    """
    scales = {n: m.scale for n, m in model.named_modules() if isinstance(m, LoraLinear)}
    own = model.state_dict()
    for name, tensor in load_file(path).items():
        if name not in own or own[name].shape != tensor.shape:
            has = f"of shape {tuple(own[name].shape)}" if name in own else "missing"
            raise TensorMismatch(f"{path} holds {name} of shape {tuple(tensor.shape)}; in the model it is {has}")
        module, _, last = name.rpartition(".")
        own[name].copy_(tensor.float() / scales[module] if last == "lora_B" else tensor.float())
