"""DeepSpeed's ZeRO takes the steps that one process takes; checkpoints are ours. Runs where DeepSpeed is installed."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from videollama2.errors import MissingExtra, UsageError
from videollama2.train.build import Sources
from videollama2.train.strategy.deepspeed import DeepSpeedZero, read_config

from . import runs

AUTO = {
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto", "fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"},
}  # fmt: skip


def write(path: Path, stage: int = 2, **values: Any) -> Path:
    """As the original's scripts have it (zero2.json)."""
    zero = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True, "reduce_bucket_size": "auto"}
    path.write_text(json.dumps({**AUTO, "zero_optimization": zero, **values}))
    return path


def test_what_it_can_not_do_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for values, words in (
        ({"stage": 3}, "FSDP"),
        ({"stage": 0}, "expected 1 or 2"),
        ({"optimizer": {"type": "AdamW"}}, "--learning-rate"),
        ({"train_batch_size": 8}, "--batch"),
        ({"bf16": {"enabled": True}}, "--precision"),
    ):
        with pytest.raises(UsageError, match=words):
            read_config(write(tmp_path / "bad.json", **values))
    with pytest.raises(UsageError, match="not a readable"):
        read_config(tmp_path / "none.json")
    kept = read_config(write(tmp_path / "good.json", comms_logger={"enabled": False}))
    assert kept["zero_optimization"] == {"stage": 2, "overlap_comm": True, "contiguous_gradients": True}
    assert "comms_logger" in kept and not AUTO.keys() & kept.keys()
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="torchrun"):
        DeepSpeedZero.join(torch.device("cpu"), tmp_path / "good.json")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(MissingExtra, match="pip install"):
        DeepSpeedZero.join(torch.device("cpu"), tmp_path / "good.json")


# DeepSpeed is no extra of ours and has an environment of its own; where it is not installed there is no such test
if find_spec("deepspeed"):

    @pytest.mark.parametrize("stage", [1, 2])
    def test_two_processes_do_what_one_does_and_go_on_in_its_place(tmp_path: Path, stage: int) -> None:
        sources: Sources = runs.make(tmp_path)
        runs.run(sources, tmp_path / "one")
        spread(sources, tmp_path / "two", "--deepspeed", str(write(tmp_path / "zero.json", stage)))
        assert runs.losses(tmp_path / "two") == pytest.approx(runs.losses(tmp_path / "one"), abs=1e-4)
        last = tmp_path / "two" / "checkpoints" / "step-000004"
        assert {file.suffix for file in last.iterdir()} == {".safetensors", ".json"}  # no pickles

        same(tmp_path / "one", tmp_path / "two")
        # half of it again, by DeepSpeed from its own checkpoint, and by one process alone
        shutil.copytree(tmp_path / "two", tmp_path / "alone")
        for run in (tmp_path / "two", tmp_path / "alone"):
            shutil.rmtree(run / "checkpoints" / "step-000004")
        command = ["--resume", "--output", str(tmp_path / "two")]
        launch(command, processes=2)
        launch(["--resume", "--output", str(tmp_path / "alone"), "--deepspeed", "none"], processes=1)
        for run in ("two", "alone"):
            assert runs.losses(tmp_path / run) == pytest.approx(runs.losses(tmp_path / "one"), abs=1e-4)
            same(tmp_path / "one", tmp_path / run)


def same(one: Path, other: Path) -> None:
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=2e-5, rtol=0)


def spread(sources: Sources, output: Path, *more: str) -> None:
    launch(["--output", str(output), *runs.flags(sources), *more], processes=2)


def launch(arguments: list[str], processes: int) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
        "-m", "videollama2", "train", "av_joint", "--device", "cpu", "--json", *arguments,
    ]  # fmt: skip
    env = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stderr
