"""The hash of a model's weights in memory: what tells that two runs had the same model, whatever it is called."""

import hashlib
import weakref
from typing import Any

import torch
from torch import nn

_digests: "weakref.WeakKeyDictionary[nn.Module, str]" = weakref.WeakKeyDictionary()


def weights_sha256(model: nn.Module) -> str | None:
    """Hash of the weights in memory, with merged adapters: names, shapes, dtypes and bytes, in order of the names.

    The same weights in another dtype have another hash. None if some are not in memory (offloaded to disk).
    """
    if model not in _digests:
        digest = hashlib.sha256()
        for name, tensor in sorted(model.state_dict().items()):
            if not isinstance(tensor, torch.Tensor):  # extra state of a module
                digest.update(f"{name} {tensor}\n".encode())
                continue
            if tensor.is_meta:
                return None
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            plain = tensor.detach().to("cpu").contiguous()
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        _digests[model] = digest.hexdigest()
    return _digests[model]


def weights_of(engine: Any) -> str | None:
    """The hash of an engine's weights; None for a server, whose weights are elsewhere."""
    model = getattr(engine, "model", None)
    return None if model is None else weights_sha256(model)
