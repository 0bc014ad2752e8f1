"""Questions about one clip: opened once, answered as by the engine, in any order and by any number of processes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from videollama2.engine import Engine
from videollama2.errors import VideoLlama2Error
from videollama2.evals.clip_sessions import ClipSessions, batches, by_clip, shares, taking_turns
from videollama2.evals.items import Item
from videollama2.evals.loop import MediaOptions, Trial, request_of
from videollama2.generation.steps import DecodeSteps
from videollama2.text.media_parts import Media

OPTIONS = MediaOptions()


def item(id: str, source: Any, **kwargs: Any) -> Item:
    media = None if source is None else Media(source=source, **kwargs)
    return Item(id=id, origin=id, question=f"What is {id}?", media=media, truth=("x",), max_new_tokens=6)


def trials(items: list[Item]) -> list[Trial]:
    return [Trial(each, "none") for each in items]


@pytest.fixture
def opened(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each source is decoded."""
    counts: Counter[str] = Counter()
    decode = engine.decode

    def counted(media: Media, *args: Any, **kwargs: Any) -> Any:
        counts[Path(str(media.source)).name] += 1
        return decode(media, *args, **kwargs)

    monkeypatch.setattr(engine, "decode", counted)
    return counts


def test_a_clip_is_decoded_once_and_answers_are_the_engines(engine: Engine, media: Path, opened: Counter[str]) -> None:
    items = [item(f"q{i}", media / "clip.mp4") for i in range(3)]
    items += [item("other", media / "long.mp4"), item("text", None)]
    requests = [request_of(trial, OPTIONS) for trial in trials(items)]
    expected = [engine.answer(request) for request in requests]
    opened.clear()
    sessions = ClipSessions(engine, trials(items), OPTIONS, most_open=2)
    found = [sessions.answer(request) for request in requests]
    assert opened == {"clip.mp4": 1, "long.mp4": 1}
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert [answer.receipt for answer in found] == [answer.receipt for answer in expected]
    assert found[0].timings["decode_seconds"] > 0 and found[1].timings["decode_seconds"] == 0
    assert found[0].timings["prefill_seconds"] > found[1].timings["prefill_seconds"]


