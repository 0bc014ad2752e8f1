"""Windows over a clip, the summary of their answers, and questions with subtitles."""

import json
from pathlib import Path

import pytest

from videollama2 import cli
from videollama2.engine import Engine
from videollama2.errors import ContextOverflow, MediaError, TimeRangeError, UnreadableMedia, UsageError
from videollama2.generation.request import Request
from videollama2.live import ask_with_subtitles, watch
from videollama2.live.windows import WatchResult, Window, clock_time, summarise, windows
from videollama2.receipt import Answer, Receipt
from videollama2.subtitles import Subtitle, read_subtitles, write_subtitles

from ..evals.fake import FakeEngine
from ..media.make import write

SHORT = {"max_new_tokens": 3}


@pytest.mark.parametrize(
    ("seconds", "window", "overlap", "expected"),
    [
        (30.0, 10, 0, [(0, 10), (10, 20), (20, 30)]),
        (30.04, 10, 0, [(0, 10), (10, 20), (20, 30.04)]),  # no window of one frame
        (33.0, 10, 0, [(0, 10), (10, 20), (20, 30), (30, 33)]),
        (4.0, 10, 0, [(0, 4)]),
        (30.0, 10, 5, [(0, 10), (5, 15), (10, 20), (15, 25), (20, 30)]),
        (12.0, 10, 5, [(0, 10), (5, 12)]),
        (0.5, None, 0, [(0, 0.5)]),
    ],
)
def test_windows_cover_the_clip(
    seconds: float, window: float | None, overlap: float, expected: list[tuple[float, float]]
) -> None:
    assert windows(None, None, seconds, window, overlap) == expected


def test_windows_of_a_range() -> None:
    assert windows(5, 25, 60, 10) == [(5, 15), (15, 25)] and windows(50, 99, 60, 10) == [(50, 60)]
    with pytest.raises(TimeRangeError, match=r"ends at 60\.000 s"):
        windows(60, None, 60, 10)
    with pytest.raises(UsageError, match="the limit is"):
        windows(None, None, 1e6, 1)


def test_each_window_answers_like_a_range(engine: Engine, media: Path) -> None:
    told: list[tuple[Window, int]] = []
    found = watch(
        engine, media / "long.mp4", "what?", window=1, overlap=0, on_window=lambda w, n: told.append((w, n)), **SHORT
    )
    assert [(w.start, w.end) for w in found.windows] == [(0, 1), (1, 2), (2, 3), (3, pytest.approx(4, abs=0.1))]
    assert [w for w, _ in told] == list(found.windows) and {n for _, n in told} == {4}
    for window in found.windows[:3]:
        alone = engine.answer(media / "long.mp4", "what?", start=window.start, end=window.end, **SHORT)
        assert window.answer is not None and window.text == alone.text
        assert window.answer.receipt.video == alone.receipt.video and window.answer.receipt.audio == alone.receipt.audio
    summary = found.summary
    assert summary is not None and summary.receipt.prompt_tokens > 40
    seen = [entry.range_seconds for entry in summary.receipt.media if hasattr(entry, "range_seconds")]
    heard = [entry.windows_seconds[0][0] for entry in summary.receipt.media if hasattr(entry, "windows_seconds")]
    assert [start for start, _ in seen] == [0, 1, 2, 3] and heard == pytest.approx([0, 1, 2, 3], abs=0.05)
    assert any("4 windows' answers" in note for note in summary.receipt.notes)
    json.dumps(found.to_dict())


def test_all_of_a_clip_with_a_variable_frame_rate(engine: Engine, tmp_path: Path) -> None:
    """Its length is where its last picture ends, not its frames at their mean rate."""
    stamps = [0, 100, 200, 300, 5000, 9000]
    path = write(tmp_path / "vfr.mkv", len(stamps), stamps=stamps)
    found = watch(engine, path, "what?", window=3.0, summary=False, **SHORT)
    assert found.seconds > 9.0 and found.windows[-1].end == round(found.seconds, 6)
    assert [window.start for window in found.windows][:3] == [0.0, 3.0, 6.0]
    video = engine.answer(path, "what?", start=1.0, protocol="full", **SHORT).receipt.video
    assert video is not None and video.times_seconds is not None and video.range_seconds is not None
    assert max(video.times_seconds) == 9.0 and video.range_seconds == (1.0, pytest.approx(found.seconds, abs=0.01))


