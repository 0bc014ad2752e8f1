"""Composed clips as the steps of training: drawn and augmented on the device, the same whenever they are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Subset

from ..batches import MicroBatch, StepBatch, StepSource
from ..labels import IGNORE
from .batches import ComposedBatches
from .rendering import to_inputs


@dataclass(frozen=True)
class ComposedSteps(StepSource):
    """One batch per step.

    Attributes:
        side: of the frames, in pixels. device: where the model is, and where clips are drawn.
        seed: of augmentation; None leaves pictures and sounds as composed.
        workers: processes that make scenes, waves and ids.
    """

    data: ComposedBatches
    side: int
    device: torch.device
    seed: int | None = None
    workers: int = 0

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        """Steps `start` … `stop - 1`; at most as many as the data holds."""
        chosen = Subset(self.data, range(start, min(stop, len(self.data))))
        ahead = 3 if self.workers else None
        loader = DataLoader(chosen, batch_size=None, num_workers=self.workers, prefetch_factor=ahead)
        for step, batch in enumerate(loader, start):
            generator = None
            if self.seed is not None:
                generator = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + step)
            inputs = to_inputs(batch, self.side, self.device, generator)
            if "sound_targets" in batch:
                inputs["sound_targets"] = batch["sound_targets"].to(self.device)
            supervised = int((batch["labels"][:, 1:] != IGNORE).sum())
            filled = int(batch["attention_mask"].sum())
            rows, longest = batch["labels"].shape
            name = f"{batch['kind']} clips of seed {self.data.seed}, step {step}"
            yield StepBatch(step, [MicroBatch(inputs, (name,), supervised, filled, rows * longest - filled)])
