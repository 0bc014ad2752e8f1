"""Ten clips are learned by heart, and then answered right: the whole way from records to `videollama2 ask`."""

import json
from itertools import product
from pathlib import Path

import pytest

from videollama2 import cli

from .. import tiny
from . import runs

COLOURS = {"red": (230, 20, 20), "green": (20, 220, 40), "blue": (30, 40, 230), "white": (250,) * 3, "black": (5,) * 3}
TONES = {"low": 200.0, "high": 3000.0}
QUESTION = "what do you see and hear?"
PASSES = 80


def test_ten_clips_are_learned_and_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All have the same question; each picture comes with two sounds and each sound with five pictures."""
    answers = {}
    for (colour, rgb), (tone, hz) in product(COLOURS.items(), TONES.items()):
        clip = tiny.write_clip(
            tmp_path / f"{len(answers)}.mp4", frames=6, colour=rgb, sound=tiny.tone(0.6, hz=hz), size=(64, 64)
        )
        answers[clip] = f"{colour} and {tone}"
    turns = [[{"from": "human", "value": QUESTION}, {"from": "gpt", "value": said}] for said in answers.values()]
    records = [{"video": c.name, "sound": True, "conversations": t} for c, t in zip(answers, turns, strict=True)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    tiny.save(tmp_path / "model")

    options = {
        "--model": tmp_path / "model", "--data": tmp_path / "data.jsonl", "--output": tmp_path / "run",
        "--device": "cpu", "--protocol": "full", "--mixture": "none", "--batch": 10, "--micro-batch": 10,
        "--epochs": PASSES, "--learning-rate": 4e-3, "--save-every": 0, "--trackers": "none",
    }  # fmt: skip
    assert cli.main(["train", "av_joint", *(str(word) for pair in options.items() for word in pair)]) == 0
    assert runs.losses(tmp_path / "run")[-1] < 0.02
    capsys.readouterr()

    for clip, said in answers.items():
        words = ["ask", str(clip), QUESTION, "--model", str(tmp_path / "run"), "--device", "cpu", "--dtype", "float32"]
        assert cli.main(words) == 0
        assert capsys.readouterr().out == f"{said}\n"
