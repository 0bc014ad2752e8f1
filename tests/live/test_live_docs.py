"""The Python of docs/live.md runs. (tests/test_docs.py checks its commands, as on every page.)"""

import re
import runpy
from pathlib import Path

import pytest

import videollama2
from videollama2.engine import Engine

from .. import tiny

GUIDE = (Path(__file__).parents[2] / "docs" / "live.md").read_text("utf-8")


def test_the_guides_python_runs(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(videollama2, "load", lambda name: engine, raising=False)
    tiny.write_clip(Path("lecture.mp4"))
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.py").write_text(block, encoding="utf-8")
        runpy.run_path(str(tmp_path / f"{number}.py"))
    assert len(blocks) == 3 and capsys.readouterr().out.startswith("0.0 ")
