"""What `eval list --data` and `eval self-test` report: exactly what loading finds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from videollama2.cli import main
from videollama2.evals.inspection import inspected, self_test
from videollama2.evals.registry import benchmark, benchmarks

from .test_open_benchmarks import miniature


def write_cmm(folder: Path, **changed: Any) -> None:
    record = {
        "category": "over-reliance_unimodal_priors", "sub_category": "overrely_visual_ignore_audio",
        "modality": ["visual", "audio"], "granularity": "event-level", "correlation_type": "",
        "video_path": "./reorg_raw_files/a/x.mp4", "audio_path": "./reorg_raw_files/a/x.wav",
        "question": "Did you hear a dog?", "answer": "yes",
    }  # fmt: skip
    (folder / "all_data_final_reorg.json").write_text(json.dumps([record, {**record, **changed}]))


@pytest.mark.parametrize("name", sorted(set(benchmarks()) - {"probe", "probe-open", "perception-test"}))
def test_every_miniature_passes_its_self_test(tmp_path: Path, name: str) -> None:
    miniature(name, tmp_path)
    found = self_test(benchmark(name), tmp_path)
    assert found["problem"] is None and found["files"]
    items = benchmark(name).load(tmp_path, "strict").items
    assert found["coverage"]["available"] == len(items) and found["coverage"]["malformed"] == 0
    assert found["samples"][0]["question"] == items[0].question
    assert all(need["there"] for need in found["needs"] if need["required"])
    for reading in found["readings"]:
        if reading["form"] == "{letter}":
            assert reading["strict"] == reading["items"], reading
        assert reading["strict"] <= reading["items"] and reading["paper"] <= reading["items"]


def test_media_and_separate_audio_are_named(tmp_path: Path) -> None:
    write_cmm(tmp_path, video_path="./reorg_raw_files/a/y.mp4", audio_path="./reorg_raw_files/a/y.wav")
    found = inspected(benchmark("cmm"), tmp_path)
    assert [need["there"] for need in found["needs"]] == [True, False]
    (tmp_path / "reorg_raw_files/a").mkdir(parents=True)
    for suffix in (".mp4", ".wav"):
        (tmp_path / "reorg_raw_files/a/x").with_suffix(suffix).write_bytes(b"")
    found = self_test(benchmark("cmm"), tmp_path)
    assert [need["there"] for need in found["needs"]] == [True, True]
    assert (found["coverage"]["with_media"], found["coverage"]["missing"]) == (1, 1)
    first, second = found["samples"]
    assert first["media"] == "reorg_raw_files/a/x.mp4" and first["audio_media"] == "reorg_raw_files/a/x.wav"
    assert first["modalities"] == ["video", "audio"] and "y.mp4 not found" in second["missing"]


def test_the_list_loads_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cmm(tmp_path, question="")
    assert main(["eval", "list", "cmm", "--data", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "found  all_data_final_reorg.json" in told and "missing  reorg_raw_files/" in told
    assert "2 items of 2,400 published; 0 with their media, 1 without; 1 malformed; 1 with a public answer" in told
    (tmp_path / "all_data_final_reorg.json").rename(tmp_path / "renamed.json")
    assert main(["eval", "list", "cmm", "--data", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "read: renamed.json" in told and "note: renamed.json is read for its fields" in told


def test_the_list_repeats_why_a_folder_cannot_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "all_data_final_reorg.json").write_text("[}")
    assert main(["eval", "list", "cmm", "--data", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "can't be loaded: " in told and "all_data_final_reorg.json" in told
    assert main(["eval", "self-test", "cmm", "--data", str(tmp_path)]) == 1
    assert "can't be loaded: " in capsys.readouterr().out


def test_the_list_fails_if_a_benchmark_that_is_there_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without names, D holds some of the benchmarks: the others don't count."""
    for name, text in (("cmm", "[}"), ("avut", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "AV_Human_data.json").write_text(text)
    miniature("daily-omni", tmp_path / "daily-omni")
    assert main(["eval", "list", "--data", str(tmp_path)]) == 1
    assert "2 of 3 can't be loaded: cmm, avut" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree(tmp_path / "cmm")
    shutil.rmtree(tmp_path / "avut")
    assert main(["eval", "list", "--data", str(tmp_path), "--json"]) == 0
    assert main(["eval", "list", "--data", str(tmp_path / "daily-omni")]) == 0
    (tmp_path / "daily-omni" / "qa.json").write_text("[{}]")
    assert main(["eval", "list", "--data", str(tmp_path / "daily-omni")]) == 1
    assert "1 of 1 can't be loaded: daily-omni" in " ".join(capsys.readouterr().err.split())


def test_a_self_test_shows_items_readings_and_the_official_scorer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cmm").mkdir()
    write_cmm(tmp_path / "cmm")
    assert main(["eval", "self-test", "--data", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("cmm ") and "sample 2: 2 (all_data_final_reorg.json:2): " in told
    assert "Did you hear a dog? Answer with yes or no.\n" in told
    assert "a right answer as 'The answer is {answer}.': strict counts 2 of 2, paper 0" in told
    assert "the official scorer: " in told
    assert main(["eval", "self-test", "cmm", "--data", str(tmp_path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["published"] == 2400 and len(found["samples"]) == 2 and found["readings"][0]["strict"] == 2


def test_a_folder_without_benchmarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "self-test", "--data", str(tmp_path)]) == 3
    assert "has no folder named after a benchmark" in capsys.readouterr().err


def test_version_1_is_not_taken_for_version_2(tmp_path: Path) -> None:
    miniature("music-avqa", tmp_path)
    assert "so this is v1" in inspected(benchmark("music-avqa-v2"), tmp_path)["problem"]
