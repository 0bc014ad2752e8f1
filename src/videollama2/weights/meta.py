"""Building a model on the meta device without torch's Python references, which import sympy (0.4 s)."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..lean_imports import register_shapes

_FACTORIES = {torch.arange, torch.ones, torch.zeros, torch.rand, torch.randn}
_FILLING = ("normal_", "uniform_", "fill_", "zero_")
_SCALING = ("mul", "__mul__", "__rmul__")


class ShapesOnly(TorchFunctionMode):
    """While active, in this thread: meta tensors, which hold no numbers, are allocated and never filled or scaled.

    All else is computed as ever: a model that takes another way to its shapes is built more slowly, and the same.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shortcut = self._shortcut(function, args, kwargs)
        if shortcut is not None:
            return shortcut
        try:
            return function(*args, **kwargs)
        except NotImplementedError:
            if not register_shapes():
                raise
            return function(*args, **kwargs)

    def _shortcut(self, function: Any, args: Any, kwargs: Any) -> Any:
        """The result where it needs no computation; else None."""
        name, initialises = getattr(function, "__name__", ""), getattr(function, "__module__", "") == "torch.nn.init"
        if function in _FACTORIES and torch.device(kwargs.get("device") or "cpu").type == "meta":
            if function is torch.arange:  # of buffers, which are computed again once there are weights
                return torch.arange(*args, **{**kwargs, "device": "cpu"})
            return torch.empty(*args, **kwargs)
        tensor = args[0] if args else kwargs.get("tensor")
        if not isinstance(tensor, torch.Tensor) or not tensor.is_meta:
            return None
        if initialises or name in _FILLING:
            return tensor
        if name in _SCALING and tensor.is_floating_point() and len(args) == 2 and isinstance(args[1], float):
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        return None
