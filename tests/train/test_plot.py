"""The curves of runs."""

import math
from pathlib import Path

import pytest
from PIL import Image

from videollama2.errors import StorageError, UsageError
from videollama2.train.metrics import MetricsLog
from videollama2.train.plot import plot, sketch

pytest.importorskip("matplotlib")


def run(folder: Path, steps: int, bad: int | None = None) -> Path:
    with MetricsLog(folder, trackers=(), quiet=True) as metrics:
        for step in range(steps):
            loss = math.nan if step == bad else 3 * math.exp(-step / 50) + 0.2 * math.sin(step * 7.3)
            rate = 1e-3 * min(1, step / 20)
            norm = 1 + 5 / (step + 1)
            metrics.step(step, loss=loss, learning_rate=rate, gradient_norm=norm, tokens_per_second=900 + step % 9)
            if step % 20 == 0:
                metrics.evaluation(step, loss=3 * math.exp(-step / 60))
    return folder


def test_a_run_is_a_picture(tmp_path: Path) -> None:
    found = plot([run(tmp_path / "a", 100, bad=40)])
    assert found == tmp_path / "a" / "curves.png"
    with Image.open(found) as picture:
        assert picture.size[0] > 1500 and len(set(picture.convert("RGB").resize((200, 100)).get_flattened_data())) > 20


def test_runs_are_compared(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", 30), run(tmp_path / "b", 10)]
    assert plot(runs, tmp_path / "both.png").stat().st_size > 20_000
    text = sketch(runs)
    assert [line for line in text.splitlines() if not line.startswith(" ")] == ["a", "b"]
    assert "learning rate" in text and "█" in text and "(steps 0–29)" in text


def test_what_is_not_finite_is_shown(tmp_path: Path) -> None:
    assert "×" in sketch([run(tmp_path / "a", 5, bad=2)]).splitlines()[1]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no readable metrics.jsonl; expected the output folder"):
        plot([tmp_path])
    with pytest.raises(UsageError, match="no run to plot"):
        plot([])
    MetricsLog(tmp_path / "new", trackers=(), quiet=True).close()
    with pytest.raises(UsageError, match="has no step yet"):
        plot([tmp_path / "new"])
    with pytest.raises(StorageError, match="can't be written"):
        plot([run(tmp_path / "a", 3)], tmp_path / "nowhere" / "x.png")
