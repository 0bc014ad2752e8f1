"""Linear layers that hold 16-bit weights in memory and compute in float32, for CPUs.

Released weights have 16 bits. As float32 they take twice the memory, and a token, which costs one reading of all of
them, twice the time. FBGEMM's kernel reads float16 weights and multiplies and adds in float32.

A bfloat16 number between 2⁻¹⁷ and 65504 is the same in float16; a smaller one moves by 2⁻²⁵ at most. A layer whose
weights would move further, because they were trained in float32, stays as it is.

Bringing the weights into the kernel's order costs as much as some two hundred tokens, once: it is for sessions,
servers and batches, not for one short answer.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)
LARGEST_CHANGE = 2.0**-25  # half a step of float16's smallest numbers


class PackedLinear(nn.Module):
    """y = x Wᵀ + b in float32, of float16 W. For inference: it has no parameters. [..., in] → [..., out]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed: Any = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return out

    @property
    def weight(self) -> Tensor:
        """A copy in float32: [out, in]."""
        weight: Tensor = torch.ops.quantized.linear_unpack_fp16(self._packed)[0]
        return weight

    @property
    def bias(self) -> Tensor | None:
        """A copy: [out]."""
        bias: Tensor | None = torch.ops.quantized.linear_unpack_fp16(self._packed)[1]
        return bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, held in float16"

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias


def pack(module: nn.Module) -> int:
    """Replace the linear layers inside `module`, in place, where that changes no result beyond float32 rounding.

    Does nothing unless the module is float32 on a CPU for which torch has the kernel.

    Returns:
        How many layers were replaced.
    """
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        logger.debug("this torch has no FBGEMM; weights stay in float32")
        return 0
    places = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and _exact(child.weight)
    ]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # one layer's packing runs on one thread
        for parent, name, packed in pool.map(lambda place: (*place[:2], PackedLinear(place[2])), places):
            setattr(parent, name, packed)
    return len(places)


def _exact(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    return all(
        float((rows - rows.half().float()).abs().max()) <= LARGEST_CHANGE for rows in weight.detach().split(4096)
    )
