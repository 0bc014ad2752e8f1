"""A run's folder is one run's: nothing in it is lost, mixed up or silently another."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from videollama2 import cli
from videollama2.data.batches import MicroBatch, StepBatch
from videollama2.errors import NumericsError, UsageError
from videollama2.phases import PHASES
from videollama2.train import checkpoint, loop
from videollama2.train.build import Sources
from videollama2.train.distributed import Processes
from videollama2.train.run import resumed
from videollama2.train.settings import resolve

from . import runs


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return runs.make(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    runs.run(sources, folder, steps=2, batch=2, save_every=1)
    return folder


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("epochs", [0, "-1", 1e300]),
        ("clip", [0, -1]),
        ("beta2", [1, 1.5, -0.1]),
        ("weight_decay", [-0.1]),
        ("rates", [{"connector": -1e-3}, "connector=1,connector=2", 7, True]),
        ("mixture", [3, [], "av=1,av=2"]),
        ("batch", [float("inf"), float("nan"), 10**400, 10**9]),
        ("learning_rate", [10**400, -1]),
        ("lora_alpha", [0, -4]),
        ("lora_dropout", [1, -0.5]),
        ("lora_rank", [-1, 10**9]),
        ("seed", [-1, 2**63]),
        ("workers", [-1, 10**6]),
        ("cache_gb", [-1, 1e300]),
        ("cache", [""]),
    ],
)
def test_meaningless_values_are_rejected_first(key: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(UsageError, match=rf"^{key} (is|has) .*expected"):
            resolve("av_joint", {key: value})


def test_a_resume_repeats_its_sources_or_omits_them(
    sources: Sources, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["train", "av_joint", "--resume", "--output", str(finished), "--device", "cpu"]
    same = ["--model", sources.model, "--data", *sources.data, "--learning-rate", "1e-3"]
    assert cli.main([*start, *same]) == 0
    for flag, value in (("--model", "nano"), ("--data", "other.jsonl"), ("--recipe", "gone.toml")):
        assert cli.main([*start, flag, value]) == 2
        assert value in capsys.readouterr().err
    with pytest.raises(UsageError, match="learning_rate"):
        resumed(finished, "av_joint", {"learning_rate": "2e-3"})


def test_two_runs_do_not_share_a_folder(sources: Sources, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, pathlib, time; from videollama2.train.checkpoint import locked\n"
         "with locked(pathlib.Path(sys.argv[1])): print(flush=True); time.sleep(60)", str(tmp_path)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UsageError, match="another run"):
            runs.run(sources, tmp_path, steps=1)
    finally:
        holder.kill()
        holder.communicate()
    runs.run(sources, tmp_path, steps=1)  # what was killed holds it no longer
    assert not list(tmp_path.rglob(f"*{checkpoint.UNFINISHED}"))


def test_a_finished_model_without_checkpoints_is_not_overwritten(
    sources: Sources, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints")
    before = (run / "model.safetensors").read_bytes()
    for resume in (False, True):
        with pytest.raises(UsageError, match="finished run"):
            runs.run(sources, run, steps=2, batch=2, resume=resume)
    assert (run / "model.safetensors").read_bytes() == before


def test_checkpoints_are_sorted_by_number_and_copies_are_not_touched(tmp_path: Path) -> None:
    for name in ("step-999998", "step-999999", "step-1000000", "step-000001-mine", "step-000002.unfinished"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "state.json").write_text("{}")
    names = [p.name for p in checkpoint.checkpoints(tmp_path)]
    assert names == ["step-999998", "step-999999", "step-1000000"]
    checkpoint.prune(tmp_path, 1, "step-999998")
    left = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert left == {"step-999998", "step-1000000", "step-000001-mine", "step-000002.unfinished"}


def _change(path: Path, change: Any) -> None:
    with safe_open(path, "pt") as file:
        places = file.metadata()
    tensors = load_file(path)
    change(tensors, places)
    save_file(tensors, path, metadata=places)


class _Two(Processes):
    """The first of two processes, the other of which has met `theirs`."""

    theirs: Any = ()

    def gather(self, items: Any) -> list[Any]:
        return [*items, *self.theirs]

    def sum(self, values: Any) -> list[float]:
        return list(values)


def test_the_bad_sample_is_named_whichever_process_has_it() -> None:
    processes = _Two(0, 1, torch.device("cpu"))
    _Two.theirs = [("theirs.jsonl:7", False)]
    batch = StepBatch(3, [MicroBatch({}, ("mine.jsonl:1",), 1, 1, 0)])
    error = loop._not_finite(PHASES["av_joint"], batch, [torch.tensor(1.0)], float("nan"), float("nan"), processes)
    assert "theirs.jsonl:7" in str(error) and "mine" not in str(error)


def test_an_evaluation_that_is_not_finite_stops_the_run(sources: Sources, tmp_path: Path) -> None:
    held_out = Sources(model=str(tmp_path / "model"), data=sources.data, evaluation=sources.data)
    shutil.copytree(sources.model, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    _change(path, lambda tensors, _: tensors["lm_head.weight"].fill_(float("nan")))
    with pytest.raises(NumericsError, match=r"evaluation data is nan.*data\.jsonl:1"):
        runs.run(held_out, tmp_path / "run")


def test_sigterm_prints_how_to_resume(sources: Sources, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "videollama2", "train", "av_joint", *runs.flags(sources, steps=5000, save_every=1),
         "--output", str(run), "--device", "cpu"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "WORLD_SIZE": "1"},
    )  # fmt: skip
    while process.poll() is None and not checkpoint.checkpoints(run):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and f"--output {run} --resume" in said
    assert "Traceback" not in said and json.loads((run / "settings.json").read_text())
    assert checkpoint.checkpoints(run) and not (run / f"lock{checkpoint.UNFINISHED}").exists()
