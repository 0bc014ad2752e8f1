"""When something happens: scores of windows, and the spans they make."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from videollama2 import cli
from videollama2.engine import Engine
from videollama2.errors import UsageError
from videollama2.live import WhenResult, when
from videollama2.live.events import NO_ANSWER, EventSpan, WindowScore, merged_spans, yes_score
from videollama2.receipt import Answer, Receipt, TokenLogprob

RECEIPT = Receipt(model="m", protocol="full", device="cpu", dtype="float32", video=None, audio=None)


def answer_of(words: Mapping[str, float]) -> tuple[Answer, Any]:
    """An answer whose first token has these probabilities, and the decoder of its ids."""
    names = list(words)
    top = tuple((i, math.log(words[name])) for i, name in enumerate(names))
    return Answer(names[0], "length", RECEIPT, {}, (TokenLogprob(0, 0.0, top),)), lambda ids: names[ids[0]]


def test_the_score_is_the_share_of_yes_over_all_its_spellings() -> None:
    assert yes_score(*answer_of({"Yes": 0.3, " yes": 0.2, "No": 0.1, "Maybe": 0.4})) == pytest.approx(0.5 / 0.6)
    assert yes_score(*answer_of({"NO.": 0.9, "nobody": 0.1})) == 0
    assert yes_score(*answer_of({"A": 0.9, "not": 0.1})) is None
    assert yes_score(Answer("", "stop", RECEIPT, {}, ()), str) is None


def scores(*values: float | None, step: float = 5.0, length: float = 5.0) -> list[WindowScore]:
    return [WindowScore(start=i * step, end=i * step + length, score=v) for i, v in enumerate(values)]


def test_neighbouring_windows_above_the_threshold_are_one_span() -> None:
    found = merged_spans(scores(0.1, 0.6, 0.9, 0.4, None, 0.5), 0.5)
    assert found == (EventSpan(start=5, end=15, score=0.9), EventSpan(start=25, end=30, score=0.5))
    assert merged_spans(scores(0.6, None, 0.6), 0.5) == (
        EventSpan(start=0, end=5, score=0.6),
        EventSpan(start=10, end=15, score=0.6),
    )
    overlapping = merged_spans(scores(0.6, 0.7, 0.1, step=2), 0.5)
    assert overlapping == (EventSpan(start=0, end=7, score=0.7),)
    assert merged_spans(scores(0.1), 0.5) == () and len(merged_spans(scores(0.0), 0.0)) == 1


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The scores of the next windows, instead of the tiny model's, which knows neither word."""
    values: list[float | None] = []
    monkeypatch.setattr("videollama2.live.events.yes_score", lambda answer, decode: values.pop(0))
    return values


def test_every_window_is_asked_about_its_own_seconds(engine: Engine, media: Path, sure: list[float | None]) -> None:
    sure += [0.2, 0.8, 0.9, None]
    told: list[tuple[float, int]] = []
    found = when(engine, media / "long.mp4", "a bell rings", window=1, on_window=lambda w, n: told.append((w.start, n)))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert found.spans == (EventSpan(start=1, end=3, score=0.9),) and found.windows[3].error == NO_ANSWER
    assert found.windows[1].answer is not None and found.windows[1].answer.receipt.generated_tokens == 1
    assert found.windows[1].answer.receipt.video.range_seconds == (1, 2)  # type: ignore[union-attr]
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["spans"] == [{"start": 1.0, "end": 3.0, "score": 0.9}] and plain["event"] == "a bell rings"
    assert [s.text for s in found.subtitles] == ["a bell rings (0.90)"]


def test_the_tiny_model_is_asked_yes_or_no(engine: Engine, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    answering = engine.answer

    def answer(request: Any, *more: Any, **options: Any) -> Answer:
        asked.append(request)
        return answering(request, *more, **options)

    monkeypatch.setattr(engine, "answer", answer)
    found: WhenResult = when(engine, media / "clip.mp4", "a bell rings", temperature=1.0, max_new_tokens=90)
    assert len(asked) == len(found.windows) == 1
    assert "a bell rings" in asked[0].question and "yes or no" in asked[0].question
    assert (asked[0].options.max_new_tokens, asked[0].options.temperature) == (1, 0)


@pytest.mark.parametrize(
    ("event", "options"), [("x", {"threshold": 1.1}), ("x", {"threshold": math.nan}), (" ", {}), ("x", {"window": -1})]
)
def test_what_cannot_be_asked(engine: Engine, media: Path, event: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        when(engine, media / "clip.mp4", event, **options)


def test_the_command_prints_json(
    engine: Engine, tiny_folder: Path, media: Path, tmp_path: Path, sure: list[float | None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["when", str(media / "long.mp4"), "a bell rings", "--model", str(tiny_folder), "--device", "cpu"]
    sure += [0.7, 0.1, 0.6, 0.8]
    assert cli.main([*words, "--window", "1", "--out", str(tmp_path / "bell.srt")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["start"], line["score"]) for line in lines] == [(0.0, 0.7), (2.0, 0.8)]
    assert "a bell rings (0.80)" in (tmp_path / "bell.srt").read_text("utf-8")
    sure += [0.7, 0.1, 0.6, 0.8]
    assert cli.main([*words, "--window", "1", "--threshold", "0.75", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert [span["score"] for span in whole["spans"]] == [0.8] and len(whole["windows"]) == 4
    assert whole["windows"][0]["receipt"]["video"]["frames_used"] > 0
    assert cli.main([*words, "--out", "bell.txt"]) == 2
