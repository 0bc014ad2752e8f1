"""A run: one benchmark, one model, one folder. What `videollama2 eval` does for each benchmark.

OUT/BENCHMARK/manifest.json     what the numbers depend on (manifest.py)
              results.jsonl     one result a line (journal.py); of n processes results-K.jsonl until all are done
              timings.jsonl     seconds of each item
              summary.json      the figures (report.py), when every item has its result
"""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError, VideoLlama2Error
from ..protocols import protocol as named_protocol
from .ablate import ABLATIONS, Wishes, columns
from .items import Ablation, Benchmark, Item, Loaded, Outcome, Result, Setting
from .journal import Journal, known_results, write_json, write_results, write_whole
from .judge.judgements import PROBES, read_judgements
from .loop import UNEXPECTED, Asker, Task, ask_all, turns
from .manifest import FILE, manifest, settle
from .report import summary

logger = logging.getLogger(__name__)

SUMMARY = "summary.json"
_FAILURES_TOLD = 10  # by name, on the log
_MOST_UNEXPECTED = 25  # in a row: not the items, but the device or the machine is out of order

Progress = Callable[[Sequence[Result], int, int], None]
"""Told what is new, and how many are done, of how many that this process does."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What became of a benchmark.

    Attributes:
        folder: OUT/BENCHMARK.
        results: in the order of items within ablations; those that exist.
        left: items of other processes that have no result yet; with 0 the run is finished, and `summary` there.
    """

    folder: Path
    manifest: Mapping[str, Any]
    results: tuple[Result, ...]
    left: int
    summary: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    engine: Any,
    benchmark: Benchmark,
    folder: Path,
    out: Path,
    *,
    setting: Setting = "strict",
    ablations: Sequence[Ablation] = ("none",),
    limit: int | None = None,
    batch: int = 1,
    wishes: Wishes | None = None,
    rank: int = 0,
    world: int = 1,
    threads: int = 1,
    retry: bool = False,
    on_progress: Progress | None = None,
) -> Run:
    """Ask every item that has no result yet, and sum up when all have.

    Args:
        engine: an Engine, or what has its `answer`, `batch`, `name`, `model` and `protocol`.
        folder: where the benchmark's files are.
        out: the run is in the folder of the benchmark's name in it, and goes on if it is there.
        ablations: which columns; "none" asks with everything there is.
        limit: ask so many items only, spread evenly over the benchmark.
        batch: items that are asked together.
        wishes: protocol and frames; None: those of the setting.
        rank, world: this process and their number; each asks its share, the last one that is done sums up.
        threads: turns that are on their way at once.
        retry: ask failed items again.

    Raises:
        DataError: the benchmark's files can't be read.
        UsageError: arguments that make no sense, or the folder holds another run.
        StorageError: the folder can't be written.
        VideoLlama2Error: many items in a row failed in a way that no item should.
    """
    check_numbers(limit=limit, batch=batch, rank=rank, world=world, threads=threads)
    ablations = columns(ablations)
    wishes = wishes or wishes_of(benchmark, setting)
    benchmark = _fitted(benchmark, engine, wishes)
    loaded = benchmark.load(folder, setting)
    items = chosen(_unique(benchmark, loaded), limit)
    place = out / benchmark.name
    new = manifest(engine, benchmark, loaded, items, setting=setting, wishes=wishes, batch=batch, limit=limit,
                   folder=folder)  # fmt: skip
    known = settle(place / FILE, new)
    asker = Asker(engine=engine, benchmark=benchmark, setting=setting, wishes=wishes)
    mine = turns(items, ablations, batch)[rank::world]
    with Journal(place, rank, world) as journal:
        before = known_results(place)
        _check_ranges(before.values(), items)
        done = {k for k, r in before.items() if not (retry and r.outcome == Outcome.FAILED)}
        left = [tuple(task for task in turn if task.key not in done) for turn in mine]
        _ask(asker, [turn for turn in left if turn], sum(map(len, mine)), journal, threads, on_progress)
    return _finish(place, benchmark, known, items, ablations)


def _check_ranges(results: Iterable[Result], items: Sequence[Item]) -> None:
    """Media that were missing may have come since; one that was asked about may not have another range now."""
    now = {item.id: (item.media.start, item.media.end) for item in items if item.media is not None}
    for result in results:
        if result.media is not None and (found := now.get(result.id, result.range_seconds)) != result.range_seconds:
            raise UsageError(
                f"{result.id} was asked about {_seconds(result.range_seconds)}, and the annotation files now say "
                f"{_seconds(found)}; name another folder with --out"
            )


def _seconds(bounds: tuple[float | None, float | None]) -> str:
    start, end = ("–" if bound is None else f"{bound:g}" for bound in bounds)
    return f"{start} to {end} s"


def _fitted(benchmark: Benchmark, engine: Any, wishes: Wishes) -> Benchmark:
    """The benchmark for so many frames as will be seen, where its questions depend on them (`with_frames`)."""
    frames = wishes.frames or getattr(engine.model.config, "num_frames", None)
    fit = getattr(benchmark, "with_frames", None)
    return benchmark if fit is None or frames is None else fit(frames)


