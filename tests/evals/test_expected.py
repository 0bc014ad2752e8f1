"""Known figures: every entry is whole, and a report says the right thing of each."""

import re
from typing import Any

import pytest

from videollama2.evals.judge.prompts import JUDGED, KINDS
from videollama2.evals.registry import benchmarks
from videollama2.evals.report.expected import compared, known_figures, released
from videollama2.evals.report.summary import summary

from .results import Plain, column, manifest, result


class Music(Plain):
    name, kind = "music_avqa", "closed"


def said(right: int, wrong: int, *, of: int = 9185, **run: Any) -> list[dict[str, Any]]:
    """Of the first items of a benchmark of so many."""
    told = manifest(**({"model": "2.1-7b-av", "setting": "paper", "frames": 16} | run))
    told["coverage"] |= {"available": of, "asked": right + wrong}
    return summary(column("R" * right + "W" * wrong), Music(), told)["expected"]


def test_every_figure_is_whole() -> None:
    for figure in known_figures():
        assert released(figure.model) == figure.model
        assert 0 < figure.tolerance < 0.2 * (5 if figure.metric.endswith("_of_5") else 1)
        assert 0 < figure.value < (5 if figure.metric.endswith("_of_5") else 1)
        assert figure.setting == "paper"
        assert re.match(r"arXiv:|github\.com/|papers|table", figure.source), figure.source
    assert len(set(known_figures())) == len(known_figures())
    music = {f.value: f.kind for f in known_figures() if (f.model, f.benchmark) == ("2.1-7b-av", "music-avqa")}
    assert music == {0.809: "published", 0.6561: "reported", 0.6575: "reported"}


def test_every_figure_is_one_that_a_report_has() -> None:
    known = benchmarks()
    for figure in known_figures():
        assert figure.benchmark in known
        if figure.judged:
            kind = re.sub(r"_(accuracy|of_5)$", "", figure.metric)
            judged = [kinds for name, kinds in JUDGED.items() if name.partition("/")[0] == figure.benchmark]
            assert any(kind in kinds for kinds in judged), figure
            assert KINDS[kind].verdict or figure.metric.endswith("_of_5")


def test_what_users_got_reproduces_and_what_is_printed_does_not() -> None:
    texts = [(entry["value"], entry["says"], entry["text"]) for entry in said(656, 344)]
    assert texts == [
        (0.809, "differs", "differs by −15.3 points from 80.9 % (published: arXiv:2406.07476v3, table 8)"),
        (0.6561, "reproduces", "reproduces 65.6 % (reported: github.com/DAMO-NLP-SG/VideoLLaMA2/issues/135)"),
        (0.6575, "reproduces", "reproduces 65.8 % (reported: github.com/DAMO-NLP-SG/VideoLLaMA2/issues/170)"),
    ]
    assert [e["says"] for e in said(809, 191)] == ["reproduces", "differs", "differs"]


def test_a_figure_is_compared_with_ours_of_the_same_items_only() -> None:
    entry = said(656, 344, of=9129)[1]
    assert entry["says"] == "other items"
    assert entry["text"] == (
        "is of 9,129 items, and not compared with 65.6 % (reported: github.com/DAMO-NLP-SG/VideoLLaMA2/issues/135), of "
        "9,185 items"
    )


def test_a_figure_of_some_categories_is_compared_with_these() -> None:
    """Of AVHBench, published figures are of two of three tasks, together and each."""
    tasks = {"Audio-driven Video Hallucination": 1136, "Video-driven Audio Hallucination": 2290, "AV Matching": 1876}
    right = {"Audio-driven Video Hallucination": 0.752, "Video-driven Audio Hallucination": 0.742, "AV Matching": 0.5}
    results = [
        result(
            f"{task}{i}",
            "R" if i < round(count * right[task]) else "W",
            categories={"task": task},
            truth=("yes",),
            choices=(),
            read="yes" if i < round(count * right[task]) else "no",
        )
        for task, count in tasks.items()
        for i in range(count)
    ]
    told = manifest(benchmark="avhbench", model="2.1-7b-av", setting="paper")
    told["coverage"] |= {"available": 5302, "asked": 5302, "scored": 5302}
    found = summary(results, benchmarks()["avhbench"], told)["expected"]
    both, audio_driven, video_driven = (entry for entry in found if entry["metric"] == "accuracy")
    assert both["ours"] == pytest.approx((854 + 1699) / 3426) and both["says"] == "differs"
    assert audio_driven["says"] == video_driven["says"] == "reproduces"
    assert video_driven["text"].startswith("of task Video-driven Audio Hallucination reproduces 74.2 % (third party: ")
    assert [entry["metric"] for entry in found[1:]] == ["accuracy", "precision", "recall", "f1"] * 2
    told["coverage"] |= {"available": 6000, "asked": 6000}
    some = [entry for entry in results if entry.id != "AV Matching0"]
    assert summary(some, benchmarks()["avhbench"], told)["expected"][1]["says"] == "reproduces", "its set is whole"
    fewer = summary(results[1:], benchmarks()["avhbench"], told)["expected"]
    assert [entry["says"] for entry in fewer if entry["metric"] == "accuracy"] == ["other items"] * 2 + ["reproduces"]


def test_few_items_can_not_tell() -> None:
    assert [e["says"] for e in said(7, 3)] == ["open", "open", "open"]
    assert "too few items to tell" in said(7, 3)[0]["text"]


def test_at_the_tolerance_it_reproduces() -> None:
    assert said(799, 201)[0]["says"] == "reproduces"
    assert said(798, 202)[0]["difference"] == pytest.approx(-0.011)


@pytest.mark.parametrize(
    "run", [{"model": "nano"}, {"model": "2.1-7b-16f"}, {"setting": "strict"}, {"model": None}, {"model": "runs/mine"}]
)
def test_where_nothing_is_known_nothing_is_said(run: dict[str, Any]) -> None:
    assert said(7, 3, **run) == []


@pytest.mark.parametrize("model", ["2.1-7B-AV", "DAMO-NLP-SG/VideoLLaMA2.1-7B-AV", "models/VideoLLaMA2.1-7B-AV"])
def test_a_model_is_known_by_any_of_its_names(model: str) -> None:
    assert len(said(7, 3, model=model)) == 3


def test_remarks_say_what_else_differs() -> None:
    told = manifest(model="2.1-7b-av", setting="paper", frames=8)
    told["coverage"] |= {"available": 9185, "asked": 10}
    remarks = summary(column("R" * 9 + "F"), Music(), told)["expected"][0]["remarks"]
    assert remarks == [
        "theirs used 16 frames, ours 8", "ours covers 10 of 9,185 items", "1 item of ours failed and counted as wrong",
    ]  # fmt: skip


def test_figures_of_a_judge_are_compared_with_a_judge() -> None:
    found = {
        "model": "2.1-7b-16f", "benchmark": "msvd-qa", "setting": "paper", "coverage": {}, "manifest": {},
        "ablations": {"none": {"metrics": {"match_accuracy": {"value": 0.1, "low": 0.0, "high": 0.2}},
                               "outcomes": {"failed": 0}}},
        "judges": {"verdicts": [
            {"judge": "local", "metrics": {"match_accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}}},
        ]},
    }  # fmt: skip
    (entry,) = compared(found)
    assert entry["judge"] == "local" and entry["says"] == "reproduces" and entry["ours"] == 0.7
    assert entry["remarks"][-1] == "ours is judged by local"
