"""What a run needs before its first step: pools of records, and what depends on the GPU, looked at without one."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from videollama2.errors import DataError
from videollama2.train import checkpoint
from videollama2.train.build import Sources, automatic
from videollama2.train.settings import resolve
from videollama2.train.strategy import SingleProcess
from videollama2.train.training_data import read_data

TALK = [{"from": "human", "value": "how many?"}, {"from": "gpt", "value": "three!"}]
STATE = {"step": 3, "steps": 4, "waited": 0, "skipped": 0, "phase": "video_tune", "data": "", "best": None}


@pytest.mark.parametrize(
    ("device", "has", "expected"),
    [
        ("cuda", True, torch.bfloat16),
        ("cuda", False, torch.float32),
        ("mps", False, torch.float32),
        ("cpu", True, torch.float32),
    ],
)
def test_nothing_is_trained_in_float16(
    monkeypatch: pytest.MonkeyPatch, device: str, has: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert automatic(torch.device(device)) is expected


@pytest.mark.parametrize("fused", [True, False])
def test_the_count_of_steps_is_restored_where_adamw_looks_for_it(tmp_path: Path, fused: bool) -> None:
    """The fused one keeps it beside the weights; here they are on the meta device."""
    alone = SingleProcess.on(torch.device("cpu"))
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = checkpoint.save(tmp_path, model, optimizer, STATE, alone)
    model = nn.Linear(2, 2, device="meta")
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.param_groups[0]["fused"] = fused
    checkpoint.restore(saved, model, optimizer, alone)
    assert {optimizer.state[p]["step"].device.type for p in model.parameters()} == {"meta" if fused else "cpu"}
    assert optimizer.state[model.weight]["exp_avg"].device.type == "meta"


def test_fused_adamw_takes_the_same_steps_when_resumed_in_another_layout(tmp_path: Path) -> None:
    """The fused one reads memory in its order: weights with channels last must have such moments, restored ones too."""

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: Sequence[int]) -> None:
        for seed in seeds:
            images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            model(images.to(memory_format=torch.channels_last)).square().mean().backward()
            optimizer.step()

    alone, begun = SingleProcess.on(torch.device("cpu")), nn.Conv2d(3, 8, 3)
    result = []
    for fused in (False, True):
        model = copy.deepcopy(begun)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
        steps(model, optimizer, (0, 1))
        saved = checkpoint.save(tmp_path / str(fused), model, optimizer, STATE, alone)
        model = copy.deepcopy(begun).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
        checkpoint.restore(saved, model, optimizer, alone)
        assert optimizer.state[model.weight]["exp_avg"].stride() == model.weight.stride()
        steps(model, optimizer, (2, 3))
        result.append(model.weight.detach())
    assert (result[0] - begun.weight).abs().max() > 0.1
    torch.testing.assert_close(result[0], result[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("prefix", "pool"), [("", "text"), ("chat=", "chat")])
def test_a_pool_is_named_in_front_of_a_path_with_an_equals_sign(tmp_path: Path, prefix: str, pool: str) -> None:
    file = tmp_path / "lr=1" / "talk.jsonl"
    file.parent.mkdir()
    file.write_text(json.dumps({"conversations": TALK}))
    phase, settings = resolve("video_tune", {"mixture": {pool: 1.0}, "batch": 1})
    data = read_data(Sources(model="nano", data=(f"{prefix}{file}",)), phase, settings)
    assert data.order.describe().startswith(f"{pool}: 100.0%")


@pytest.mark.parametrize("pools", [("", ""), ("a=", "b="), ("a=", "")])
def test_a_file_that_is_given_twice_is_refused(tmp_path: Path, pools: tuple[str, str]) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text(json.dumps({"conversations": TALK}))
    phase, settings = resolve("video_tune", {"mixture": {}, "batch": 1})
    with pytest.raises(DataError, match="given twice"):
        read_data(Sources(model="nano", data=tuple(f"{pool}{file}" for pool in pools)), phase, settings)
