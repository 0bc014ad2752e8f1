"""What a run says while it trains: metrics.jsonl always, trackers if there are any, and a line with the time left.

    metrics.jsonl   one JSON object per event: {"event": "step" | "evaluation" | "skip" | "end", "step": 12, "loss": …}
    tensorboard/    the same numbers for TensorBoard

Each line is whole and on its way to the disk before `step` returns, so a killed run has its metrics up to the last
step. What is not finite is written as "nan", "inf" or "-inf", because JSON has no number for it.
"""

import importlib
import importlib.util
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ..device import resident_bytes
from ..errors import MissingExtra, StorageError, UsageError
from ..json_lines import dumps_line
from ..progress import Progress, show_progress

logger = logging.getLogger(__name__)

FILE = "metrics.jsonl"


class MetricsLog:
    """Writes a run's metrics. One process of a run has one; the others have none.

    `step` knows these names for its progress and for the curves: loss, learning_rate, gradient_norm,
    tokens_per_second, padding_share. Any other is written as well.
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
            folder: of the run; it is made if it is not there.
            trackers: beside the file. None: TensorBoard, if it is installed.
            settings: of the run, told to the trackers.
            resume_step: the first step that will be done (again); what was written of it and of later ones goes.
                None: the run is new.
            quiet: no progress on standard error.

        Raises:
            StorageError: the folder can't be written.
            UsageError: it holds a run's metrics already though this one is new, or an unknown tracker.
            MissingExtra: a tracker that was asked for is not installed.
        """
        folder = Path(folder)
        self._path = folder / FILE
        self._latest = resume_step or 0
        self._progress: Progress | None = None
        self._quiet = quiet
        opened = check_trackers(trackers)  # before anything is made: a missing package leaves no trace
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if resume_step is not None:
                _forget(self._path, resume_step)
            elif self._path.exists() and self._path.stat().st_size:
                raise UsageError(f"{self._path} holds the metrics of a run; resume it, or choose another output folder")
            self._file = self._path.open("ab", buffering=0)
            self._trackers = [_open(name, folder, dict(settings or {}), resume_step) for name in opened]
            if resume_step is not None and "tensorboard" in opened and self._path.stat().st_size:
                # TensorBoard forgets by step alone, and with the step an evaluation before it
                for event in (e for e in read_metrics(folder) if _evaluated(e, resume_step)):
                    self._track("evaluation", resume_step, event)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, first: int, last: int) -> None:
        """Show progress from step `first` up to, without, step `last`: a bar on a terminal, else a line a minute."""
        self._end_progress()
        if not self._quiet:
            self._progress = show_progress(first, last, "step")

    def step(self, step: int, **values: float) -> None:
        """What an optimiser step did. The memory in use is added as `memory_bytes`.

        Raises:
            StorageError: it can't be written; the lines before it are whole.
        """
        self._latest = step
        values = {"memory_bytes": used_bytes(), **values}
        self._write("step", step, values)
        if self._progress is not None:
            self._progress.update(step + 1, _words(values))

    def evaluation(self, step: int, **values: float) -> None:
        """What an evaluation before step `step` found. Raises as `step` does."""
        self._write("evaluation", step, values)

    def event(self, name: str, **values: Any) -> None:
        """Anything else; `step` is the latest one unless it is given. Raises as `step` does."""
        self._write(name, values.pop("step", self._latest), values)

    def close(self) -> None:
        """End progress and trackers. Raises as `step` does."""
        self._end_progress()
        self._file.close()
        try:
            for tracker in self._trackers:
                tracker.finish()
        except OSError as error:
            raise _unwritable(self._path.parent, error) from error

    def _write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        line = dumps_line({"event": event, "step": step, **_plain(values)}, allow_nan=False) + "\n"
        left, size = memoryview(line.encode()), os.fstat(self._file.fileno()).st_size
        try:
            while left:  # a disk that is nearly full takes a part before it refuses
                left = left[self._file.write(left) or 0 :]
            self._track(event, step, values)
        except OSError as error:
            if left:
                os.ftruncate(self._file.fileno(), size)
            raise _unwritable(self._path, error) from error

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
    """The events of a run, in order. A last line that was cut by a crash is left out.

    Raises:
        UsageError: the folder has no metrics, or a line is no event.
    """
    path = Path(run) / FILE
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"{run} has no readable {FILE} ({reason}); give the output folder of a training run"
        ) from error
    events: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        try:
            event = json.loads(line)
            if not isinstance(event["event"], str) or not isinstance(event["step"], int):
                raise TypeError("event is no text or step no whole number")
        except (ValueError, KeyError, TypeError) as error:
            if not line.endswith("\n"):
                break
            raise UsageError(f"line {number} of {path} is no event of a run ({error}); remove the line") from error
        events.append(event)
    return events


def used_bytes() -> int:
    """Memory in use: the most that was allocated on the current GPU, or what this process occupies in RAM now."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return resident_bytes()


def check_trackers(trackers: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the trackers to open. Raises as `Metrics` does."""
    known = {"tensorboard": "'videollama2[train]'", "wandb": "wandb", "trackio": "trackio"}
    if trackers is None:
        if importlib.util.find_spec("tensorboard") is not None:
            return ("tensorboard",)
        logger.info("metrics go to %s only; `pip install 'videollama2[train]'` adds TensorBoard", FILE)
        return ()
    for name in trackers:
        if name not in known:
            raise UsageError(f"there is no tracker {name!r}; expected some of {', '.join(known)}")
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(f"the tracker {name!r} is not installed; run `pip install {known[name]}`")
    return tuple(dict.fromkeys(trackers))


def _forget(path: Path, step: int) -> None:
    """Remove the lines of `step` and later ones, and a torn last line, all or nothing.

    An evaluation before `step` stays: it is done before the checkpoint, so a resumed run does not do it again.
    """
    if not path.exists():
        return
    kept = [e for e in read_metrics(path.parent) if e["step"] < step or (_evaluated(e, step) and step > 0)]
    beside = path.with_suffix(".part")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(dumps_line(e) + "\n" for e in kept)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _evaluated(event: Mapping[str, Any], step: int) -> bool:
    return bool(event["event"] == "evaluation" and event["step"] == step)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} can't be written ({error.strerror or error}); what was written before is whole. Make room or choose "
        "a folder that can be written, then resume the run"
    )


class _Tracker(Protocol):
    """Where numbers go besides the file."""

    def log(self, values: dict[str, Any], step: int | None = None) -> None: ...

    def finish(self) -> None: ...


class _TensorBoard:
    """TensorBoard; what a resumed run does again is purged."""

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
    """Weights & Biases or trackio, whose calls are the same. Whether they send anything, and where, they know."""

    def __init__(self, name: str, folder: Path, settings: dict[str, Any]) -> None:
        run = folder.resolve().name
        # W&B takes no step twice, so a resumed run is a second one in the same group, over the same steps
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
