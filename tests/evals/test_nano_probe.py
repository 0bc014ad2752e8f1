"""nano itself, on a small probe: it says what it said when its figures were last refreshed (recipes/nano/probe.py)."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

import videollama2
from videollama2.evals.journal import write_results
from videollama2.evals.manifest import FILE
from videollama2.jobs import write_json

from .results import manifest, result

RECIPE = Path(__file__).parents[2] / "recipes" / "nano" / "probe.py"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    """The script, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("nano_probe", RECIPE)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.nano
def test_nano_says_what_it_said(recipe: ModuleType, tmp_path: Path) -> None:
    expected = json.loads(recipe.EXPECTED.read_text(encoding="utf-8"))
    tolerance = expected.pop("tolerance")
    found = recipe.small(videollama2.load("nano", device="cpu", dtype="float32"), tmp_path)
    assert set(found) == set(expected)
    pairs = [(found[name]["read"][id], read) for name, one in expected.items() for id, read in one["read"].items()]
    same = sum(now == before for now, before in pairs) / len(pairs)
    again = "; if nano's weights or the probe changed, run `python recipes/nano/probe.py --small`"
    assert same >= tolerance["same_reading"], f"{same:.0%} of {len(pairs)} replies are read as before{again}"
    for name, one in expected.items():
        assert abs(found[name]["right"] - one["right"]) <= tolerance["right"], f"{name}: {found[name]}{again}"


def test_figures_stand_where_readers_look(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in recipe.WAYS:
        results = [
            result(f"object{i}", letter, ablation=ablation, benchmark=name, categories={"task": "object"})
            for ablation, letters in (("none", "RRRW"), ("text-only", "RWWW"))
            for i, letter in enumerate(letters)
        ]
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, results)
        told = manifest(benchmark=name)
        told["coverage"]["notes"] = ["pictures and sounds: made up, seed 1"]
        write_json(tmp_path / name / FILE, told)
    page = tmp_path / "page.md"
    page.write_text(f"before {recipe.BEGIN}old{recipe.END} after", encoding="utf-8")
    recipe.write_between(page, f"\n{recipe.card(tmp_path)}\n")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before ") and text.endswith(" after") and "old" not in text
    assert "made up, seed 1" in text and "| task | items | all modalities | text only | guessing |" in text
    assert "| object | 4 | 75.0 (" in text and text.count("| 50.0 |") == 4
    assert "openly 75.0 % (guessing 50.0 %, text alone 25.0 %)" in recipe.line(tmp_path)
    with pytest.raises(SystemExit, match="0 places"):
        recipe.write_between(RECIPE.with_name("README.md"), "text")
    assert "written" in capsys.readouterr().out
    for path in (recipe.CARD, recipe.STATUS):
        assert path.read_text(encoding="utf-8").count(recipe.BEGIN) == 1
