"""Writes a run's metrics during training: metrics.jsonl, trackers, and progress on the terminal.

    metrics.jsonl   one JSON object per event: {"event": "step" | "evaluation" | "skip" | "end", "step": 12, "loss": …}
    tensorboard/    the same numbers for TensorBoard

Each line is written without buffering before `step` returns, so a killed run has its metrics up to the last step.
Values that are not finite are written as "nan", "inf" or "-inf", for which JSON has no numbers.
"""

import contextlib
import importlib
import importlib.util
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ..device import resident_bytes
from ..errors import DataError, MissingExtra, StorageError, UsageError
from ..jobs import JournalFile, read_lines, write_lines
from ..progress import Progress, show_progress

logger = logging.getLogger(__name__)

FILE = "metrics.jsonl"


class MetricsLog:
    """Writes a run's metrics; only the first process of a run has one.

    Progress and curves use these values of `step`: loss, learning_rate, gradient_norm, tokens_per_second,
    padding_share. Others are written as well.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        trackers: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        resume_step: int | None = None,
        quiet: bool = False,
    ) -> None:
        """Open a run's metrics.

        Args:
            folder: of the run; made if missing.
            trackers: besides the file; None: TensorBoard, if it is installed.
            settings: of the run, for the trackers.
            resume_step: the first step of a resumed run, whose earlier lines for this and later steps are removed;
                None: a new run.
            quiet: no progress on standard error.

        Raises:
            StorageError: the folder can't be written.
            UsageError: a new run's folder already holds metrics, or a tracker is unknown.
            MissingExtra: a requested tracker is not installed.
        """
        folder = Path(folder)
        self._path = folder / FILE
        self._latest = resume_step or 0
        self._progress: Progress | None = None
        self._quiet = quiet
        names = check_trackers(trackers)  # before writing anything
        with _storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if resume_step is not None:
                _truncate(self._path, resume_step)
            elif self._path.exists() and self._path.stat().st_size:
                raise UsageError(f"{self._path} holds the metrics of a run; resume it, or choose another --output.")
            self._file = JournalFile(self._path, in_use="wait for that run, or choose another --output")
            self._trackers = [_open(name, folder, dict(settings or {}), resume_step) for name in names]
            if resume_step is not None and "tensorboard" in names and self._path.stat().st_size:
                # TensorBoard purges by step, and with the step also the evaluation before it
                for event in (e for e in read_metrics(folder) if _evaluated(e, resume_step)):
                    self._track("evaluation", resume_step, event)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, first: int, last: int) -> None:
        """Show progress of steps `first` … `last - 1`: a bar on a terminal, otherwise one line per minute."""
        self._end_progress()
        if not self._quiet:
            self._progress = show_progress(first, last, "step")

    def step(self, step: int, **values: float) -> None:
        """Record an optimizer step; memory in use is added as `memory_bytes`.

        Raises:
            StorageError: the line can't be written; earlier lines are intact.
        """
        self._latest = step
        values = {"memory_bytes": used_bytes(), **values}
        self._write("step", step, values)
        if self._progress is not None:
            self._progress.update(step + 1, _words(values))

    def evaluation(self, step: int, **values: float) -> None:
        """Record an evaluation before step `step`. Raises like `step`."""
        self._write("evaluation", step, values)

    def event(self, name: str, **values: Any) -> None:
        """Record any other event, by default at the latest step. Raises like `step`."""
        self._write(name, values.pop("step", self._latest), values)

    def close(self) -> None:
        """Close file, progress and trackers. Raises like `step`."""
        self._end_progress()
        self._file.close()
        with _storage_errors(self._path.parent):
            for tracker in self._trackers:
                tracker.finish()

    def _write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        with _storage_errors(self._path):
            self._file.append([{"event": event, "step": step, **_plain(values)}])
            self._track(event, step, values)

    def _track(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        prefix = "" if event == "step" else f"{event}/"
        numbers = {prefix + k: v for k, v in values.items() if isinstance(v, int | float) and k != "step"}
        for tracker in self._trackers:
            tracker.log(numbers, step)

    def _end_progress(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The events of a run, in order; a last line cut off by a crash is dropped.

    Raises:
        UsageError: the folder has no metrics, or a line is not an event.
    """
    path = Path(run) / FILE
    if not path.is_file():
        raise UsageError(f"{run} has no readable {FILE}; expected the output folder of a training run.")
    events: list[dict[str, Any]] = []
    try:
        for number, event in read_lines(path):
            if not isinstance(event.get("event"), str) or not isinstance(event.get("step"), int):
                raise UsageError(
                    f"{path}:{number}: not an event: expected event as text and step as an integer; remove the line."
                )
            events.append(event)
    except DataError as error:
        raise UsageError(str(error)) from error
    return events


