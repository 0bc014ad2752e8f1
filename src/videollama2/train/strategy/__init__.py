"""How a run is spread over processes: one process (single.py), FSDP2 (fsdp.py) or DeepSpeed's ZeRO (deepspeed.py)."""

from pathlib import Path

import torch

from ..distributed import Processes, launched
from .base import MOMENTS, Moments, Strategy
from .single import SingleProcess

__all__ = ["MOMENTS", "Moments", "SingleProcess", "Strategy", "join"]


def join(device: torch.device, deepspeed: Path | None = None) -> Strategy:
    """Join the processes that torchrun started, if it did, and choose how to spread the model over them.

    Args:
        device: of this machine; under torchrun each process takes its own GPU.
        deepspeed: a DeepSpeed configuration; None: FSDP2 with several processes.

    Raises:
        UsageError: the DeepSpeed configuration can't be used, or this is not running under torchrun.
        MissingExtra: DeepSpeed is requested and not installed.
    """
    if deepspeed is not None:
        from .deepspeed import DeepSpeedZero

        return DeepSpeedZero.join(device, deepspeed)
    if launched() == 1:
        return SingleProcess.on(device)
    from .fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(Processes.join(device))