def _ask(
    asker: Asker, left: Sequence[Sequence[Task]], mine: int, journal: Journal, threads: int, told: Progress | None
) -> None:
    done = mine - sum(map(len, left))
    if told is not None:
        told((), done, mine)
    missing = {task.item.id for turn in left for task in turn if task.item.missing is not None}
    if missing:
        logger.warning("%s: the media of %d items are missing; they are Failed", asker.benchmark.name, len(missing))
    failures = _Failures(asker.benchmark.name, missing)
    for results in ask_all(asker, left, threads):
        journal.write(results)
        done += len(results)
        if told is not None:
            told(results, done, mine)
        failures.watch(results)


class _Failures:
    """Says which items fail, the first ones by name, and ends a run in which nothing works any more."""

    def __init__(self, name: str, missing: Collection[str]) -> None:
        self._name, self._missing = name, missing
        self._told = self._in_a_row = 0

    def watch(self, results: Sequence[Result]) -> None:
        """Look at new results.

        Raises:
            VideoLlama2Error: too many in a row failed in a way that no item should.
        """
        for result in results:
            if result.id in self._missing:
                continue
            unexpected = result.error is not None and result.error.startswith(UNEXPECTED)
            self._in_a_row = self._in_a_row + 1 if unexpected else 0
            if result.error is not None and self._told < _FAILURES_TOLD:
                self._told += 1
                last = "; further ones stand in results.jsonl" if self._told == _FAILURES_TOLD else ""
                logger.warning("%s %s failed: %s%s", self._name, result.id, result.error, last)
            if self._in_a_row == _MOST_UNEXPECTED:
                raise VideoLlama2Error(
                    f"{self._name}: {self._in_a_row} items in a row failed unexpectedly, the last with {result.error}. "
                    "Find out why, then run the same command again with --retry-failed"
                )


def _finish(
    place: Path, benchmark: Benchmark, known: Mapping[str, Any], items: Sequence[Item], ablations: Sequence[Ablation]
) -> Run:
    """Put the results in order; with the last one, write the summary."""
    found = known_results(place)
    # columns that an earlier call asked for stay
    shown = [a for a in ABLATIONS if a in ablations or any(key[0] == a for key in found)]
    wanted = [(ablation, item.id) for ablation in shown for item in items]
    results = tuple(found[key] for key in wanted if key in found)
    left = sum(1 for key in wanted if key not in found)
    if left:
        return Run(folder=place, manifest=known, results=results, left=left)
    write_results(place, results)
    figures = summary(results, benchmark, known, read_judgements(place), read_judgements(place, PROBES))
    write_json(place / SUMMARY, figures)
    submission = getattr(benchmark, "submission", _nothing)
    for name, text in submission([result for result in results if result.ablation == shown[0]]).items():
        write_whole(place / name, text.encode())
    return Run(folder=place, manifest=known, results=results, left=0, summary=figures)


def wishes_of(
    benchmark: Benchmark, setting: Setting, *, protocol: str | None = None, frames: int | None = None
) -> Wishes:
    """How media are prepared: as asked, else `paper` takes what was published, and `strict` what the model has.

    Raises:
        UsageError: no protocol has this name, or there are no frames.
    """
    if frames is not None and frames < 1:
        raise UsageError(f"frames={frames}; expected 1 or more")
    if setting == "paper":
        protocol = protocol or getattr(benchmark, "protocol", None) or "paper"
        frames = getattr(benchmark, "frames", None) if frames is None else frames
    return Wishes(protocol=None if protocol is None else named_protocol(protocol).name, frames=frames)


def chosen(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """`limit` of the items, spread evenly, so that every part of a benchmark is among them."""
    if limit is None or limit >= len(items):
        return tuple(items)
    return tuple(items[i * len(items) // limit] for i in range(limit))


def share(environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """This process and their number, as torchrun says; (0, 1) without it.

    Raises:
        UsageError: what stands there is no share.
    """
    env = os.environ if environment is None else environment
    return parse_share(f"{env.get('RANK', '0')}/{env.get('WORLD_SIZE', '1')}")


def parse_share(text: str) -> tuple[int, int]:
    """`0/2` → (0, 2): the first of two.

    Raises:
        UsageError: anything else.
    """
    rank, _, world = text.partition("/")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise UsageError(f"{text!r} is no share; expected K/N with K from 0 to N-1: 0/2 and 1/2 are the two halves")
    return int(rank), int(world)


def check_numbers(*, limit: int | None, batch: int, rank: int, world: int, threads: int) -> None:
    """Whether these arguments of `evaluate` make sense.

    Raises:
        UsageError: one does not.
    """
    numbers = {"limit": limit, "batch": batch, "rank": rank, "world": world, "threads": threads}
    for name, value in numbers.items():
        if value is not None and value < (0 if name == "rank" else 1):
            raise UsageError(f"{name}={value}; expected {'0' if name == 'rank' else '1'} or more")
    if rank >= world:
        raise UsageError(f"rank {rank} of {world} processes; expected 0 to {world - 1}")


def _unique(benchmark: Benchmark, loaded: Loaded) -> tuple[Item, ...]:
    first: dict[str, Item] = {}
    for item in loaded.items:
        other = first.setdefault(item.id, item)
        if other is not item:
            raise DataError(
                f"{benchmark.name}: {item.origin} and {other.origin} have the same id {item.id!r}; expected each once"
            )
    if not first:
        raise DataError(
            f"{benchmark.name}: the annotation files hold no items; `videollama2 eval list` says what is read"
        )
    return loaded.items


def _nothing(results: Sequence[Result]) -> dict[str, str]:
    """Most benchmarks publish their answers and need no file to hand in."""
    return {}
