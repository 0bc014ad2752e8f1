"""A run: one benchmark, one model, one folder. `videollama2 eval` does this for each benchmark.

OUT/BENCHMARK/manifest.json     what the numbers depend on (manifest.py)
              results.jsonl     one result per line (journal.py); of n processes results-K.jsonl until all are done
              timings.jsonl     seconds of each item
              summary.json      the figures (report.py), once every item has a result
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine import Engine
from ..errors import DataError, UsageError, VideoLlama2Error
from ..jobs import EnginePool, FailureStreak, write_json
from ..protocols import protocol as named_protocol
from ..storage import write_whole
from .benchmark import Benchmark
from .clip_sessions import ClipSessions, batches, by_clip, questions_about, shares, taking_turns
from .elsewhere import AskClip, answer_elsewhere
from .items import ABLATIONS, Ablation, Item, Loaded, Outcome, Result, Setting, spread
from .journal import ResultJournal, known_results, write_results
from .judge.judgements import PROBES, read_judgements
from .loop import UNEXPECTED, Conditions, MediaOptions, Trial, ablations_of, answer_all
from .manifest import FILE, facts_of, manifest, settle
from .report.summary import summary

logger = logging.getLogger(__name__)

SUMMARY = "summary.json"
_FAILURES_LOGGED = 10  # by name
_UNEXPECTED_IN_A_ROW = 25  # not the items, but the device or the installation is broken

OnResults = Callable[[Sequence[Result], int, int], None]
"""Called with new results, the number of items done, and this process's total."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The outcome of `evaluate`.

    Attributes:
        folder: OUT/BENCHMARK.
        results: those that exist, by ablation, then in the order of the items.
        left: items of other processes that have no result yet; with 0 the run is finished, and `summary` is set.
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
    batch: int | None = None,
    media_options: MediaOptions | None = None,
    rank: int = 0,
    world: int = 1,
    threads: int = 1,
    retry: bool = False,
    on_progress: OnResults | None = None,
) -> Run:
    """Ask every item that has no result yet, and write the summary once all have one.

    Args:
        engine: an Engine, anything with its `answer`, `batch`, `name`, `model` and `protocol`, or an EnginePool.
        folder: where the benchmark's files are.
        out: the run's folder is OUT/BENCHMARK; an existing run there is resumed.
        ablations: the columns; "none" asks with all modalities.
        limit: number of items to ask, spread evenly over the benchmark; None: all.
        batch: items answered together; None: those about one clip (`clip_sessions.batches`).
        media_options: protocol and frames; None: those of the setting (`media_options_for`).
        rank, world: this process and the number of processes; each asks its share, the last to finish sums up.
        threads: batches in progress at once.
        retry: ask failed items again.

    Raises:
        DataError: the benchmark's files can't be read.
        UsageError: an argument is out of range, or the folder holds a different run.
        StorageError: the folder can't be written.
        VideoLlama2Error: many items in a row failed unexpectedly.
    """
    check_numbers(limit=limit, batch=batch, rank=rank, world=world, threads=threads)
    ablations = ablations_of(ablations)
    media_options = media_options or media_options_for(benchmark, setting)
    frames = media_options.frames or facts_of(engine).frames
    if frames is not None:
        benchmark = benchmark.with_frames(frames)
    loaded = benchmark.load(folder, setting)
    items = spread(_unique(benchmark, loaded), limit)
    place = out / benchmark.name
    new = manifest(engine, benchmark, loaded, items, setting=setting, media_options=media_options, batch=batch,
                   limit=limit, folder=folder)  # fmt: skip
    known = settle(place / FILE, new)
    planned = batches(by_clip(items), ablations, batch)
    mine = taking_turns(shares(planned, world)[rank], 1 if isinstance(engine, EnginePool) else threads)
    asking, trials = engine, [trial for each in planned for trial in each]
    if isinstance(engine, Engine):
        asking = ClipSessions(engine, trials, media_options, most_open=threads + 1)
    conditions = Conditions(engine=asking, benchmark=benchmark, setting=setting, media_options=media_options)
    with ResultJournal(place, rank, world) as journal:
        before = known_results(place)
        _check_ranges(before.values(), items)
        done = {k for k, r in before.items() if not (retry and r.outcome == Outcome.FAILED)}
        left = [tuple(trial for trial in each if trial.key not in done) for each in mine]
        left = [each for each in left if each]
        if isinstance(engine, EnginePool):
            results = answer_elsewhere(
                engine, AskClip(questions_about(trials, media_options), threads), conditions, left
            )
        else:
            results = answer_all(conditions, left, threads)
        _answer(conditions, left, results, sum(map(len, mine)), journal, on_progress)
    return _finish(place, benchmark, known, items, ablations)


def _check_ranges(results: Iterable[Result], items: Sequence[Item]) -> None:
    """Missing media may have been added since; but the time range of an answered item must not have changed."""
    now = {item.id: (item.media.start, item.media.end) for item in items if item.media is not None}
    for result in results:
        if result.media is not None and (found := now.get(result.id, result.range_seconds)) != result.range_seconds:
            raise UsageError(
                f"{result.id} was asked about {_seconds(result.range_seconds)}, but the annotation files now have "
                f"{_seconds(found)}; name another folder with --out."
            )


