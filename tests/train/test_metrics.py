"""The metrics of a run: whole lines, resumed runs, trackers, a full disk."""

import json
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from videollama2 import progress
from videollama2.errors import MissingExtra, StorageError, UsageError
from videollama2.train import metrics
from videollama2.train.metrics import FILE, MetricsLog, read_metrics


def three_steps(folder: Path, **more: Any) -> MetricsLog:
    written = MetricsLog(folder, trackers=(), quiet=True, **more)
    for step in range(3):
        written.step(step, loss=3.0 - step, gradient_norm=1.0, tokens_per_second=10.0)
    return written


def test_every_event_is_on_disk_at_once(tmp_path: Path) -> None:
    written = three_steps(tmp_path / "run")
    written.evaluation(3, loss=0.5)
    written.event("skip", record="a.jsonl:3", reason="unreadable")
    events = read_metrics(tmp_path / "run")  # not closed: as a killed run leaves it
    assert [e["event"] for e in events] == ["step"] * 3 + ["evaluation", "skip"]
    assert events[1]["loss"] == 2.0 and events[1]["memory_bytes"] > 0
    assert events[4] == {"event": "skip", "step": 2, "record": "a.jsonl:3", "reason": "unreadable"}
    written.close()


def test_a_resumed_run_removes_the_steps_it_repeats(tmp_path: Path) -> None:
    three_steps(tmp_path).close()
    with (tmp_path / FILE).open("a") as file:
        file.write('{"event": "step", "st')  # killed while it wrote
    assert len(read_metrics(tmp_path)) == 3
    with MetricsLog(tmp_path, trackers=(), quiet=True, resume_step=2) as again:
        again.step(2, loss=7.0)
    assert [e["loss"] for e in read_metrics(tmp_path)] == [3.0, 2.0, 7.0]
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_a_new_run_does_not_mix_with_an_old_one(tmp_path: Path) -> None:
    three_steps(tmp_path).close()
    with pytest.raises(UsageError, match="holds the metrics of a run; resume it"):
        MetricsLog(tmp_path, trackers=())


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, trackers=(), quiet=True) as written:
        written.step(0, loss=float("nan"), gradient_norm=float("inf"))
    (event,) = read_metrics(tmp_path)
    assert (event["loss"], event["gradient_norm"]) == ("nan", "inf")


# in a process of its own: the limit holds for every file that a process writes, this one's output too
FULL_DISK = """
import resource, signal, sys
from videollama2.errors import StorageError
from videollama2.train.metrics import MetricsLog

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # beyond the limit a write fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
written = MetricsLog(sys.argv[1], trackers=(), quiet=True)
try:
    for step in range(100):
        written.step(step, loss=1.0)
except StorageError as error:
    written.close()
    print(step, error)
"""


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True
    )
    steps, _, words = done.stdout.partition(" ")
    assert "can't be written" in words and "earlier lines are intact" in words
    lines = (tmp_path / FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(int(steps))) and int(steps) > 2


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't be written"):
        MetricsLog(tmp_path / "file" / "run", trackers=())


def test_tensorboard_has_the_same_values_and_purges_repeated_steps(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with MetricsLog(tmp_path, settings={"seed": 1}, quiet=True) as written:
        for step in range(4):
            written.step(step, loss=float(step))
        written.evaluation(2, loss=0.5)  # before the checkpoint at step 2
        written.evaluation(4, loss=0.4)
    with MetricsLog(tmp_path, resume_step=2, quiet=True) as again:
        again.step(2, loss=9.0)
        again.evaluation(3, loss=0.25)
    evaluated = [(e["step"], e["loss"]) for e in read_metrics(tmp_path) if e["event"] == "evaluation"]
    assert evaluated == [(2, 0.5), (3, 0.25)]
    read = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(s.step, s.value) for s in read.Scalars("loss")] == [(0, 0.0), (1, 1.0), (2, 9.0)]
    assert [(s.step, s.value) for s in read.Scalars("evaluation/loss")] == [(2, 0.5), (3, 0.25)]


def test_missing_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="'wandb' is not installed; run: pip install wandb"):
        MetricsLog(tmp_path / "a", trackers=("wandb",))
    with pytest.raises(UsageError, match="unknown tracker 'tensorbord'"):
        MetricsLog(tmp_path / "a", trackers=("tensorbord",))
    assert not (tmp_path / "a").exists()
    three = MetricsLog(tmp_path / "b", quiet=True)  # by default only where it is installed
    three.step(0, loss=1.0)
    three.close()
    assert [p.name for p in (tmp_path / "b").iterdir()] == [FILE]


def test_progress_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with MetricsLog(tmp_path, trackers=()) as written:
        written.begin(10, 110)
        for step in range(10, 20):
            now += 30
            written.step(step, loss=1.5, tokens_per_second=1234.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("step 12 of 110  loss 1.5  1,234 tokens/s  ") and lines[0].endswith(" 0:49 h left")


@pytest.mark.parametrize(("text", "found"), [(None, "no readable metrics"), ("{}\n", "jsonl:1: not an event")])
def test_no_run(tmp_path: Path, text: str | None, found: str) -> None:
    if text is not None:
        (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError, match=found):
        read_metrics(tmp_path)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_service_gets_what_the_file_holds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls as both packages have them; they themselves were tried by hand."""
    told: list[Any] = []
    run = SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append("end"))
    package = ModuleType(name)
    package.__spec__ = ModuleSpec(name, None)
    package.init = lambda **how: told.append(how) or run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, package)
    with MetricsLog(tmp_path / "run", trackers=(name,), settings={"output": Path("x")}, quiet=True) as opened:
        opened.step(0, loss=1.5)
    how, step, *_, end = told
    assert how["project"] == "videollama2" and how["config"] == {"output": "x"} and end == "end"
    assert "run" in (how.get("group"), how.get("name"))
    assert step[0] == 0 and step[1]["loss"] == 1.5
