"""The processes that train together: one alone, or several under torchrun that share the model (FSDP2).

Every process goes through the same layers in every micro-batch, whatever its samples hold, or the others would wait
for it for ever. So a layer of the language model is the only thing that is gathered on its own; everything else that
learns is gathered once a step, with the root, and `anchor` ties it to the embeddings, so that a process that has only
text in hand sends zeros for the connector's gradients instead of nothing. Frozen encoders are whole on each process.
"""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..device import own
from ..errors import UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processes:
    """One of the processes of a run."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def alone(cls, device: torch.device) -> "Processes":
        """The only one."""
        return cls(0, 1, device)

    @classmethod
    def join(cls, device: torch.device, deepspeed: Path | None = None) -> "Processes":
        """The one that torchrun started here, joined with the others; the only one without torchrun.

        Args:
            device: of this machine; under torchrun, each process takes the GPU that is its own.
            deepspeed: configuration, where DeepSpeed is to spread the work.
        """
        if deepspeed is not None:
            from .deepspeed import DeepSpeedProcesses

            return DeepSpeedProcesses.joined(device, deepspeed)
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls.alone(device)
        device = join_group(device)
        logger.info("process %d of %d on %s", dist.get_rank(), world, device)
        return cls(dist.get_rank(), world, device)

    @classmethod
    def planned(cls) -> "Processes":
        """What `join` would give here, without waiting for the others."""
        env = os.environ
        return cls(int(env.get("RANK", "0")), int(env.get("WORLD_SIZE", "1")), torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this one writes what is written once."""
        return self.rank == 0

    @property
    def together(self) -> bool:
        """Whether every process has to go through every micro-batch."""
        return self.world > 1

    @property
    def spreads_weights(self) -> bool:
        """Whether no process has all of them; the number format of the arithmetic is then seen to here (`shard`)."""
        return self.world > 1

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64 if self.device.type == "cpu" else torch.float32)
        total = total.to(self.device)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, items: Sequence[Any]) -> list[Any]:
        """Everybody's items, in the order of the processes."""
        if self.world == 1:
            return list(items)
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, list(items))
        return [item for theirs in found for item in theirs]

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """End the group, if there is one."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def shard(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        """Spread the model over the processes, in place: FSDP2, one unit per layer of the language model and the root.

        Args:
            model: VideoLlama2ForConditionalGeneration; `requires_grad` says what learns.
            dtype: of the gathered weights and the arithmetic; None: as they are.
        """
        if self.world == 1:
            return
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype is not None else None)
        whole: set[nn.Parameter] = set()
        inner: Any = model.model
        for encoder in (inner.vision_encoder, inner.audio_encoder):
            if encoder is not None and not any(p.requires_grad for p in encoder.parameters()):
                whole |= set(encoder.parameters())
        whole |= {p for p in model.parameters() if not p.is_floating_point()}  # quantised weights can't be cut
        for layer in inner.language_model.layers:
            fully_shard(layer, mp_policy=policy, ignored_params=whole & set(layer.parameters()))
        fully_shard(model, mp_policy=policy, ignored_params=whole)
        inner.get_input_embeddings().register_forward_hook(_Anchor(model))

    def adopt(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *, micro_batch: int, accumulated: int, clip: float
    ) -> torch.optim.Optimizer:
        """The optimiser that takes the steps: FSDP's parameters need no other."""
        return optimizer

    def forward(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        """What the model makes of a micro-batch that is learned from."""
        return model(**inputs)

    def measured(self, model: Any) -> None:
        """After passes that no backward followed: each process holds its rows again.

        FSDP keeps the root's weights whole after a forward pass, for the backward one; they would be saved as they are
        in the arithmetic, without moments, and what is restored into them would be lost.
        """
        if self.spreads_weights:
            model.reshard()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a micro-batch's gradients to the step's; `last` of the step."""
        (loss * self.world).backward()  # FSDP takes the mean of the processes' gradients where the step wants their sum

    def step(self, optimizer: torch.optim.Optimizer, largest: float) -> float:
        """Scale all gradients together to a norm of at most `largest` and take the step; returns what the norm was.

        Where it is not finite, nothing is changed.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for parameter in parameters:  # what no sample met still has its momentum, whoever had the samples
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        norm: Any = nn.utils.clip_grad_norm_(parameters, largest)
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if math.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm


def join_group(device: torch.device) -> torch.device:
    """Join the processes that torchrun started; returns this one's device."""
    device = own(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


class _Anchor:
    """Adds nothing to the embeddings, and with it a path from everything that learns outside the layers to the loss."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
        inner: Any = model.model
        inside = {id(m) for layer in inner.language_model.layers for m in layer.modules()}
        self.modules = [m for m in self.modules if id(m) not in inside]

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return output
        learning = [p for m in self.modules for p in m.parameters(recurse=False) if p.requires_grad]
        return output + sum((p.sum() for p in learning), output.new_zeros(())).to(output.dtype) * 0


def recompute_activations(model: Any, **options: Any) -> None:
    """Keep each layer's input of the language model only, and compute the rest again going backward.

    `options` go to torch's `checkpoint`.
    """
    language = model.model.language_model
    # transformers renamed it after 5.16, and warns of the old name
    enable = getattr(language, "activation_checkpointing_enable", None) or language.gradient_checkpointing_enable
    enable({"use_reentrant": False, **options})


def divide(batch: int, micro_batch: int, processes: Processes) -> int:
    """How many micro-batches each process has in a step.

    Raises:
        UsageError: the batch can't be divided so.
    """
    share = micro_batch * processes.world
    if batch % share:
        near = max(share, batch // share * share)
        raise UsageError(
            f"a batch of {batch} can't be divided into micro-batches of {micro_batch} on {processes.world} "
            f"process(es); expected a multiple of {share}, e.g. --batch {near}, or another --micro-batch"
        )
    return batch // share
