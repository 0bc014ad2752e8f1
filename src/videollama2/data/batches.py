"""Micro-batches of each optimizer step: what the training loop consumes.

    order.step(n) ─► this process's share ─► workers: Record → Sample ─► encode ─► sort by length, cut ─► StepBatch

Everything follows from the step number, so a run can be resumed at any step by any number of processes.
"""

import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError, UsageError, VideoLlama2Error
from .collate import Sample, Skipped, collate_samples
from .labels import IGNORE
from .samples import Samples

Encode = Callable[[list[Sample]], list[Sample]]


@dataclass
class MicroBatch:
    """Samples that go through the model together.

    Attributes:
        inputs: keyword arguments of the model, on the CPU; tensors, and lists of tensors for media of unequal size.
        records: `Record.origin` of each sample.
        supervised: positions whose next token has a label.
        positions: of text and media; `padding`: the rest of the padded batch.
    """

    inputs: dict[str, Any]
    records: tuple[str, ...]
    supervised: int
    positions: int
    padding: int


@dataclass
class StepBatch:
    """This process's share of an optimizer step.

    Attributes:
        step: its number, from 0.
        micro: batch / (processes · micro-batch) of them; None where all samples were skipped.
        skipped: records of the share that could not be used.
    """

    step: int
    micro: list[MicroBatch | None]
    skipped: tuple[Skipped, ...] = ()


class StepSource(Protocol):
    """Training steps, starting at any of them."""

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        """Steps `start` … `stop - 1`; a step is the same batch in every call."""


class Order(Protocol):
    """Which records each step has: `mixture.MixtureOrder`, `mixture.SequentialOrder`."""

    @property
    def batch(self) -> int:
        """Maximum number of samples per step, over all processes."""

    def step(self, n: int) -> list[int]:
        """The records of step n."""


