"""What docs/live.md tells a user to type can be typed, and its Python runs."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import videollama2
from videollama2 import cli
from videollama2.engine import Engine

from .. import tiny

GUIDE = (Path(__file__).parents[2] / "docs" / "live.md").read_text("utf-8")
COMMANDS = re.findall(r"^(videollama2 .*)$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_is_understood(line: str) -> None:
    cli.build_parser().parse_args(shlex.split(line)[1:])


def test_flags_that_the_guide_mentions_exist() -> None:
    parser = cli.build_parser()
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for command in ("watch", "ask", "caption", "live"):
                found |= set(action.choices[command]._option_string_actions)
    assert len(COMMANDS) == 12 and set(re.findall(r"--[a-z][a-z-]+", GUIDE)) <= found


def test_its_python_runs(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(videollama2, "load", lambda name: engine, raising=False)
    tiny.write_clip(Path("lecture.mp4"))
    given: dict[str, Any] = {"frame": np.zeros((48, 64, 3), np.uint8), "time": 0.5, "samples": tiny.tone(1, rate=48000)}
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/live.md", "exec"), {**given})
    assert len(blocks) == 2 and capsys.readouterr().out.startswith("0.0 ")
