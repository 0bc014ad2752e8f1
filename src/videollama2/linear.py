"""Linear layers whose float32 products on a CPU run in the faster of oneDNN and MKL.

torch gives float32 products to MKL. On some CPUs oneDNN, which torch has for bfloat16 and convolutions, is twice as
fast at every shape. On the others MKL is as fast or faster, for one row up to twice as fast. Which kind of CPU this is,
is measured once per process, for one row and for many (docs/log.md). The result is the same up to the order of
summation. Weights stay plain tensors: nothing is packed or copied.

Where the kernel doesn't apply (GPUs, other dtypes, autocast, compilation, transforms, tensor subclasses), the layers
do what torch's own do. `VIDEOLLAMA2_PRODUCTS=torch` turns it off.
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PLAIN = (Tensor, nn.Parameter)
# oneDNN is twice as fast as MKL on some CPUs and equal on others; where it is 1.2 times as fast, either will do
LEAD = 1.4
MANY_ROWS = 64  # that stand for any number above one
PROBE_SECONDS = 0.02


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: [..., in] × [out, in] → [..., out], as `F.linear`."""
    if not applies(x, weight) or not onednn_leads(1 if x.numel() == x.shape[-1] else MANY_ROWS):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        # rows, because the product of more dimensions is a view, which autograd lets nobody change in place, as AdaLoRA
        # does with a layer's output
        out: Tensor = _Product.apply(x if x.dim() == 2 else x.flatten(0, -2), weight, bias)
        return out if x.dim() == 2 else out.unflatten(0, x.shape[:-1])
    return _product(x, weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


class _Product(torch.autograd.Function):
    """The product with its gradients, which are products of the same kind."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = gradient.contiguous()
        return (
            linear(rows, weight.t()) if weight is not None else None,
            linear(rows.t(), x.t()) if x is not None else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` with the product of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class PointConv(nn.Conv2d):
    """A 1×1 convolution. [N, C, H, W] → [N, D, H, W]; with channels last in memory, it is the product of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        if not self._is_product() or not last.is_contiguous() or torch.compiler.is_compiling():
            return super().forward(x)
        return linear(last, self.weight.flatten(1), self.bias).movedim(-1, 1)

    def _is_product(self) -> bool:
        """PEFT makes other convolutions of a layer's own type."""
        one, none = (1, 1), (0, 0)
        plain = self.kernel_size == one and self.stride == one and self.padding == none and self.groups == 1
        return plain and self.weight.device.type == "cpu"


def use_onednn(module: nn.Module) -> int:
    """Let the linear layers inside `module` compute as `Linear` does; their parameters and names stay.

    Returns:
        How many layers were changed.
    """
    layers = [m for m in module.modules() if type(m) is nn.Linear]
    for layer in layers:
        layer.__class__ = Linear
    return len(layers)


def applies_to(weight: Tensor) -> bool:
    """Whether oneDNN has a kernel for products with these weights, outside of autocast, compilation and transforms."""
    return _AVAILABLE and weight.dtype == torch.float32 and weight.device.type == "cpu" and type(weight) in _PLAIN


def applies(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN has a kernel for their product, here and now."""
    return (
        applies_to(weight)
        and x.dtype == torch.float32
        and (weight.is_contiguous() or weight.t().is_contiguous())  # else oneDNN is slower by two orders of magnitude
        and x.device.type == "cpu"
        and type(x) in _PLAIN
        and x.dim() > 1
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not torch._C._are_functorch_transforms_active()
    )


@functools.cache
def onednn_leads(rows: int) -> bool:
    """Whether oneDNN is far faster than torch on this CPU, for one row or for MANY_ROWS; measured once per process."""
    if not _AVAILABLE:
        return False
    x, weight = probe_operands(rows)
    in_torch, in_onednn = cpu_seconds([lambda: F.linear(x, weight), lambda: _product(x, weight, None)])
    return in_torch >= LEAD * in_onednn


def probe_operands(rows: int = MANY_ROWS) -> tuple[Tensor, Tensor]:
    """Operands of a measured product, whatever torch's default device and dtype are."""
    one = {"dtype": torch.float32, "device": "cpu"}
    return torch.ones(rows, 512, **one), torch.ones(512, 512, **one)  # type: ignore[call-overload]


def cpu_seconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """CPU seconds of each call at its fastest, on one thread and in turns.

    Other processes and the scheduler hardly affect their ratios, so a command makes the same choice each time it runs.
    The first round, which generates code, doesn't count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best, started = [float("inf")] * len(calls), time.thread_time()
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            for run in range(12):
                for index, call in enumerate(calls):
                    before = time.thread_time()
                    call()
                    best[index] = min(best[index], time.thread_time() - before) if run else best[index]
                if run > 2 and time.thread_time() - started > PROBE_SECONDS:
                    break
    finally:
        torch.set_num_threads(threads)
    return best


_AVAILABLE = (
    os.environ.get("VIDEOLLAMA2_PRODUCTS", "onednn") != "torch"
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
