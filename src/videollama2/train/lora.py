"""Low-rank adapters on the language model's linear layers: W·x + B·(A·x)·scale."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraLinear(nn.Linear):
    """A linear layer with an adapter; its own weight keeps its name, so checkpoints load as before."""

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    scale: float

    @classmethod
    def adapt(cls, linear: nn.Linear, rank: int, alpha: float) -> "LoraLinear":
        """Turn `linear` into one with an adapter that changes nothing yet."""
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
    """Adapt every linear layer whose last name is in `targets`; returns how many."""
    chosen = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.rsplit(".", 1)[-1] in targets]
    for linear in chosen:
        LoraLinear.adapt(linear, rank, alpha)
    return len(chosen)


def adapter_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """`<module>.lora_A` and `<module>.lora_B` of every adapter, the scale folded into B."""
    out: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            out[f"{name}.lora_A"] = module.lora_A.detach()
            out[f"{name}.lora_B"] = module.lora_B.detach() * module.scale
    return out