def used_bytes() -> int:
    """Memory in use: the peak allocation on the current GPU, or this process's resident memory without a GPU."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return resident_bytes()


def check_trackers(trackers: Sequence[str] | None) -> tuple[str, ...]:
    """The trackers to open (None: TensorBoard, if it is installed). Raises like `MetricsLog`."""
    known = {"tensorboard": "'videollama2[train]'", "wandb": "wandb", "trackio": "trackio"}
    if trackers is None:
        if importlib.util.find_spec("tensorboard") is not None:
            return ("tensorboard",)
        logger.info("metrics go to %s only; for TensorBoard: pip install 'videollama2[train]'", FILE)
        return ()
    for name in trackers:
        if name not in known:
            raise UsageError(f"unknown tracker {name!r}; expected {', '.join(known)}.")
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(f"tracker {name!r} is not installed; run: pip install {known[name]}")
    return tuple(dict.fromkeys(trackers))


def _truncate(path: Path, step: int) -> None:
    """Atomically remove the lines of `step` and later, and a torn last line.

    The evaluation before `step` stays: it precedes the checkpoint, so a resumed run does not repeat it.
    """
    if not path.exists():
        return
    kept = [e for e in read_metrics(path.parent) if e["step"] < step or (_evaluated(e, step) and step > 0)]
    write_lines(path, kept)


def _evaluated(event: Mapping[str, Any], step: int) -> bool:
    return bool(event["event"] == "evaluation" and event["step"] == step)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """What can't be written is a StorageError that tells how to resume training."""
    try:
        yield
    except (OSError, StorageError) as error:
        reason = error if isinstance(error, OSError) else error.__cause__
        raise StorageError(
            f"{path} can't be written ({getattr(reason, 'strerror', None) or error}); earlier lines are intact. Free "
            "some space or make it writable, then resume the run."
        ) from error


class _Tracker(Protocol):
    """A destination for metrics besides the file."""

    def log(self, values: dict[str, Any], step: int | None = None) -> None: ...

    def finish(self) -> None: ...


class _TensorBoard:
    """TensorBoard; steps that a resumed run repeats are purged."""

    def __init__(self, folder: Path, settings: dict[str, Any], resume_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step)
        if settings and resume_step is None:
            self._writer.add_text("settings", f"```\n{json.dumps(settings, indent=2, default=str)}\n```")

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step=step)

    def finish(self) -> None:
        self._writer.close()


class _Service:
    """Weights & Biases or trackio, which share an API. Their own settings decide what they send, and where."""

    def __init__(self, name: str, folder: Path, settings: dict[str, Any]) -> None:
        run = folder.resolve().name
        # W&B rejects repeated steps, so a resumed run becomes a second run in the same group
        where = {"dir": str(folder), "group": run} if name == "wandb" else {"name": run, "resume": "allow"}
        config = json.loads(json.dumps(settings, default=str))
        self._run: Any = importlib.import_module(name).init(project="videollama2", config=config, **where)

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self._run.log(values, step=step)

    def finish(self) -> None:
        self._run.finish()


def _open(name: str, folder: Path, settings: dict[str, Any], resume_step: int | None) -> _Tracker:
    if name == "tensorboard":
        return _TensorBoard(folder, settings, resume_step)
    return _Service(name, folder, settings)


def _words(values: Mapping[str, Any]) -> str:
    """`loss 2.314  1,204 tokens/s  3.2 GiB`."""
    words = [f"loss {values['loss']:.4g}"] if "loss" in values else []
    words += [f"{values['tokens_per_second']:,.0f} tokens/s"] if "tokens_per_second" in values else []
    return "  ".join([*words, f"{values['memory_bytes'] / 2**30:.1f} GiB"])
