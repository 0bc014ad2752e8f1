"""recipes/sweep from pictures to table on tiny data: two rows, cut off once and taken up again."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from videollama2.stc import CONNECTORS, TABLE_1

RECIPE = Path(__file__).parents[2] / "recipes" / "sweep"


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The recipe's modules, which import each other by their bare names."""
    monkeypatch.syspath_prepend(str(RECIPE))
    import patches
    import sweep

    monkeypatch.setattr(patches, "PIECE", 6)
    yield sweep
    for name in ("sweep", "scenes", "patches", "trial", "report"):
        sys.modules.pop(name, None)


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """A pack of flat colours and a tiny DINOv2."""
    rng = np.random.default_rng(0)
    photos = np.broadcast_to(rng.integers(0, 256, (20, 1, 1, 3)), (20, 32, 32, 3)).astype(np.uint8)
    labels = np.repeat(np.arange(10), 2)
    np.savez(
        tmp_path / "pictures.npz", photos_train=photos, labels_train=labels, photos_test=photos, labels_test=labels,
        stamps=np.zeros((0, 96, 96, 4), np.uint8), stamp_names=np.array([], dtype=str),
    )  # fmt: skip
    torch.manual_seed(0)
    tower = Dinov2Model(
        Dinov2Config(
            hidden_size=96, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, patch_size=14, image_size=84
        )
    )
    tower.save_pretrained(tmp_path / "vision")
    return [
        "--vision", str(tmp_path / "vision"), "--pictures", str(tmp_path / "pictures.npz"), "--work", str(tmp_path),
        "--results", str(tmp_path / "results.jsonl"), "--report", str(tmp_path / "sweep.md"), "--steps", "2",
        "--train-clips", "6", "--test-clips", "3", "--rows", "4", "9", "--jobs", "0",
        "--learning-rates", "1e-3",
    ]  # fmt: skip


def test_the_sweep_runs_is_cut_off_and_goes_on(sweep: Any, inputs: list[str], tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    sweep.main([*inputs, "--seeds", "0"])
    first = results.read_text()
    whole, cut = first.splitlines()
    results.write_text(f"{whole}\n{cut[:40]}")  # as a power cut leaves it

    sweep.main([*inputs, "--seeds", "0", "1"])
    lines = results.read_text().splitlines()
    found = [json.loads(line) for line in lines if line != cut[:40]]
    assert lines[0] == whole, "a finished run is not done again"
    assert sorted((r["row"], r["seed"]) for r in found) == [(4, 0), (4, 1), (9, 0), (9, 1)]
    again = next(r for r in found if (r["row"], r["seed"]) == (9, 0))
    assert {**again, "cpu_seconds": 0} == {**json.loads(cut), "cpu_seconds": 0}, "a run is a function of row and seed"

    text = (tmp_path / "sweep.md").read_text()
    assert "| 9 | yes | 3D conv (STC) | 2,2,2 | 36 |" in text and "±" in text
    assert (tmp_path / "sweep.png").stat().st_size > 10_000


def test_another_budget_is_refused(sweep: Any, inputs: list[str]) -> None:
    sweep.main([*inputs, "--rows", "3", "--seeds", "0"])
    with pytest.raises(SystemExit, match="another --results"):
        sweep.main([*inputs, "--rows", "3", "--seeds", "0", "--steps", "3"])


def test_backwards_only_the_order_differs(sweep: Any) -> None:
    from scenes import Happening, held_out

    told = [Happening("cat", "red", direction="left", growth="grows"), Happening("dog", "blue", place="top")]
    forward, back, *_, pair, swapped = held_out(told)
    assert sorted(forward.frames) == sorted(back.frames) and sorted(pair.frames) == sorted(swapped.frames)
    answers = {q.task: (q.answer, b.answer) for q, b in zip(forward.questions, back.questions, strict=True)}
    assert answers == {
        "object": ("cat", "cat"), "colour": ("red", "red"), "direction": ("left", "right"),
        "growth": ("grows", "shrinks"),
    }  # fmt: skip
    assert [q.answer for q in pair.questions] == [q.answer for q in reversed(swapped.questions)]


def test_the_rows_of_table_1(sweep: Any) -> None:
    """RegStage, learned or not, rate and the paper's number of tokens for 8 frames of 24 × 24 patches."""
    from report import ROWS

    expected = {1: 1152, 2: 1152, 3: 576, 4: 576, 5: 576, 6: 1152, 7: 1152, 8: 576, 9: 576}
    for row, name in enumerate(TABLE_1, 1):
        settings, (stages, sampling, rate) = CONNECTORS[name], ROWS[row]
        assert (settings.depth > 0) == (stages == "yes") and settings.learned == ("conv" in sampling)
        assert settings.downsample == tuple(int(n) for n in rate.split(","))
        T, H, W = settings.grid(8, 24, 24)
        assert expected[row] == T * H * W
