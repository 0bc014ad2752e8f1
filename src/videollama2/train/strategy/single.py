"""One process: the model unchanged, gradients by autograd, steps by torch's optimizer."""

import torch
from torch import Tensor, nn

from ..distributed import Processes
from .base import Strategy


class SingleProcess(Strategy):
    """A run of one process."""

    @classmethod
    def on(cls, device: torch.device) -> "SingleProcess":
        """The strategy of a model on this device."""
        return cls(Processes.alone(device))

    def prepare_model(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        """Do nothing: there is one process."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a micro-batch's gradients to those of the step."""
        loss.backward()

    def leave(self) -> None:
        """Do nothing: this run joined no group, and a group of the caller's must stay."""
