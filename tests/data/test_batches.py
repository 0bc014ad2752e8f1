"""A step is the same however it is made: by workers or not, from the beginning or not, by one process or two."""

import gc
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from videollama2.data.batches import MicroBatch, RecordSteps, StepBatch, _Loaded, dead_workers_reported
from videollama2.data.collate import Sample, Skipped
from videollama2.data.features import FeatureCache
from videollama2.data.mixture import MixtureOrder, SequentialOrder
from videollama2.data.records import Record
from videollama2.data.samples import Samples
from videollama2.errors import DataError, UsageError
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.processing import VideoLlama2Processor

from ..close import same_numbers
from .conftest import MakeRecord


@pytest.fixture(scope="module")
def records(record: MakeRecord) -> list[Record]:
    kinds = ["image", "text", "audio", "text", "video", "av", "text", "image"]
    said = [" ".join(["bell"] * (1 + 3 * k)) for k in range(len(kinds))]
    return [record(kind, said[k], origin=f"t.jsonl:{k}") for k, kind in enumerate(kinds)]


def source(records: list[Record], processor: VideoLlama2Processor, **options: Any) -> RecordSteps:
    given = {k: options.pop(k) for k in ("on_unreadable", "cache") if k in options}
    samples = Samples(records, processor, protocol="full", frames=None, style="chat", max_length=512, **given)
    order = options.pop("order", None) or MixtureOrder({"all": range(len(records))}, batch=4, seed=2)
    return RecordSteps(samples, order, pad_token_id=0, **{"micro_batch": 2, **options})


def micros(step: StepBatch) -> list[MicroBatch]:
    return [m for m in step.micro if m is not None]


def names(steps: list[StepBatch]) -> list[list[tuple[str, ...]]]:
    return [[m.records for m in micros(s)] for s in steps]


def same(one: MicroBatch, two: MicroBatch) -> bool:
    pairs = [(one.inputs[k], two.inputs[k]) for k in one.inputs]
    flat = [(a, b) if isinstance(a, torch.Tensor) else None for a, b in pairs]
    assert None not in flat
    return one.inputs.keys() == two.inputs.keys() and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(records: list[Record], processor: VideoLlama2Processor, workers: int) -> None:
    state = torch.get_rng_state()
    alone = list(source(records, processor).steps(0, 3))
    helped = list(source(records, processor, workers=workers).steps(0, 3))
    assert names(alone) == names(helped) and [s.step for s in helped] == [0, 1, 2]
    assert all(
        same(a, b) for s, t in zip(alone, helped, strict=True) for a, b in zip(micros(s), micros(t), strict=True)
    )
    assert not any(t.is_shared() for m in micros(helped[0]) for t in m.inputs.values())
    assert torch.equal(state, torch.get_rng_state())  # a resumed run draws the same dropout


def test_a_resumed_run_continues_with_the_next_sample(records: list[Record], processor: VideoLlama2Processor) -> None:
    whole = list(source(records, processor).steps(0, 5))
    rest = list(source(records, processor).steps(3, 5))
    assert names(whole)[3:] == names(rest)
    assert all(
        same(a, b) for s, t in zip(whole[3:], rest, strict=True) for a, b in zip(micros(s), micros(t), strict=True)
    )


def test_two_processes_share_the_step_of_one(records: list[Record], processor: VideoLlama2Processor) -> None:
    one = names(list(source(records, processor, micro_batch=1).steps(0, 4)))
    two = [names(list(source(records, processor, micro_batch=1, rank=r, world_size=2).steps(0, 4))) for r in (0, 1)]
    for n in range(4):
        assert sorted(one[n]) == sorted(two[0][n] + two[1][n]) and len(two[0][n]) == len(two[1][n]) == 2


def test_counts_of_positions(records: list[Record], processor: VideoLlama2Processor) -> None:
    (step,) = source(records, processor, micro_batch=4).steps(0, 1)
    (micro,) = micros(step)
    inputs = micro.inputs
    assert micro.positions == int(inputs["attention_mask"].sum())
    assert micro.positions + micro.padding == inputs["input_ids"].numel()
    assert micro.supervised == int((inputs["labels"] != -100).sum())  # no label stands at a first position
    lengths = inputs["attention_mask"].sum(1).tolist()
    assert lengths == sorted(lengths, reverse=True)
    cut = [m for s in source(records, processor).steps(0, 1) for m in micros(s)]
    assert sum(m.padding for m in cut) <= micro.padding and sum(m.positions for m in cut) == micro.positions


@pytest.mark.parametrize("workers", [0, 1])
def test_skipped_records_are_counted_and_leave_gaps(
    records: list[Record], record: MakeRecord, processor: VideoLlama2Processor, workers: int
) -> None:
    broken = [record("video", file="gone.mp4", origin=f"t.jsonl:gone{k}") for k in range(3)]
    given = [*broken, records[1]]
    (step,) = source(given, processor, on_unreadable="skip", workers=workers).steps(0, 1)
    assert sorted(s.record for s in step.skipped) == [f"t.jsonl:gone{k}" for k in range(3)]
    assert "gone.mp4" in step.skipped[0].reason
    assert [m and m.records for m in step.micro] == [("t.jsonl:1",), None]
    (empty,) = source(broken, processor, on_unreadable="skip", order=SequentialOrder(range(3), batch=4)).steps(0, 1)
    assert empty.micro == [None, None] and len(empty.skipped) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_names_the_record(
    records: list[Record], record: MakeRecord, processor: VideoLlama2Processor, workers: int
) -> None:
    given = [*records, record("video", file="gone.mp4", origin="t.jsonl:99")]
    made = source(given, processor, workers=workers, order=SequentialOrder(range(9), batch=4)).steps(0, 3)
    assert len([next(made), next(made)]) == 2
    with pytest.raises(DataError, match=r"^record t.jsonl:99: .*gone.mp4") as error:
        next(made)
    assert "Traceback" not in str(error.value)


