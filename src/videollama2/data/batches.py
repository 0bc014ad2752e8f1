"""Optimiser steps as batches: what the training loop consumes.

    Plan.step(n) ─► this rank's share ─► workers: Record → Sample ─► encode ─► sort by length, cut ─► StepBatch
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .samples import Skipped


@dataclass
class MicroBatch:
    """What the model sees at once.

    Attributes:
        inputs: keyword arguments of the model, on the CPU; tensors, and lists of tensors for media of unequal size.
        records: `Record.origin` of each row.
        supervised: positions whose next token is learned from (after the shift).
        positions: ids that stand for something; `padding`: those that only fill rows up.
    """

    inputs: dict[str, Any]
    records: tuple[str, ...]
    supervised: int
    positions: int
    padding: int


@dataclass
class StepBatch:
    """This process's share of one optimiser step.

    Attributes:
        step: its number, from 0.
        micro: always batch / (processes · micro batch) of them; None where all its samples were skipped.
        skipped: the records of the share that could not be used.
    """

    step: int
    micro: list[MicroBatch | None]
    skipped: tuple[Skipped, ...] = ()


class StepSource(Protocol):
    """Anything that offers training steps from any one onwards."""

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        """Steps `start` … `stop - 1`, the same whenever they are asked for."""