def test_a_single_window_equals_a_plain_question(engine: Engine, media: Path) -> None:
    found = watch(engine, media / "clip.mp4", "what?", window=60, **SHORT)
    alone = engine.answer(media / "clip.mp4", "what?", **SHORT)
    assert len(found.windows) == 1 and found.windows[0].text == alone.text
    assert found.summary is found.windows[0].answer and found.summary is not None
    assert found.summary.receipt == alone.receipt
    sound = watch(engine, media / "tone.wav", "what?", window=1, summary=False, **SHORT)
    assert sound.seconds == pytest.approx(1.5, abs=0.01) and len(sound.windows) == 2 and sound.summary is None
    still = watch(engine, media / "still.png", "what?", window=1, **SHORT)
    assert (still.seconds, still.subtitles) == (0.0, ()) and still.summary is not None


class BrokenAfter:
    """An opener that fails for ranges from some second on."""

    def __init__(self, opener, second: float) -> None:  # type: ignore[no-untyped-def]
        self.opener, self.second = opener, second

    def __call__(self, medium, *, start=None, **asked):  # type: ignore[no-untyped-def]
        if start is not None and start >= self.second:
            raise UnreadableMedia(f"{medium} is broken there")
        return self.opener(medium, start=start, **asked)


def test_failed_windows_are_reported(engine: Engine, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "opener", BrokenAfter(engine.opener, 2.0))
    found = watch(engine, media / "long.mp4", "what?", window=1, **SHORT)
    assert [w.error is None for w in found.windows] == [True, True, False, False]
    assert found.windows[2].error == f"UnreadableMedia: {media / 'long.mp4'} is broken there"
    assert found.summary is not None and any("2 to 3 s are missing" in n for n in found.summary.receipt.notes)
    assert [line.start for line in found.subtitles] == [0, 1000]
    with pytest.raises(UnreadableMedia):
        watch(engine, media / "long.mp4", "what?", window=1, strict=True, **SHORT)
    monkeypatch.setattr(engine, "opener", BrokenAfter(engine.opener, 0.0))
    with pytest.raises(MediaError, match="broken there"):
        watch(engine, media / "long.mp4", "what?", window=1, **SHORT)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"window": 0}, "more than 0"),
        ({"window": float("nan")}, "more than 0"),
        ({"window": 10, "overlap": 10}, "nine tenths"),
        ({"window": None, "overlap": 1}, "drop the overlap"),
    ],
)
def test_invalid_windows(engine: Engine, wrong: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        watch(engine, "clip.mp4", "what?", **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected one"):
        watch(engine, None, "what?")


def test_captions_do_not_overlap() -> None:
    receipt = Receipt(model="m", protocol="full", device="cpu", dtype="float32", video=None, audio=None)
    answers = [Window(start=s, end=s + 10, answer=Answer(f"at {s}", "stop", receipt)) for s in (0, 5, 10)]
    found = WatchResult(question="what?", seconds=20, windows=(*answers,), summary=None)
    assert [(x.start, x.end, x.text) for x in found.subtitles] == [
        (0, 5000, "at 0"), (5000, 10000, "at 5"), (10000, 20000, "at 10"),
    ]  # fmt: skip


class Narrow(FakeEngine):
    """A model whose context holds three notes."""

    def answer(self, media=None, question=None, **kwargs):  # type: ignore[no-untyped-def]
        if media.question.count("\n[") > 2:
            self.asked.append(media)
            raise ContextOverflow("too long")
        return super().answer(media, question, **kwargs)


def test_too_many_answers_are_summarised_by_halves() -> None:
    fake = Narrow(otherwise="all of it")
    parts = [(10.0 * i, 10.0 * i + 10, f"note {i}\n\nof a part") for i in range(5)]
    answer = summarise(fake, parts, Request(media="clip.mp4", question="what?", start=3))  # type: ignore[arg-type]
    assert answer.text == "all of it" and "5 answers exceed" in answer.receipt.notes[-1]
    first, last = fake.asked[0].question or "", fake.asked[-1].question or ""
    assert "[0:10-0:20] note 1 of a part\n" in first and "answers this: what?" in first
    assert "[0:00-0:20] all of it\n[0:20-0:50] all of it" in last and fake.asked[-1].media is None
    with pytest.raises(ContextOverflow):
        summarise(Narrow(ContextOverflow), parts[:1] * 3, Request(question="[\n[\n[\n["))  # type: ignore[arg-type]


def test_clock() -> None:
    assert [clock_time(s) for s in (0, 65.9, 3605)] == ["0:00", "1:05", "1:00:05"]


def test_subtitles_of_the_requested_range(engine: Engine, media: Path) -> None:
    lines = [Subtitle(0, 900, "left"), Subtitle(1000, 1900, "right"), Subtitle(2000, 3000, "up")]
    answer = ask_with_subtitles(engine, media / "long.mp4", "what?", lines, start=1, end=2, **SHORT)
    said = 'This is said in the video: "right"\nwhat?'
    alone = engine.answer(media / "long.mp4", said, start=1, end=2, **SHORT)
    assert answer.text == alone.text and answer.receipt.prompt_tokens == alone.receipt.prompt_tokens
    assert answer.receipt.notes[-1] == "subtitles: 1 of 1 lines in the requested range are quoted: all"
    found = watch(engine, media / "long.mp4", "what?", window=2, subtitles=lines, summary=False, **SHORT)
    notes = [w.answer.receipt.notes[-1] for w in found.windows if w.answer is not None]
    assert [note[:18] for note in notes] == ["subtitles: 2 of 2 ", "subtitles: 1 of 1 "]


def test_long_subtitles_are_those_at_the_frames(engine: Engine, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videollama2.live.subtitle_prompts.MAX_CHARACTERS", 20)
    lines = [Subtitle(100 * i, 100 * i + 100, f"line {i:02}") for i in range(40)]
    answer = ask_with_subtitles(engine, media / "long.mp4", "what?", lines, **SHORT)
    assert answer.receipt.notes[-1].startswith(
        "subtitles: 2 of 40 lines in the requested range are quoted: those at the frames"
    )
    with pytest.raises(UsageError, match="one clip"):
        ask_with_subtitles(engine, None, "what?", lines)


def test_commands(tiny_folder: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_subtitles(tmp_path / "in.srt", [Subtitle(0, 900, "left")])
    model = ["--model", str(tiny_folder), "--device", "cpu", "--dtype", "float32", "--max-new-tokens", "2"]
    out = tmp_path / "out.vtt"
    words = ["watch", str(media / "long.mp4"), "what?", "--window", "2", "--subtitles", str(tmp_path / "in.srt")]
    assert cli.main([*words, "--out", str(out), "--receipt", *model]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("[0:00-0:02] ") and "\n[0:02-0:04] " in printed.out
    assert "from 2 to 4" in printed.err and "subtitles: " in printed.err
    assert all(0 <= line.start < line.end <= 4100 for line in read_subtitles(out))
    assert cli.main([*words, "--json", "--no-summary", *model]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["windows"]) == 2 and told["summary"] is None
    asked = ["ask", str(media / "clip.mp4"), "what?", "--subtitles", str(tmp_path / "in.srt"), "--json", *model]
    assert cli.main(asked) == 0
    assert json.loads(capsys.readouterr().out)["receipt"]["notes"][-1].startswith("subtitles: 1 of 1")
    assert cli.main([*words, "--out", "a.txt"]) == 2 and cli.main(["watch", "no.mp4", "what?"]) == 3
