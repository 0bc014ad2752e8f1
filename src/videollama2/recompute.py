"""Activations that are computed again in the backward pass, because keeping them costs more memory than time.

    SiLU(LayerNorm(x))   keeps x, instead of x and the norm's output           (the connector)
    SiLU(gate) · up      keeps both factors, instead of SiLU(gate) as well     (the language model's gated layers)

Results and gradients are those of the plain operations, to the bit. Where an autograd function of our own does not
apply (hooks on the norm, compilation, transforms), the plain operations run.
"""

import functools
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# the forward pass that `GatedLayer` replaces, in transformers' models
_GATED = "self.down_proj(self.act_fn(self.gate_proj(x))*self.up_proj(x))"


def norm_silu(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """SiLU(norm(x)), with the norm called as a module unless gradients are computed."""
    plain = type(norm) is nn.LayerNorm and not _hooked(norm)
    if not _applies(x) or not plain or norm.bias is None:
        return F.silu(norm(x), inplace=plain and not torch.is_grad_enabled())
    out: Tensor = _NormSilu.apply(x, norm.weight, norm.bias, norm.eps)
    return out


def keep_less(language_model: nn.Module) -> int:
    """Let the gated layers inside compute SiLU again in the backward pass; their parameters and names stay.

    Returns:
        How many layers were changed.
    """
    kinds: list[tuple[Any, Any]] = [(module, type(module)) for module in language_model.modules()]
    layers = [(module, kind) for module, kind in kinds if _is_gated(kind) and _is_silu(module.act_fn)]
    for layer, kind in layers:
        layer.__class__ = _keeping_less(kind)
    return len(layers)


class GatedLayer:
    """A gated layer of a language model: down(SiLU(gate(x)) · up(x)). [..., D] → [..., D]."""

    def forward(self: Any, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        out: Tensor = self.down_proj(_Gated.apply(gate, up) if _applies(gate) else self.act_fn(gate) * up)
        return out


@functools.cache
def _keeping_less(kind: Any) -> type:
    return type(kind.__name__, (GatedLayer, kind), {"__module__": __name__})


@functools.cache
def _is_gated(kind: Any) -> bool:
    """Whether a class of layers computes what `GatedLayer` does, by its source."""
    try:
        lines = inspect.getsource(kind.forward).splitlines()[1:]
    except (AttributeError, OSError, TypeError):
        return False
    return "".join("".join(lines).split()) in (f"return{_GATED}", f"down_proj={_GATED}returndown_proj")


def _is_silu(activation: nn.Module) -> bool:
    return type(activation).__name__ in ("SiLU", "SiLUActivation") and not _hooked(activation)


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    ) or hasattr(module, "_hf_hook")


def _applies(x: Tensor) -> bool:
    """Whether gradients are computed, by plain eager operations."""
    return (
        torch.is_grad_enabled()
        and type(x) is Tensor
        # on a GPU, autocast computes norms in float32, and only in the forward pass
        and (x.device.type in ("cpu", "meta") or not torch.is_autocast_enabled(x.device.type))
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not torch._C._are_functorch_transforms_active()
    )


class _NormSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        normed, mean, scale = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        ctx.eps = eps
        return F.silu(normed, inplace=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight, bias, mean, scale = ctx.saved_tensors
        normed = torch.native_layer_norm(x, weight.shape, weight, bias, ctx.eps)[0]
        gradient = torch.ops.aten.silu_backward(gradient, normed)
        needed = list(ctx.needs_input_grad[:3])
        grads = torch.ops.aten.native_layer_norm_backward(gradient, x, weight.shape, mean, scale, weight, bias, needed)
        return (*grads, None)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate) * up

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        gate, up = ctx.saved_tensors
        to_gate = torch.ops.aten.silu_backward(gradient * up, gate) if ctx.needs_input_grad[0] else None
        return to_gate, gradient * F.silu(gate) if ctx.needs_input_grad[1] else None
