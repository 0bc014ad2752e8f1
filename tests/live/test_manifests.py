"""Jobs over manifests: rows of tables and shards, here and at addresses; which errors are rows, and which are not."""

import copy
import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
import torch

from videollama2 import GenerateOptions, Media, Request, cli
from videollama2.engine import Engine
from videollama2.errors import DataError, MissingExtra, UnreadableMedia, UsageError
from videollama2.live.asking import LINES, ask_files
from videollama2.live.captioning import caption_files
from videollama2.live.manifests import find_rows
from videollama2.live.row_job import MANIFEST

from .. import tiny

REQUEST = Request(media=[Media(source="")], question="what?", options=GenerateOptions(max_new_tokens=2))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """a.mp4 and b.mp4, and bad.mp4, which is no video."""
    folder = tmp_path / "clips"
    folder.mkdir()
    tiny.write_clip(folder / "a.mp4")
    tiny.write_clip(folder / "b.mp4", frames=10)
    (folder / "bad.mp4").write_text("this is no video\n")
    return folder


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LINES).read_text().splitlines()]


def test_rows_have_questions_ranges_and_errors(engine: Engine, clips: Path, tmp_path: Path) -> None:
    listed = table(
        tmp_path / "rows.jsonl",
        [
            {"id": "one", "video": "clips/a.mp4", "question": "one?", "start": 0.5, "end": 1.5},
            {"id": 2, "video": "clips/b.mp4", "note": "ignored"},
            {"id": "bad", "video": "clips/bad.mp4"},
            {"id": "gone", "video": "clips/gone.mp4"},
            {"id": "far", "video": "nosuch://host/a.mp4"},
            {"id": "heard", "audio": "clips/a.mp4"},
            {"id": "typo", "vidoe": "clips/a.mp4"},
        ],
    )
    listed.write_text(listed.read_text() + '{"id": "torn", \n')
    rows = find_rows([str(listed)])
    done = ask_files(engine, rows, tmp_path / "out", REQUEST, threads=1)
    found = {line["id"]: line for line in lines(tmp_path / "out")}
    assert list(found) == ["one", "2", "bad", "gone", "far", "heard", "typo", "rows.jsonl:8"]
    assert {k for k, v in found.items() if v["status"] == "done"} == {"one", "2", "heard"} and done.counted(
        "failed"
    ) == 5
    assert found["one"]["receipt"]["video"]["range_seconds"] == [0.5, 1.5] and found["one"]["question"] == "one?"
    one = engine.answer(Media(source=str(clips / "a.mp4"), start=0.5, end=1.5), "one?", max_new_tokens=2)
    two = engine.answer(str(clips / "b.mp4"), "what?", max_new_tokens=2)
    assert (found["one"]["text"], found["2"]["text"]) == (one.text, two.text)
    assert found["heard"]["receipt"]["video"] is None and found["heard"]["receipt"]["audio"]["state"] == "used"
    assert found["gone"]["error"]["type"] == "MediaNotFound" and "nosuch" in found["far"]["error"]["message"]
    assert "did you mean 'video'" in found["typo"]["error"]["message"]
    assert "rows.jsonl:8" in found["rows.jsonl:8"]["error"]["message"] and found["rows.jsonl:8"]["text"] is None


def test_a_changed_row_is_asked_again(engine: Engine, clips: Path, tmp_path: Path) -> None:
    rows = [{"id": "a", "video": "clips/a.mp4"}, {"id": "b", "video": "clips/b.mp4", "question": "one?"}]
    listed = str(table(tmp_path / "rows.jsonl", rows))
    assert ask_files(engine, find_rows([listed]), tmp_path / "out", REQUEST).reused == 0
    assert ask_files(engine, find_rows([listed]), tmp_path / "out", REQUEST).reused == 2
    rows[1]["question"] = "two?"
    table(tmp_path / "rows.jsonl", rows)
    assert ask_files(engine, find_rows([listed]), tmp_path / "out", REQUEST).reused == 1
    assert [line["id"] for line in lines(tmp_path / "out")] == ["a", "b"]
    with pytest.raises(UsageError, match="answers made with other settings"):
        ask_files(engine, find_rows([listed]), tmp_path / "out", Request(media=[Media(source="")], question="why?"))


