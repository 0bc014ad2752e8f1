"""Optimiser steps as batches: what the training loop consumes.

    order.step(n) ─► this process's share ─► workers: Record → Sample ─► encode ─► sort by length, cut ─► StepBatch

Everything follows from the step's number, so a run can be resumed at any step, by any number of processes.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError, UsageError, VideoLlama2Error
from .labels import IGNORE
from .samples import Sample, Samples, Skipped, collate_samples

Encode = Callable[[list[Sample]], list[Sample]]


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


class Order(Protocol):
    """Which records each step has: `mixture.Plan`, `mixture.InOrder`."""

    @property
    def batch(self) -> int:
        """Most samples per step, over all processes."""

    def step(self, n: int) -> list[int]:
        """The records of step n."""


class RecordSteps(StepSource):
    """Steps of records. Process r of w takes places [r·b/w, (r+1)·b/w) of each step's list.

    Within that share samples are sorted by length before they are cut into micro-batches, the longest first: less
    padding, the same step, and too little memory shows at once.
    """

    def __init__(
        self,
        samples: Samples,
        plan: Order,
        *,
        pad_token_id: int,
        micro_batch: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        encode: Encode | None = None,
    ) -> None:
        """Make the source.

        Args:
            micro_batch: samples that the model sees at once.
            rank, world: this process, and how many there are.
            workers: processes that decode; 0: this one does.
            encode: runs here, on all samples of a step, before they are cut; `FeatureCache.encode` with its model.

        Raises:
            UsageError: the batch can't be divided so, or samples have a cache and nothing encodes what it lacks.
        """
        if micro_batch < 1 or world < 1 or not 0 <= rank < world or workers < 0 or plan.batch % (world * micro_batch):
            raise UsageError(
                f"a batch of {plan.batch} can't be divided among {world} processes (this is number {rank}) in "
                f"micro-batches of {micro_batch}, by {workers} workers; expected batch = processes × micro-batch × a "
                "whole number"
            )
        if samples.cache is not None and encode is None:
            raise UsageError("the samples have a feature cache, so encode= is needed for what is not in it yet")
        self.samples, self.plan, self.encode = samples, plan, encode
        self.pad_token_id, self.micro_batch, self.workers = pad_token_id, micro_batch, workers
        each = plan.batch // world
        self._share = slice(rank * each, (rank + 1) * each)
        self._micros = each // micro_batch

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        """Steps `start` … `stop - 1`. Workers end when the last is taken, or the iterator is closed or forgotten.

        Raises:
            DataError: a record can't be used (its name is in the message), or a worker was killed.
        """
        found = _checked(self._items(start, stop))
        for n in range(start, stop):
            yield self._step(n, list(islice(found, len(self.plan.step(n)[self._share]))))

    def _step(self, n: int, items: Sequence[Sample | Skipped]) -> StepBatch:
        samples = [item for item in items if isinstance(item, Sample)]
        if self.encode is not None and samples:
            samples = self.encode(samples)
        samples.sort(key=lambda sample: -len(sample.example.ids))
        cuts = [samples[k * self.micro_batch : (k + 1) * self.micro_batch] for k in range(self._micros)]
        micro = [micro_of(cut, self.pad_token_id) if cut else None for cut in cuts]
        return StepBatch(n, micro, tuple(item for item in items if isinstance(item, Skipped)))

    def _items(self, start: int, stop: int) -> Iterable[Sample | Skipped | VideoLlama2Error]:
        """The samples of these steps, one by one and in order, by as many workers as there are.

        Workers hand over single samples: one is early enough for the next step and a whole step is never held twice.
        """
        items, order = _Items(self.samples), _Indices(self.plan, self._share, start, stop)
        each = self._share.stop - self._share.start
        if not self.workers:
            return (items[index] for index in order)
        return _Loaded(
            DataLoader(
                items,
                batch_size=None,
                sampler=order,
                num_workers=self.workers,
                prefetch_factor=max(2, -(-each // self.workers)),  # the next step, while this one is learned from
                # workers never touch a GPU, and what they inherit need not be sent; elsewhere forking is not safe
                multiprocessing_context="fork" if sys.platform == "linux" else None,
                generator=torch.Generator(),  # else each start would take a number from the run's own generator
            )
        )


def micro_of(samples: Sequence[Sample], pad_token_id: int) -> MicroBatch:
    """Samples, at least one, as one batch."""
    inputs = collate_samples(samples, pad_token_id)
    positions = int(inputs["attention_mask"].sum())
    return MicroBatch(
        inputs=inputs,
        records=tuple(sample.record for sample in samples),
        supervised=int((inputs["labels"][:, 1:] != IGNORE).sum()),
        positions=positions,
        padding=inputs["input_ids"].numel() - positions,
    )


@dataclass
class _Items(Dataset[Sample | Skipped | VideoLlama2Error]):
    """Samples whose errors are handed over as they are; a DataLoader would make tracebacks of them."""

    samples: Samples

    def __getitem__(self, index: int) -> Sample | Skipped | VideoLlama2Error:
        try:
            return self.samples[index]
        except VideoLlama2Error as error:
            return error


@dataclass
class _Indices:
    """Record indices of a share of steps, made as they are needed."""

    order: Order
    share: slice
    start: int
    stop: int

    def __iter__(self) -> Iterator[int]:
        for n in range(self.start, self.stop):
            yield from self.order.step(n)[self.share]


@dataclass
class _Loaded:
    """What a DataLoader's workers make, with tensors in this process's own memory."""

    loader: DataLoader[Any]

    def __iter__(self) -> Iterator[Sample | Skipped | VideoLlama2Error]:
        with warnings.catch_warnings():
            # from Python 3.12 on; the workers use none of the locks that other threads could hold
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            found = iter(self.loader)
        for item in found:
            # shared memory holds an open file per tensor, and a large step has more tensors than files may be open
            yield _own(item) if isinstance(item, Sample) else item


def _own(sample: Sample) -> Sample:
    tensors = ("pixels", "fbank", "patches", "sound_patches")
    return replace(sample, **{name: t.clone() for name in tensors if (t := getattr(sample, name)) is not None})


def _checked(items: Iterable[Sample | Skipped | VideoLlama2Error]) -> Iterator[Sample | Skipped]:
    """The items up to the first error, which is raised."""
    try:
        for item in items:
            if isinstance(item, VideoLlama2Error):
                raise item
            yield item
    except RuntimeError as error:  # what torch says of a worker that is no more
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a process that decodes media was killed ({str(error).splitlines()[0]}), most often for want of memory; "
            "use fewer workers or fewer frames (in a container, give it more shared memory)"
        ) from error