def _seconds(bounds: tuple[float | None, float | None]) -> str:
    start, end = ("–" if bound is None else f"{bound:g}" for bound in bounds)
    return f"{start} to {end} s"


def _answer(
    conditions: Conditions,
    left: Sequence[Sequence[Trial]],
    found: Iterable[list[Result]],
    total: int,
    journal: ResultJournal,
    on_progress: OnResults | None,
) -> None:
    done = total - sum(map(len, left))
    if on_progress is not None:
        on_progress((), done, total)
    asked = [trial.item for batch in left for trial in batch]
    malformed = {item.id: item.malformed for item in asked if item.malformed is not None}
    missing = {item.id for item in asked if item.missing is not None and item.malformed is None}
    name = conditions.benchmark.name
    if missing:
        logger.warning("%s: the media of %d items are missing; these items count as Failed", name, len(missing))
    for number, problem in enumerate(malformed.values(), 1):
        if number <= _FAILURES_LOGGED:
            logger.warning("%s: a malformed record is not asked: %s", name, problem)
    failures = _Failures(name, {*missing, *malformed})
    for results in found:
        journal.write(results)
        done += len(results)
        if on_progress is not None:
            on_progress(results, done, total)
        failures.watch(results)


class _Failures:
    """Logs the first failures by name, and ends a run in which nothing works any more."""

    def __init__(self, name: str, missing: Collection[str]) -> None:
        self._name, self._missing = name, missing
        self._logged, self._streak = 0, FailureStreak(_UNEXPECTED_IN_A_ROW)

    def watch(self, results: Sequence[Result]) -> None:
        """Check new results.

        Raises:
            VideoLlama2Error: too many items in a row failed unexpectedly.
        """
        for result in results:
            if result.id in self._missing:
                continue
            if result.error is not None and self._logged < _FAILURES_LOGGED:
                self._logged += 1
                last = "; for further ones see results.jsonl" if self._logged == _FAILURES_LOGGED else ""
                logger.warning("%s %s failed: %s%s", self._name, result.id, result.error, last)
            if self._streak.update(unexpected=(result.error or "").startswith(UNEXPECTED)):
                raise VideoLlama2Error(
                    f"{self._name}: {self._streak.length} items in a row failed unexpectedly, the last with "
                    f"{result.error}. Fix the cause, then run the same command again with --retry-failed."
                )


def _finish(
    place: Path, benchmark: Benchmark, known: Mapping[str, Any], items: Sequence[Item], ablations: Sequence[Ablation]
) -> Run:
    """Put the results in order; once all are there, write the summary."""
    found = known_results(place)
    # the columns of earlier calls stay
    shown = [a for a in ABLATIONS if a in ablations or any(key[0] == a for key in found)]
    wanted = [(ablation, item.id) for ablation in shown for item in items]
    results = tuple(found[key] for key in wanted if key in found)
    left = sum(1 for key in wanted if key not in found)
    if left:
        return Run(folder=place, manifest=known, results=results, left=left)
    write_results(place, results)
    figures = summary(results, benchmark, known, read_judgements(place), read_judgements(place, PROBES))
    write_json(place / SUMMARY, figures)
    if "none" in shown:  # nothing is submitted of a run that only withheld modalities
        for name, text in benchmark.submission([r for r in results if r.ablation == "none"]).items():
            write_whole(place / name, text.encode())
    return Run(folder=place, manifest=known, results=results, left=0, summary=figures)


def media_options_for(
    benchmark: Benchmark, setting: Setting, *, protocol: str | None = None, frames: int | None = None
) -> MediaOptions:
    """How media are prepared: as requested, else under `paper` as published, and under `strict` as the model does.

    Raises:
        UsageError: unknown protocol, or fewer than one frame.
    """
    if frames is not None and frames < 1:
        raise UsageError(f"expected 1 or more frames, got {frames}.")
    if setting == "paper":
        protocol = protocol or benchmark.protocol or "paper"
        frames = benchmark.frames if frames is None else frames
    return MediaOptions(protocol=None if protocol is None else named_protocol(protocol).name, frames=frames)


def check_numbers(*, limit: int | None, batch: int | None, rank: int, world: int, threads: int) -> None:
    """Check these arguments of `evaluate`.

    Raises:
        UsageError: one of them is out of range.
    """
    numbers = {"limit": limit, "batch": batch, "rank": rank, "world": world, "threads": threads}
    for name, value in numbers.items():
        least = 0 if name == "rank" else 1
        if value is not None and value < least:
            raise UsageError(f"expected {name} of {least} or more, got {value}.")
    if rank >= world:
        raise UsageError(f"expected rank 0 to {world - 1} of {world} processes, got {rank}.")


def _unique(benchmark: Benchmark, loaded: Loaded) -> tuple[Item, ...]:
    first: dict[str, Item] = {}
    for item in loaded.items:
        other = first.setdefault(item.id, item)
        if other is not item:
            raise DataError(
                f"{benchmark.name}: {item.origin} and {other.origin} have the same id {item.id!r}; expected unique ids."
            )
    if not first:
        raise DataError(f"{benchmark.name}: no items in the annotation files; `videollama2 eval list` lists the files.")
    return loaded.items