class RecordSteps(StepSource):
    """Training steps from records. Process r of w takes places [r·b/w, (r+1)·b/w) of each step's list.

    A process sorts its share by length before cutting it into micro-batches, the longest first: the step is the same
    with less padding, and running out of memory shows up in the first micro-batch.
    """

    def __init__(
        self,
        samples: Samples,
        order: Order,
        *,
        pad_token_id: int,
        micro_batch: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        encode: Encode | None = None,
    ) -> None:
        """Check that the batch can be divided.

        Args:
            samples: by record index.
            order: of the records.
            pad_token_id: fills short sequences.
            micro_batch: samples that go through the model together.
            rank, world_size: of this process.
            workers: processes that decode media; 0: this process decodes.
            encode: applied to all samples of a step before they are cut; `FeatureCache.encode` with its model.

        Raises:
            UsageError: the batch is not a multiple of processes × micro-batch, or samples have a cache and no `encode`.
        """
        valid = micro_batch >= 1 and world_size >= 1 and 0 <= rank < world_size and workers >= 0
        if not valid or order.batch % (world_size * micro_batch):
            raise UsageError(
                f"a batch of {order.batch} can't be divided among {world_size} processes (this is rank {rank}) in "
                f"micro-batches of {micro_batch}, with {workers} workers; expected batch = processes × micro-batch × "
                "an integer."
            )
        if samples.cache is not None and encode is None:
            raise UsageError("samples with a feature cache need encode=, which encodes media that are not cached yet.")
        self.samples, self.order, self.encode = samples, order, encode
        self.pad_token_id, self.micro_batch, self.workers = pad_token_id, micro_batch, workers
        each = order.batch // world_size
        self._share = slice(rank * each, (rank + 1) * each)
        self._micros = each // micro_batch

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        """Steps `start` … `stop - 1`. Workers exit after the last one, or when the iterator is closed or collected.

        Raises:
            DataError: a record can't be used (the message names it), or a worker was killed.
        """
        items = _raise_errors(self._items(start, stop))
        with dead_workers_reported():
            for n in range(start, stop):
                yield self._step(n, list(islice(items, len(self.order.step(n)[self._share]))))

    def _step(self, n: int, items: Sequence[Sample | Skipped]) -> StepBatch:
        samples = [item for item in items if isinstance(item, Sample)]
        if self.encode is not None and samples:
            samples = self.encode(samples)
        samples.sort(key=lambda sample: -len(sample.example.ids))
        cuts = [samples[k * self.micro_batch : (k + 1) * self.micro_batch] for k in range(self._micros)]
        micro = [_micro_batch(cut, self.pad_token_id) if cut else None for cut in cuts]
        return StepBatch(n, micro, tuple(item for item in items if isinstance(item, Skipped)))

    def _items(self, start: int, stop: int) -> Iterable[Sample | Skipped | VideoLlama2Error]:
        """The samples of these steps in order, one at a time, so that no worker holds a whole step."""
        items, indices = _Items(self.samples), _Indices(self.order, self._share, start, stop)
        each = self._share.stop - self._share.start
        if not self.workers:
            return (items[index] for index in indices)
        return _Loaded(
            DataLoader(
                items,
                batch_size=None,
                sampler=indices,
                num_workers=self.workers,
                prefetch_factor=max(2, -(-each // self.workers)),  # one step ahead
                # workers don't use the GPU and inherit the samples without pickling; other systems can't fork safely
                multiprocessing_context="fork" if sys.platform == "linux" else None,
                generator=torch.Generator(),  # the default would draw from the run's generator every time
            )
        )


def _micro_batch(samples: Sequence[Sample], pad_token_id: int) -> MicroBatch:
    """One or more samples as one batch."""
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
    """Samples, with errors returned instead of raised: a DataLoader would turn them into tracebacks."""

    samples: Samples

    def __getitem__(self, index: int) -> Sample | Skipped | VideoLlama2Error:
        try:
            return self.samples[index]
        except VideoLlama2Error as error:
            return error


@dataclass
class _Indices:
    """Record indices of one process's share of the steps, computed lazily."""

    order: Order
    share: slice
    start: int
    stop: int

    def __iter__(self) -> Iterator[int]:
        for n in range(self.start, self.stop):
            yield from self.order.step(n)[self.share]


@dataclass
class _Loaded:
    """A DataLoader's items, copied out of shared memory."""

    loader: DataLoader[Any]

    def __iter__(self) -> Iterator[Sample | Skipped | VideoLlama2Error]:
        others = set(multiprocessing.active_children())
        with warnings.catch_warnings():
            # since Python 3.12; the workers use no locks that other threads could hold
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            items = iter(self.loader)
        workers = [worker for worker in multiprocessing.active_children() if worker not in others]
        try:
            for item in items:
                # each shared tensor is an open file, and a large step would exceed the limit of open files
                yield _copied(item) if isinstance(item, Sample) else item
        except Exception as error:  # a worker killed while it sends an item leaves anything: a refused connection, EOF
            if (death := _death(workers)) is None:
                raise
            raise _killed(death) from error


def _death(workers: Sequence[BaseProcess]) -> str | None:
    """How one of the workers died, if one did. Its files are closed a moment before the system reports its death."""
    ended = wait([worker.sentinel for worker in workers], timeout=1)
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(timeout=1)
        if code := worker.exitcode:
            return f"process {worker.pid}: {signal.strsignal(-code) if code < 0 else f'exit code {code}'}"
    return None


def _copied(sample: Sample) -> Sample:
    tensors = ("pixels", "fbank", "vision_features", "audio_features")
    return replace(sample, **{name: t.clone() for name in tensors if (t := getattr(sample, name)) is not None})


def _raise_errors(items: Iterable[Sample | Skipped | VideoLlama2Error]) -> Iterator[Sample | Skipped]:
    """The items up to the first error, which is raised."""
    for item in items:
        if isinstance(item, VideoLlama2Error):
            raise item
        yield item


@contextmanager
def dead_workers_reported() -> Iterator[None]:
    """torch's report of a killed worker as DataError; a signal handler raises it at any line of the main thread.

    Raises:
        DataError: a worker was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise _killed(str(error).splitlines()[0]) from error


def _killed(death: str) -> DataError:
    return DataError(
        f"a worker that decodes media was killed ({death}), usually for lack of memory; use fewer workers or fewer "
        "frames (in a container, allow more shared memory)."
    )