def passes_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and positions of every pass over prompts that the language model computes."""
    found: list[tuple[int, int]] = []
    prefill = DecodeSteps.prefill

    def recorded(self: DecodeSteps, embeds: torch.Tensor) -> torch.Tensor:
        found.append((embeds.shape[0], embeds.shape[1]))
        return prefill(self, embeds)

    monkeypatch.setattr(DecodeSteps, "prefill", recorded)
    return found


def test_every_question_continues_from_the_media(engine: Engine, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = passes_of(engine, monkeypatch)
    asked = trials([item(f"q{i}", media / "clip.mp4") for i in range(5)])
    requests = [request_of(trial, OPTIONS) for trial in asked]
    sessions = ClipSessions(engine, asked, OPTIONS, most_open=1)
    answers = [sessions.answer(requests[0]), *sessions.batch(requests[1:3]), *sessions.batch(requests[3:])]
    (clip,) = sessions._open.values()
    assert clip.beginning is not None
    begun, rest = clip.beginning.positions, answers[0].receipt.prompt_tokens - clip.beginning.positions
    assert passes == [(1, begun), (1, rest), (2, rest), (2, rest)] and begun > rest > 0


def test_a_batch_about_a_clip_answers_as_the_engine(engine: Engine, media: Path, opened: Counter[str]) -> None:
    items = [item(name, media / "clip.mp4") for name in ("one", "one and two", "one and two and three", "four")]
    requests = [request_of(trial, OPTIONS) for trial in trials(items)]
    expected = [engine.answer(request) for request in requests]
    opened.clear()
    sessions = ClipSessions(engine, trials(items), OPTIONS, most_open=1)
    found = [*sessions.batch(requests[:3]), *sessions.batch(requests[3:])]
    assert opened == {"clip.mp4": 1}
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert [answer.receipt for answer in found] == [answer.receipt for answer in expected]


def test_answers_do_not_depend_on_their_order(engine: Engine, media: Path) -> None:
    items = [item(name, media / "clip.mp4") for name in ("one", "one and two", "one and two and three")]
    requests = [request_of(trial, OPTIONS) for trial in trials(items)]
    texts: list[list[str]] = []
    for order in ((0, 1, 2), (2, 1, 0)):
        sessions = ClipSessions(engine, trials(items), OPTIONS, most_open=1)
        found = {i: sessions.answer(requests[i]).text for i in order}
        texts.append([found[i] for i in range(3)])
    assert texts[0] == texts[1]


def test_another_range_or_modality_is_another_clip(engine: Engine, media: Path, opened: Counter[str]) -> None:
    items = [item("a", media / "clip.mp4"), item("b", media / "clip.mp4", end=1.0)]
    items += [item("c", media / "clip.mp4", audio=False), item("d", media / "clip.mp4")]
    sessions = ClipSessions(engine, trials(items), OPTIONS, most_open=4)
    for trial in trials(items):
        assert sessions.answer(request_of(trial, OPTIONS)).text == engine.answer(request_of(trial, OPTIONS)).text
    assert opened["clip.mp4"] == 3 + 4  # a and d share; the engine itself decodes each


def test_an_error_closes_the_clip(engine: Engine, media: Path, tmp_path: Path, opened: Counter[str]) -> None:
    path = tmp_path / "late.mp4"
    items = [item("a", path), item("b", path)]
    sessions = ClipSessions(engine, trials(items), OPTIONS, most_open=1)
    with pytest.raises(VideoLlama2Error):
        sessions.answer(request_of(Trial(items[0], "none"), OPTIONS))
    path.write_bytes((media / "clip.mp4").read_bytes())
    assert sessions.answer(request_of(Trial(items[1], "none"), OPTIONS)).receipt.media
    assert opened["late.mp4"] == 2


def test_few_clips_are_open_at_once(engine: Engine, media: Path, opened: Counter[str]) -> None:
    items = [item(f"{name}{i}", media / name) for i in range(2) for name in ("clip.mp4", "long.mp4")]
    sessions = ClipSessions(engine, trials(items), OPTIONS, most_open=1)
    for trial in trials(by_clip(items)):
        sessions.answer(request_of(trial, OPTIONS))
    assert opened == {"clip.mp4": 1, "long.mp4": 1} and len(sessions._open) == 1


def test_questions_about_a_clip_are_neighbours_and_go_to_one_process() -> None:
    items = [item(f"{clip}{i}", f"{clip}.mp4") for i in range(3) for clip in "abcd"]
    planned = batches(by_clip(items), ["none", "audio"], 1)
    parts = shares(planned, 3)
    assert sorted(t.key for part in parts for each in part for t in each) == sorted(
        (ablation, each.id) for ablation in ("none", "audio") for each in items
    )
    for part in parts:
        assert len({trial.item.id[0] for each in part for trial in each if trial.ablation == "none"}) <= 2
    together = [{each[0].item.id[0] for each in part if each[0].ablation == "none"} for part in parts]
    assert sum(map(len, together)) == 4 and max(map(len, parts)) - min(map(len, parts)) <= 3
    single = batches([item(str(i), f"{i}.mp4") for i in range(7)], ["none"], 1)
    assert shares(single, 3) == [single[0::3], single[1::3], single[2::3]]


def test_threads_take_turns_with_different_clips() -> None:
    items = [item(f"{clip}{i}", f"{clip}.mp4") for clip in "abc" for i in range(2)]
    planned = batches(items, ["none"], 1)
    assert [each[0].item.id for each in taking_turns(planned, 2)] == ["a0", "b0", "a1", "b1", "c0", "c1"]
    assert taking_turns(planned, 1) == planned


def test_batches_are_of_whole_clips_where_they_fit() -> None:
    items = [
        item(f"{clip}{i}", f"{clip}.mp4")
        for clip, count in zip("abcde", (2, 1, 3, 5, 1), strict=True)
        for i in range(count)
    ]
    planned = batches(items, ["none", "audio"], 4)
    assert [[t.item.id for t in each] for each in planned if each[0].ablation == "none"] == [
        ["a0", "a1", "b0"], ["c0", "c1", "c2"], ["d0", "d1", "d2", "d3"], ["d4"], ["e0"],
    ]  # fmt: skip
    assert [t.key for each in planned for t in each] == [(a, i.id) for a in ("none", "audio") for i in items]


def test_by_default_the_questions_about_a_clip_are_a_batch() -> None:
    items = [
        item(f"{clip}{i}", f"{clip}.mp4") for clip, count in zip("abc", (2, 9, 1), strict=True) for i in range(count)
    ]
    planned = batches([*items, item("text", None)], ["none"], None)
    assert [len(each) for each in planned] == [2, 8, 1, 1, 1]
    assert all(len({trial.item.id[0] for trial in each}) == 1 for each in planned)
