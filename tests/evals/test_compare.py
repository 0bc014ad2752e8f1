"""Two runs against each other: what is compared, what is left out, and what is refused; and both commands."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from videollama2.cli import eval_report
from videollama2.errors import DataError, UsageError
from videollama2.evals.items import Result
from videollama2.evals.journal import write_results
from videollama2.evals.manifest import FILE
from videollama2.evals.report.compare import ComparedRun, compare
from videollama2.evals.report.rendering import compared_markdown
from videollama2.evals.stats import mcnemar
from videollama2.jobs import write_json

from .results import Plain, column, manifest


def side(name: str, results: Sequence[Result], **run: Any) -> ComparedRun:
    return ComparedRun(name=name, manifest=manifest(**run), results=results)


def tasks(letters: str) -> list[Result]:
    return [replace(r, categories={"task": ["count", "order"][i % 2]}) for i, r in enumerate(column(letters))]


def test_differences_are_of_the_same_items() -> None:
    found = compare(side("a", tasks("RRWWUFRW")), side("b", tasks("RWRRRFRW"), model="tuned"), Plain())
    whole = found["columns"]["none"]
    assert whole["items"] == 8 and whole["first_only"] == whole["second_only"] == whole["other_truth"] == 0
    accuracy = whole["paired"]["metrics"]["accuracy"]
    assert (accuracy["first"], accuracy["second"], accuracy["difference"]) == (3 / 8, 5 / 8, 2 / 8)
    assert accuracy["low"] < 0.25 < accuracy["high"]
    assert whole["paired"]["right"]["p"] == mcnemar(1, 3)
    assert whole["outcomes"] == {
        "right to right": 2, "right to wrong": 1, "wrong to right": 2, "wrong to wrong": 1, "unparsable to right": 1,
        "failed to failed": 1,
    }  # fmt: skip
    assert [c["id"] for c in whole["changed"]] == ["q001", "q002", "q003", "q004"]
    count = whole["categories"]["task"]["count"]
    assert count["items"] == 4 and count["difference"] == 4 / 4 - 2 / 4
    assert whole["categories"]["task"]["order"]["difference"] == 1 / 4 - 1 / 4
    assert found["settings"] == {"model": ["nano", "tuned"]} and found["cautions"] == []


def test_the_same_run_twice_differs_by_nothing() -> None:
    found = compare(side("a", tasks("RWUF")), side("a", tasks("RWUF")), Plain())
    accuracy = found["columns"]["none"]["paired"]["metrics"]["accuracy"]
    # all draws are alike, which is no certainty: the items that are asked next may differ
    assert (accuracy["difference"], accuracy["low"], accuracy["high"], accuracy["p"]) == (0, None, None, None)
    assert found["columns"]["none"]["paired"]["right"]["p"] == 1
    assert found["columns"]["none"]["changed"] == [] and found["settings"] == {}


def test_what_is_not_the_same_is_left_out_and_told() -> None:
    first = column("RRRRR")
    second = [replace(first[0], truth=("B",)), replace(first[1], choices=("x", "y")), *first[2:4], *column("R" * 7)[5:]]
    hidden = replace(first[0], id="hidden", truth=())
    found = compare(side("a", [*first, hidden]), side("b", [*second, hidden]), Plain())
    whole = found["columns"]["none"]
    assert {key: whole[key] for key in ("items", "first_only", "second_only", "other_truth", "withheld")} == {
        "items": 2, "first_only": 1, "second_only": 2, "other_truth": 2, "withheld": 1,
    }  # fmt: skip
    assert (
        "Not compared: 1 only in the first, 2 only in the second, 2 with another truth or other options, 1 without a "
        "public answer." in compared_markdown(found)
    )


def test_other_settings_are_cautions() -> None:
    other = [replace(r, question="Another one?") for r in column("RW")]
    found = compare(
        side("a", column("RW")), side("b", other, setting="paper", prompts_sha256="2" * 64, frames=16), Plain()
    )
    text = compared_markdown(found)
    assert "caution: replies were read by different rules (--setting): strict and paper" in text
    assert "caution: the questions were worded differently" in text
    assert "caution: different numbers of frames were used: 8 and 16" in text
    assert found["columns"]["none"]["other_question"] == 2


def test_what_can_not_be_compared_is_refused() -> None:
    one = side("a", column("RW"))
    with pytest.raises(UsageError, match="expected two runs of one benchmark, got plain in a and other in b"):
        compare(one, side("b", column("RW"), benchmark="other"), Plain())
    with pytest.raises(UsageError, match="share no column: none and audio"):
        compare(one, side("b", column("RW", "audio")), Plain())
    with pytest.raises(UsageError, match="no item is the same in a and b: 2 with another truth"):
        compare(one, side("b", column("RW", truth=("B",))), Plain())


def test_only_shared_columns_are_compared() -> None:
    both = [*column("RW"), *column("WW", "audio")]
    found = compare(side("a", both), side("b", [*both, *column("WW", "video")]), Plain())
    assert list(found["columns"]) == ["none", "audio"]
    assert "## Asked without audio" in compared_markdown(found)


def test_of_many_changes_some_are_listed() -> None:
    text = compared_markdown(compare(side("a", column("R" * 50)), side("b", column("W" * 50)), Plain()))
    assert "10 more items changed" in text and "| right | 0 | 50 | 0 | 0 |" in text
    assert "| q000 | right | wrong |" in text


def write(folder: Path, letters: str, benchmark: str = "msvd-qa", **run: Any) -> Path:
    results = [
        replace(r, benchmark=benchmark, choices=(), scores={"exact_match": 1.0, "token_f1": 0.5, "rouge_l": 0.5})
        for r in column(letters)
    ]
    write_results(folder, results)
    write_json(folder / FILE, manifest(benchmark=benchmark, **run))
    return folder


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    eval_report.register(parser.add_subparsers())
    args = parser.parse_args(words)
    code: int = args.func(args)
    return code


def test_the_report_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "out" / "msvd-qa", "RRWF", model="<b>nano</b>")
    assert command("report", str(tmp_path / "out"), "--html", str(tmp_path / "page.html")) == 0
    printed = capsys.readouterr().out
    assert "**accuracy 50.0 %**" in printed
    assert (run / "report.md").read_text(encoding="utf-8") == printed
    assert json.loads((run / "summary.json").read_text())["ablations"]["none"]["outcomes"]["failed"] == 1
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;nano&lt;/b&gt;" in text and "<b>" not in text and "no thumbnail: " in text
    assert command("report", str(run), "--json") == 0
    assert json.loads(capsys.readouterr().out)["metric"] == "accuracy"
    assert not (run / "report.html").exists()
    assert command("report", str(run), "--no-pictures") == 0
    assert "no thumbnail: " not in (run / "report.html").read_text(encoding="utf-8")


def test_the_compare_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a" / "msvd-qa", "RRWF"), write(tmp_path / "b" / "msvd-qa", "RRRF", model="b")
    write(tmp_path / "b" / "avsd", "R", "avsd")
    assert command("compare", str(tmp_path / "a"), str(tmp_path / "b")) == 0
    told = capsys.readouterr()
    assert "| accuracy % | 50.0 | 75.0 | +25.0 |" in told.out and "only one side has it: avsd" in told.err
    assert command("compare", str(first), str(second), "--json") == 0
    assert json.loads(capsys.readouterr().out)["models"] == ["nano", "b"]


def test_what_the_commands_refuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        command("report", str(tmp_path))
    write(tmp_path / "out" / "msvd-qa", "R")
    write(tmp_path / "out" / "avsd", "R", "avsd")
    with pytest.raises(UsageError, match="holds 2 runs; give the folder of one"):
        command("report", str(tmp_path / "out"), "--html", "x.html")
    with pytest.raises(UsageError, match="expected a benchmark in both"):
        command("compare", str(tmp_path / "out" / "avsd"), str(tmp_path / "out" / "msvd-qa"))
    (tmp_path / "out" / "avsd" / FILE).write_text("{")
    with pytest.raises(DataError, match="not the manifest of a run"):
        command("report", str(tmp_path / "out"))
