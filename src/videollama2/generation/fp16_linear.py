"""Linear layers that store float16 weights and compute in float32, for CPUs.

Released weights have 16 bits. Stored as float32 they take twice the memory and, since each token reads every weight
once, twice the time. FBGEMM's kernel reads float16 weights and multiplies and accumulates in float32.

Every bfloat16 number between 2⁻¹⁷ and 65504 is exact in float16; smaller ones change by at most 2⁻²⁵. A layer whose
weights would change by more (because they were trained in float32) is not converted.

Reordering the weights for the kernel costs about as much as two hundred tokens, once: worth it for sessions, servers
and batches, not for a single short answer.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from ..linear import MANY_ROWS, Linear, applies_to, onednn_leads

logger = logging.getLogger(__name__)
LARGEST_CHANGE = 2.0**-25  # half a step of float16's smallest numbers


class Fp16Linear(nn.Module):
    """y = x Wᵀ + b in float32, with W stored in float16: [..., in] → [..., out]. For inference: no parameters."""

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
        """A float32 copy: [out, in]."""
        weight: Tensor = torch.ops.quantized.linear_unpack_fp16(self._packed)[0]
        return weight

    @property
    def bias(self) -> Tensor | None:
        """A float32 copy: [out]."""
        bias: Tensor | None = torch.ops.quantized.linear_unpack_fp16(self._packed)[1]
        return bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, weights=float16"

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias


def arithmetic(model: Any) -> str:
    """What computes products: `oneDNN`, `torch`, both (one for prompts, one for tokens), or `float16 weights`."""
    head = model.get_output_embeddings()
    if isinstance(head, Fp16Linear):
        return "float16 weights"
    if not isinstance(head, Linear) or not applies_to(head.weight):
        return "torch"
    prompts, tokens = ("oneDNN" if onednn_leads(rows) else "torch" for rows in (MANY_ROWS, 1))
    return prompts if prompts == tokens else f"{prompts} and {tokens}"


def available() -> bool:
    """Whether this torch has the kernel."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def convert_linears(module: nn.Module, *, widen: bool = False) -> int:
    """Replace the linear layers of `module` in place, if results stay the same up to float32 rounding.

    Does nothing unless the module is float32 and on a CPU for which torch has the kernel.

    Args:
        widen: a module in bfloat16 becomes float32, layer by layer, so that its float32 weights are never in memory at
            once.

    Returns:
        How many layers were replaced.
    """
    if not available():
        logger.debug("this torch has no FBGEMM; weights stay in float32")
        return 0
    places = [
        (parent, name)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear) and type(child) in (nn.Linear, Linear) and _convertible(child.weight, widen)
    ]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # packing one layer uses one thread
        for (parent, name), converted in zip(
            places, pool.map(lambda place: Fp16Linear(getattr(*place)), places), strict=True
        ):
            setattr(parent, name, converted)  # which frees the layer
    if widen:
        module.float()  # what is left of a module in bfloat16
    return len(places)


def _convertible(weight: Tensor, widen: bool) -> bool:
    known = (torch.float32, torch.bfloat16) if widen else (torch.float32,)
    if weight.device.type != "cpu" or weight.dtype not in known:
        return False
    return all(
        float((rows.float() - rows.half().float()).abs().max()) <= LARGEST_CHANGE
        for rows in weight.detach().split(4096)
    )
