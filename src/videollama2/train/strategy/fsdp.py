"""FSDP2: weights, gradients and optimizer state are sharded by rows over the processes.

Sharded units are gathered by all processes together, so every process must reach the same units in every micro-batch,
whatever its samples hold, or the others wait for it forever. Only the language model's layers, which every sample
reaches, are therefore units of their own; everything else that learns belongs to the root unit, gathered once a step.
`_Anchor` ties it to the embeddings, so that a process with text alone sends zeros for the connector's gradients instead
of nothing. Frozen encoders are whole on each process.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from .base import Strategy


class FullyShardedDataParallel(Strategy):
    """Weights, gradients and moments sharded over the processes of torchrun."""

    lockstep = True
    shards_weights = True

    def prepare_model(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        """Shard the model in place: one unit per layer of the language model, and the root."""
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype is not None else None)
        inner: Any = model.model
        unsharded: set[nn.Parameter] = set()
        for encoder in (inner.vision_encoder, inner.audio_encoder):
            if encoder is not None and not any(p.requires_grad for p in encoder.parameters()):
                unsharded |= set(encoder.parameters())
        unsharded |= {p for p in model.parameters() if not p.is_floating_point()}  # quantised weights can't be sharded
        for layer in inner.language_model.layers:
            fully_shard(layer, mp_policy=policy, ignored_params=unsharded & set(layer.parameters()))
        fully_shard(model, mp_policy=policy, ignored_params=unsharded)
        inner.get_input_embeddings().register_forward_hook(_Anchor(model))

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a micro-batch's gradients to those of the step."""
        (loss * self.processes.world_size).backward()  # FSDP averages over processes; the loss is a sum over them

    def after_evaluation(self, model: Any) -> None:
        """Free the gathered root: FSDP keeps it whole after a forward pass, for the backward pass.

        A checkpoint would otherwise save it in the arithmetic's dtype and without moments, and weights restored into
        it would be lost.
        """
        model.reshard()


class _Anchor:
    """Forward hook of the embeddings: adds zero, which connects every trainable part outside the layers to the loss."""

    def __init__(self, model: nn.Module) -> None:
        inner: Any = model.model
        inside = {id(m) for layer in inner.language_model.layers for m in layer.modules()}
        direct = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
        self.modules = [m for m in direct if id(m) not in inside]

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return output
        learning = [p for m in self.modules for p in m.parameters(recurse=False) if p.requires_grad]
        return output + sum((p.sum() for p in learning), output.new_zeros(())).to(output.dtype) * 0
