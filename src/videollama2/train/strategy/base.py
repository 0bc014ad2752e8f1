"""The interface between the training loop and the way a model is spread over processes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..distributed import Processes

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's state of a parameter, besides the step count

Moments = dict[nn.Parameter, dict[str, Tensor]]


class Strategy(ABC):
    """How weights, gradients and optimizer state are distributed over a run's processes, and how a step is taken.

    Call order: `prepare_model`, `prepare_optimizer`; per micro-batch `forward` and `backward`; `step` once per
    optimizer step. The defaults serve parameters that torch's own optimizer steps.
    """

    # every process must run every micro-batch, even one whose samples were all skipped
    lockstep: ClassVar[bool] = False
    # each process holds only its rows of the weights; mixed precision is then part of sharding, not autocast's
    shards_weights: ClassVar[bool] = False

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    @abstractmethod
    def prepare_model(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        """Spread the model over the processes, in place.

        Args:
            model: VideoLlama2ForConditionalGeneration; `requires_grad` marks trainable parameters.
            dtype: of the arithmetic; None: that of the weights.
        """

    def prepare_optimizer(  # noqa: B027 - few strategies need it
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        micro_batch: int,
        accumulation_steps: int,
        max_norm: float,
    ) -> None:
        """Hand the optimizer's state to the strategy, if the strategy manages it."""

    def forward(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        """The model's output for a micro-batch to learn from."""
        return model(**inputs)

    @abstractmethod
    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate the gradients of a micro-batch; `last`: of the step.

        Args:
            loss: this process's share of a loss that is a sum over all processes.
        """

    def step(self, optimizer: torch.optim.Optimizer, max_norm: float) -> float:
        """Clip the gradients to a joint norm of at most `max_norm` and take the step; returns the norm before clipping.

        A norm that is not finite leaves the weights unchanged.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        # a parameter that no sample reached still moves by its momentum, on whichever process the samples were
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        total: Any = nn.utils.clip_grad_norm_(parameters, max_norm)
        norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
        if math.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def after_evaluation(self, model: nn.Module) -> None:  # noqa: B027 - few strategies need it
        """Clean up after forward passes without a backward pass."""

    def leave(self) -> None:
        """Leave the process group at the end of a run."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def moments(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Moments:
        """Parameter → its `MOMENTS`, for a checkpoint; parameters without any yet are missing. Call on every process.

        With `shards_weights`, each process returns its rows; otherwise all return whole tensors.
        """
        state = optimizer.state
        held = {p: {m: state[p][m] for m in MOMENTS if m in state[p]} for p in _learning(model) if p in state}
        return {p: values for p, values in held.items() if values}

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, moments: Moments, step: int) -> None:
        """Continue after `step` steps from the model's current weights and these moments."""
        fused = {p for group in optimizer.param_groups if group.get("fused") for p in group["params"]}
        for parameter, values in moments.items():
            device = parameter.device if parameter in fused else "cpu"  # where AdamW itself keeps the count
            optimizer.state[parameter] = {"step": torch.tensor(float(step), device=device), **values}


def _learning(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]