def children() -> int:
    gc.collect()
    return len(multiprocessing.active_children())


def test_workers_exit_when_the_iterator_is_closed(records: list[Record], processor: VideoLlama2Processor) -> None:
    before = children()
    made = source(records, processor, workers=2).steps(0, 100)
    next(made)
    assert children() == before + 2
    made.close()
    assert children() == before


def test_a_killed_worker_is_reported(records: list[Record], processor: VideoLlama2Processor) -> None:
    before = {p.pid for p in multiprocessing.active_children()}
    made = source(records, processor, workers=1).steps(0, 10_000)
    next(made)
    (worker,) = [p for p in multiprocessing.active_children() if p.pid not in before]
    assert worker.pid is not None
    # torch may report it before the next batch is asked for: at any line of the training loop
    with pytest.raises(DataError, match="a worker that decodes media was killed"), dead_workers_reported():
        os.kill(worker.pid, signal.SIGKILL)
        for _ in made:
            continue


def test_a_worker_killed_between_two_batches_is_reported(
    records: list[Record], processor: VideoLlama2Processor
) -> None:
    before = {p.pid for p in multiprocessing.active_children()}
    made = source(records, processor, workers=1).steps(0, 10_000)
    next(made)
    (worker,) = [p for p in multiprocessing.active_children() if p.pid not in before]
    assert worker.pid is not None
    with pytest.raises(DataError, match="a worker that decodes media was killed"), dead_workers_reported():
        os.kill(worker.pid, signal.SIGKILL)
        time.sleep(60)  # interrupted
    made.close()


class Sending:
    """Stands for a DataLoader whose worker ends while it sends an item."""

    def __init__(self, error: Exception, end: Callable[[], None]) -> None:
        self.error, self.end = error, end

    def __iter__(self) -> Iterator[Any]:
        multiprocessing.get_context("fork").Process(target=self.end, daemon=True).start()
        return self._items()

    def _items(self) -> Iterator[Any]:
        yield Skipped("t.jsonl:0", "unreadable")
        raise self.error


def killed() -> None:
    time.sleep(0.2)  # the error comes before the system reports the death
    os.kill(os.getpid(), signal.SIGKILL)


def exits() -> None:
    os._exit(7)


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(111, "refused"), FileNotFoundError(2, "gone"), EOFError(), pickle.UnpicklingError("cut")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(("end", "death"), [(killed, "Killed"), (exits, "exit code 7")])
def test_a_worker_that_dies_while_it_sends_is_reported(error: Exception, end: Callable[[], None], death: str) -> None:
    items = iter(_Loaded(cast(Any, Sending(error, end))))
    next(items)
    with pytest.raises(DataError, match=rf"killed \(process \d+: {death}\), usually for lack of memory"):
        next(items)


def test_an_error_of_a_worker_that_lives_is_not_called_a_death() -> None:
    alive = multiprocessing.Event()
    items = iter(_Loaded(cast(Any, Sending(OSError(24, "too many open files"), alive.wait))))
    next(items)
    with pytest.raises(OSError, match="too many open files"):
        next(items)
    alive.set()
    with pytest.raises(RuntimeError, match="Caught"), dead_workers_reported():
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.")


def test_the_cache_is_filled_before_batches_are_made(
    tmp_path: Path, records: list[Record], processor: VideoLlama2Processor, model: VideoLlama2ForConditionalGeneration
) -> None:
    cache = FeatureCache(tmp_path, model, "full", processor.pixels)
    asked: list[int] = []

    def encode(samples: list[Sample]) -> list[Sample]:
        asked.append(sum(s.pixels is not None or s.fbank is not None for s in samples))
        return cache.encode(model, samples)

    order = MixtureOrder({"all": range(8)}, batch=8, seed=0)
    made = source(records, processor, cache=cache, order=order, encode=encode, micro_batch=8, workers=1)
    first, second = made.steps(0, 2)
    assert asked[0] == 5 and {"image_features", "video_features", "audio_features"} < set(micros(first)[0].inputs)
    assert sorted(micros(first)[0].records) == sorted(micros(second)[0].records)
    asked.clear()
    (again,) = made.steps(0, 1)
    assert asked == [0]
    with torch.no_grad():
        same_numbers(model(**micros(again)[0].inputs).loss, model(**micros(first)[0].inputs).loss)
    with pytest.raises(UsageError, match="encode="):
        source(records, processor, cache=cache)


def test_a_batch_that_does_not_divide_is_rejected(records: list[Record], processor: VideoLlama2Processor) -> None:
    for wrong in (
        {"micro_batch": 3},
        {"world_size": 4},
        {"rank": 2, "world_size": 2},
        {"workers": -1},
        {"micro_batch": 0},
    ):
        with pytest.raises(UsageError, match="a batch of 4 can't be divided"):
            source(records, processor, **wrong)


def test_evaluation_sees_every_record_once(records: list[Record], processor: VideoLlama2Processor) -> None:
    order = SequentialOrder(range(7), batch=4)
    assert [order.step(n) for n in range(3)] == [[0, 1, 2, 3], [4, 5, 6], []]
    shares = [source(records, processor, order=order, rank=r, world_size=2).steps(0, 2) for r in (0, 1)]
    seen = [name for share in shares for step in share for m in micros(step) for name in m.records]
    assert sorted(seen) == [f"t.jsonl:{k}" for k in range(7)]
    with pytest.raises(UsageError):
        SequentialOrder([], batch=2)
