"""The process group of a run: one process alone, or the processes that torchrun started."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ..device import own
from ..errors import UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processes:
    """This process's rank among a run's processes, and their collectives, which are local with one process."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def alone(cls, device: torch.device) -> "Processes":
        """A run of one process."""
        return cls(0, 1, device)

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Join the processes that torchrun started; on GPUs, each takes the one of its local rank."""
        device = own(device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        joined = cls(dist.get_rank(), dist.get_world_size(), device)
        logger.info("process %d of %d on %s", joined.rank, joined.world_size, device)
        return joined

    @classmethod
    def planned(cls) -> "Processes":
        """Rank and world size from torchrun's environment, without joining the group."""
        return cls(int(os.environ.get("RANK", "0")), launched(), torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes the files that exist once per run."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64 if self.device.type == "cpu" else torch.float32)
        total = total.to(self.device)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, items: Sequence[Any]) -> list[Any]:
        """The items of all processes, ordered by rank."""
        if self.world_size == 1:
            return list(items)
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, list(items))
        return [item for of_one in gathered for item in of_one]

    def barrier(self) -> None:
        """Wait until every process gets here."""
        if self.world_size > 1:
            dist.barrier()


def launched() -> int:
    """Number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def accumulation_steps(batch: int, micro_batch: int, processes: Processes) -> int:
    """Number of micro-batches that each process accumulates in an optimizer step.

    Raises:
        UsageError: the batch is not a multiple of micro-batch × processes.
    """
    share = micro_batch * processes.world_size
    if batch % share:
        near = max(share, batch // share * share)
        raise UsageError(
            f"a batch of {batch} can't be divided into micro-batches of {micro_batch} on {processes.world_size} "
            f"process(es); expected a multiple of {share}, e.g. --batch {near}, or another --micro-batch."
        )
    return batch // share