def test_other_weights_under_the_same_name_are_another_setting(engine: Engine, clips: Path, tmp_path: Path) -> None:
    rows, out = find_rows([str(clips / "a.mp4")]), tmp_path / "out"
    ask_files(engine, rows, out, REQUEST)
    other = copy.copy(engine)
    other.model = copy.deepcopy(engine.model)
    with torch.no_grad():
        next(other.model.parameters()).add_(1)
    with pytest.raises(UsageError, match=r"answers made with other settings \(weights_sha256: '\w{12}…' → '\w{12}…'\)"):
        ask_files(other, rows, out, REQUEST)
    assert ask_files(engine, rows, out, REQUEST).reused == 1


def test_another_engine_or_file_of_weights_is_another_setting(
    engine: Engine, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, out = find_rows([str(clips / "a.mp4")]), tmp_path / "out"
    ask_files(engine, rows, out, REQUEST)
    before = json.loads((out / MANIFEST).read_text())
    monkeypatch.setattr(engine.runner, "decoder", SimpleNamespace(engine="llama.cpp", weights="lm.Q4_K_M.gguf"))
    with pytest.raises(UsageError, match=r"engine: 'torch' → 'llama.cpp'; weights: '' → 'lm.Q4_K_M.gguf'"):
        ask_files(engine, rows, out, REQUEST)
    monkeypatch.undo()
    old = {key: value for key, value in before.items() if key not in ("engine", "weights")}
    (out / MANIFEST).write_text(json.dumps(old))  # as earlier versions wrote it
    assert ask_files(engine, rows, out, REQUEST).reused == 1
    (out / MANIFEST).write_text(json.dumps({**old, "engine": "llama.cpp", "weights": "lm.Q4_K_M.gguf"}))
    with pytest.raises(UsageError, match=r"weights: 'lm.Q4_K_M.gguf' → ''"):
        ask_files(engine, rows, out, REQUEST)


def test_shards_and_addresses_give_the_answers_of_files(engine: Engine, clips: Path, tmp_path: Path) -> None:
    a, b = ((clips / name).read_bytes() for name in ("a.mp4", "b.mp4"))
    path = shard(
        tmp_path / "00.tar",
        {"s/0.mp4": a, "s/0.json": b'{"question": "one?"}', "1.mp4": b, "2.json": b"{}", "3.mp4": b, "3.json": b"{"},
    )
    memory = fsspec.filesystem("memory")
    memory.pipe("/set/clips/b.mp4", b)
    memory.pipe("/set/00.tar", path.read_bytes())
    memory.pipe("/set/rows.jsonl", b'{"id": "far", "video": "clips/b.mp4"}\n{"video": "memory://set/gone.mp4"}\n')
    ask_files(engine, find_rows([str(path)]), tmp_path / "local", REQUEST)
    found = {line["id"]: line for line in lines(tmp_path / "local")}
    assert [found[name]["status"] for name in ("s/0", "1", "2", "3")] == ["done", "done", "failed", "failed"]
    assert found["s/0"]["text"] == engine.answer(str(clips / "a.mp4"), "one?", max_new_tokens=2).text
    assert found["1"]["receipt"]["video"]["source"] == found["1"]["path"] == f"{path}/1.mp4"
    assert found["1"]["text"] == engine.answer(str(clips / "b.mp4"), "what?", max_new_tokens=2).text
    ask_files(engine, find_rows(["memory://set/00.tar", "memory://set/rows.jsonl"]), tmp_path / "far", REQUEST)
    far = {line["id"]: line for line in lines(tmp_path / "far")}
    assert far["00.tar/1"]["text"] == far["far"]["text"] == found["1"]["text"]
    assert far["far"]["receipt"]["video"]["source"] == "memory://set/clips/b.mp4"
    assert far["memory://set/gone.mp4"]["error"]["type"] == "MediaNotFound"


def test_parquet(engine: Engine, clips: Path, tmp_path: Path) -> None:
    rows = [{"id": "a", "video": str(clips / "a.mp4"), "question": "one?"}, {"id": "b", "video": "clips/b.mp4"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    ask_files(engine, find_rows([str(tmp_path / "rows.parquet")]), tmp_path / "out", REQUEST)
    assert [(line["id"], line["status"]) for line in lines(tmp_path / "out")] == [("a", "done"), ("b", "done")]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="unreadable Parquet"):
        find_rows([str(tmp_path / "bad.parquet")])


def test_what_leaves_the_rows_in_doubt_is_an_error(clips: Path, tmp_path: Path) -> None:
    twice = table(tmp_path / "twice.jsonl", [{"id": 1, "video": "a.mp4"}, {"id": "1", "video": "b.mp4"}])
    with pytest.raises(DataError, match="the id '1' is given twice"):
        find_rows([str(twice)])
    with pytest.raises(DataError, match="no rows"):
        find_rows([str(table(tmp_path / "empty.jsonl", []))])
    with pytest.raises(DataError, match="not a file"):
        find_rows([str(tmp_path / "gone.jsonl")])
    with pytest.raises(UnreadableMedia, match="unknown protocol nosuch"):
        find_rows(["nosuch://host/rows.jsonl"])
    with pytest.raises(DataError, match="neither a manifest nor a shard"):
        find_rows(["memory://set/clips"])
    (tmp_path / "cut.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match="can't be read as a tar"):
        find_rows([str(tmp_path / "cut.tar")])
    link = tarfile.TarInfo("0.mp4")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        tar.addfile(link)
    with pytest.raises(DataError, match="not a regular file"):
        find_rows([str(tmp_path / "link.tar")])


def test_a_missing_package_of_a_protocol_ends_the_job(
    engine: Engine, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "open", missing)
    listed = table(tmp_path / "rows.jsonl", [{"id": i, "video": f"s3://bucket/{i}.mp4"} for i in range(3)])
    with pytest.raises(MissingExtra, match="s3fs"):
        ask_files(engine, find_rows([str(listed)]), tmp_path / "out", REQUEST)


def test_ids_never_lead_outside_the_output_folder(engine: Engine, clips: Path, tmp_path: Path) -> None:
    ids = ["../../out", "/abs", "a/../b", "https://x/y?z", "", ".", "n" * 300, "a\0b"]
    rows = [{"id": i, "video": "clips/a.mp4"} for i in ids if i]
    out = tmp_path / "deep" / "er" / "out"
    caption_files(engine, find_rows([str(table(tmp_path / "r.jsonl", rows))]), out, REQUEST, window=None)
    written = list(tmp_path.rglob("*.srt"))
    assert len(written) == len(rows) and all(path.is_relative_to(out) for path in written)


def test_the_command(tiny_folder: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = table(tmp_path / "rows.jsonl", [{"id": "a", "video": "clips/a.mp4", "question": "one?"}])
    model = ["--model", str(tiny_folder), "--device", "cpu", "--dtype", "float32", "--max-new-tokens", "2"]
    out = tmp_path / "out"
    assert cli.main(["ask", str(listed), "--out", str(out), "--json", *model]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1
    assert cli.main(["ask", str(clips), str(listed), "what?", "--out", str(out), *model]) == 2
    assert "answers made with other settings (question: '' → 'what?')" in capsys.readouterr().err
    assert cli.main(["ask", str(clips), str(listed), "what?", "--out", str(tmp_path / "two"), *model]) == 3
    assert "bad.mp4: UnreadableMedia" in capsys.readouterr().err
    assert [line["id"] for line in lines(tmp_path / "two")] == ["a.mp4", "b.mp4", "bad.mp4", "a"]
    assert cli.main(["ask", str(listed), "x?"]) == 2
    assert "add --out FOLDER to ask about each of them" in capsys.readouterr().err
    assert cli.main(["ask", str(listed), "x?", "--actors", "2"]) == 2
    assert "--actors would have no effect without --ray" in capsys.readouterr().err
    assert cli.main(["caption", str(listed), "--out", str(tmp_path / "three"), "--whole", *model]) == 0
    assert (tmp_path / "three" / "a.srt").is_file()
