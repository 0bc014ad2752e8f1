"""Captions of many files: output, resuming after a kill, and bad files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from videollama2 import GenerateOptions, Media, Request, cli
from videollama2.engine import Engine
from videollama2.errors import DataError, EmptyMedia, MediaNotFound, UsageError, VideoLlama2Error, WorkerError
from videollama2.live.captioning import LINES, MANIFEST, caption_files
from videollama2.live.files import InputFile, find_files, same_stem
from videollama2.subtitles import read_subtitles

from .. import tiny

REQUEST = Request(media=Media(source=""), question="what?", options=GenerateOptions(max_new_tokens=2))
WINDOW = {"window": 1.0, "overlap": 0.0}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """a.mp4, b/a.mp4 and b/bad.mp4 (not a video), a text file, and hidden files."""
    folder = tmp_path / "clips"
    (folder / "b").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    tiny.write_clip(folder / "a.mp4")
    tiny.write_clip(folder / "b" / "a.mp4", frames=10)
    (folder / "b" / "bad.mp4").write_text("this is no video\n", encoding="utf-8")
    for name in ("read.txt", ".hidden/c.mp4", ".d.mp4"):
        (folder / name).write_bytes((folder / "a.mp4").read_bytes())
    return folder


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LINES).read_text().splitlines()]


class Counting:
    """An opener that records the files it opens, with a hook for tests."""

    def __init__(self, opener: Any, then: Callable[[str], None] = lambda name: None) -> None:
        self.opener, self.then = opener, then
        self.opened: list[str] = []

    def __call__(self, medium: Any, **asked: Any) -> Any:
        self.opened.append(Path(medium).name)
        self.then(Path(medium).name)
        return self.opener(medium, **asked)


def test_captions_and_subtitles(engine: Engine, clips: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", []
    listed = find_files([clips])
    assert [file.name for file in listed] == ["a.mp4", "b/a.mp4", "b/bad.mp4"]
    found = caption_files(
        engine, listed, out, REQUEST, **WINDOW, summary=True, formats=(".srt", ".vtt"),
        on_file=lambda line, done, total: told.append((line["file"], done, total)),
    )  # fmt: skip
    a, b, bad = lines(out)
    assert list(found.lines) == [a, b, bad] and [x["status"] for x in (a, b, bad)] == ["done", "done", "failed"]
    assert [(c["start"], round(c["end"], 1)) for c in a["captions"]] == [(0, 1), (1, 2.0)] and a["summary"]
    assert a["captions"][0]["receipt"]["video"]["range_seconds"] == [0.0, 1.0] and a["took"] > 0
    assert bad["error"]["type"] == "UnreadableMedia" and "text file" in bad["error"]["message"]
    assert bad["captions"] == []  # as in the other lines: whoever reads them needs no case of its own
    said = read_subtitles(out / "a.srt")
    plain = ["".join(x if x.isprintable() else " " for x in c["text"]) for c in a["captions"]]
    assert [line.text for line in said] == [" ".join(text.split()) for text in plain if text.strip()]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == sorted(
        [LINES, MANIFEST, "a.srt", "a.vtt", "b/a.srt", "b/a.vtt"]
    )
    assert sorted(done for _, done, _ in told) == [1, 2, 3] and {total for _, _, total in told} == {3}


def test_a_killed_run_resumes(engine: Engine, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    caption_files(engine, find_files([clips]), whole, REQUEST, **WINDOW)

    def power_cut(name: str) -> None:
        if name == "bad.mp4":
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "opener", Counting(engine.opener, power_cut))
    with pytest.raises(KeyboardInterrupt):
        caption_files(engine, find_files([clips]), out, REQUEST, **WINDOW, threads=1)
    assert [line["file"] for line in lines(out)] == ["a.mp4", "b/a.mp4"]
    kept = (out / LINES).read_bytes()
    (out / LINES).write_bytes(kept[:-30])  # the last line was being written
    again = Counting(engine.opener.opener)
    monkeypatch.setattr(engine, "opener", again)
    found = caption_files(engine, find_files([clips]), out, REQUEST, **WINDOW)
    assert found.reused == 1 and "a.mp4" in again.opened and set(again.opened) == {"a.mp4", "bad.mp4"}
    assert len(again.opened) <= 4  # of b/a.mp4: its length and its one window

    def plain(folder: Path) -> list[Any]:
        return [{k: v for k, v in line.items() if k != "took"} for line in lines(folder)]

    assert plain(out) == plain(whole)
    for name in ("a.srt", "b/a.srt"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_finished_files_are_not_captioned_again(engine: Engine, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    caption_files(engine, find_files([clips]), out, REQUEST, **WINDOW)
    before = (out / LINES).read_bytes()
    assert caption_files(engine, find_files([clips]), out, REQUEST, **WINDOW).reused == 3
    assert (out / LINES).read_bytes() == before
    tiny.write_clip(clips / "b" / "bad.mp4", frames=10)  # it was mended
    assert caption_files(engine, find_files([clips]), out, REQUEST, **WINDOW).reused == 2
    assert [line["status"] for line in lines(out)] == ["done"] * 3
    alone = caption_files(engine, find_files([clips / "a.mp4"]), out, REQUEST, **WINDOW)
    assert alone.reused == 1 and len(lines(out)) == 3  # lines of other files stay
    with pytest.raises(UsageError, match=r"question: 'what\?' → 'why\?'"):
        caption_files(engine, find_files([clips]), out, Request(media=Media(source=""), question="why?"), **WINDOW)
    (out / LINES).write_text('{"file": 1}\n')
    with pytest.raises(DataError, match=r"captions\.jsonl:1"):
        caption_files(engine, find_files([clips]), out, REQUEST, **WINDOW)


def test_failed_files_are_retried_on_request(
    engine: Engine, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = Counting(engine.opener)
    monkeypatch.setattr(engine, "opener", opener)
    caption_files(engine, find_files([clips]), tmp_path / "out", REQUEST, **WINDOW)
    opener.opened.clear()
    caption_files(engine, find_files([clips]), tmp_path / "out", REQUEST, **WINDOW)
    assert opener.opened == []
    assert caption_files(engine, find_files([clips]), tmp_path / "out", REQUEST, **WINDOW, retry=True).reused == 2
    assert opener.opened == ["bad.mp4"]


def test_a_broken_machine_ends_a_run(
    engine: Engine, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(error: Exception) -> Counting:
        def fail(name: str) -> None:
            raise error

        return Counting(engine.opener, fail)

    listed = [InputFile(clips / "a.mp4", f"{i}/a.mp4") for i in range(30)]
    monkeypatch.setattr(engine, "opener", raising(RuntimeError("no such device")))
    with pytest.raises(VideoLlama2Error, match=r"10 files in a row failed .* RuntimeError: no such device"):
        caption_files(engine, listed, tmp_path / "out", REQUEST, **WINDOW)
    assert 10 <= len(lines(tmp_path / "out")) < 30
    monkeypatch.setattr(engine, "opener", raising(WorkerError("no process")))
    with pytest.raises(WorkerError):
        caption_files(engine, listed, tmp_path / "other", REQUEST, **WINDOW)
    assert lines(tmp_path / "other") == []


def test_input_files_and_output_paths(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound):
        find_files([clips / "none.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyMedia, match=r"clip\.mp4"):
        find_files([tmp_path / "empty"])
    two = find_files([clips / "a.mp4", clips / "b" / "a.mp4", clips])
    assert [file.name for file in two] == ["a.mp4", "2/a.mp4", "b/bad.mp4"]
    alike = same_stem(
        [InputFile(Path("a.mp4"), "a.mp4"), InputFile(Path("A.mov"), "A.mov"), InputFile(Path("b.mp4"), "b.mp4")]
    )
    assert alike == {"a.mp4", "A.mov"}
    assert InputFile(Path("x"), "b/a.mp4").output_path(Path("out"), ".srt", whole_name=True) == Path("out/b/a.mp4.srt")


def test_the_command(tiny_folder: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With real workers: the exit code says that a file failed."""
    out = tmp_path / "out"
    words = ["caption", str(clips), "What is it?", "--out", str(out), "--window", "1", "--model", str(tiny_folder)]
    words += ["--device", "cpu", "--dtype", "float32", "--max-new-tokens", "2"]
    assert cli.main(words) == 3
    printed = capsys.readouterr().err
    assert "b/bad.mp4: UnreadableMedia" in printed and "2 done, 1 failed (0 reused)" in printed
    assert json.loads((out / MANIFEST).read_text())["question"] == "What is it?"
    (clips / "b" / "bad.mp4").unlink()
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "done": 2, "partly": 0, "failed": 0, "reused": 2, "folder": str(out),
    }  # fmt: skip
    assert cli.main(["caption", str(clips), "--format", "doc"]) == 2
    assert cli.main(["caption", str(clips / "none.mp4")]) == 3
