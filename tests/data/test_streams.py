"""Annotation files row by row: every form, however it falls on the chunks, and every way in which one is damaged."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from videollama2.data import streams
from videollama2.data.streams import stream_rows
from videollama2.errors import DataError

RECORDS = [{"id": k, "text": "wörd " * k, "deep": {"list": [1, 2.5, None, "]}"]}} for k in range(7)]


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def data(path: Path, **how: Any) -> list[Any]:
    return [dict(row.data) for row in stream_rows(path, **how)]


@pytest.fixture(autouse=True, params=[3, 1 << 20], ids=["tiny chunks", "usual chunks"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_CHUNK", request.param)


@pytest.mark.parametrize("indent", [None, 2])
def test_json_lists(tmp_path: Path, indent: int | None) -> None:
    assert data(put(tmp_path / "a.json", json.dumps(RECORDS, indent=indent))) == RECORDS
    assert data(put(tmp_path / "b.json", " [ ] ")) == []
    trailing = json.dumps(RECORDS, indent=indent)[:-1] + ",]"
    assert data(put(tmp_path / "c.json", trailing)) == RECORDS


def test_json_objects(tmp_path: Path) -> None:
    held = {"version": 1.0, "other": {"a": [1]}, "data": RECORDS}
    path = put(tmp_path / "a.json", json.dumps(held))
    assert data(path, key="data") == RECORDS and data(path) == RECORDS  # its only list of records
    with pytest.raises(DataError, match="expected a list under the key 'rows'"):
        data(path, key="rows")
    keyed = put(tmp_path / "b.json", json.dumps({"x": {"a": 1}, "y": "word"}))
    assert data(keyed, key="*") == [{"a": 1, "_key": "x"}, {"_key": "y", "_value": "word"}]
    assert data(put(tmp_path / "c.json", json.dumps({"a": 1, "b": [1]}))) == [{"a": 1, "b": [1]}]


def test_json_lines_under_either_name_and_compressed(tmp_path: Path) -> None:
    text = "\ufeff" + "\n\n".join(json.dumps(record) for record in RECORDS) + "\n"
    assert data(put(tmp_path / "a.jsonl", text)) == RECORDS
    assert data(put(tmp_path / "a.json", text)) == RECORDS
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    assert data(tmp_path / "a.jsonl.gz") == RECORDS


def test_every_compression(tmp_path: Path) -> None:
    text = json.dumps(RECORDS).encode()
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        path = tmp_path / f"a.json{suffix}"
        path.write_bytes(compress(text))
        assert data(path) == RECORDS
        path.write_bytes(compress(text)[:-20])
        with pytest.raises(DataError, match="can't be read"):
            data(path)
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.csv.zst"
    with pyarrow.output_stream(str(path), compression="zstd") as out:
        out.write(b'\xef\xbb\xbfid,text\r\n1,"a, b"\r\n')
    assert data(path) == [{"id": "1", "text": "a, b"}]
    path.write_bytes(path.read_bytes()[:5] + b"x" * 40)
    with pytest.raises(DataError, match=r"a\.csv\.zst can't be read"):
        data(path)


def test_lines_of_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line too long to be a record costs itself alone, and is never held whole."""
    monkeypatch.setattr(streams, "_LONGEST", 50)
    path = put(tmp_path / "a.jsonl", json.dumps({"id": "x" * 200}) + '\n{"id": 1}\n[{"id": 2}]\n')
    long, short, listed = stream_rows(path)
    assert short.data == {"id": 1}
    with pytest.raises(DataError, match=r"a.jsonl:1: over 50 characters; expected one record per line"):
        long.text("id")
    with pytest.raises(DataError, match=r"if the file is one list, rename it to \.json"):
        listed.text("id")
    with pytest.raises(DataError, match="or a record of more than 50 characters"):
        data(put(tmp_path / "a.json", json.dumps([{"id": "x" * 200}])[:-4]))


def test_embedded_media_are_not_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"id": k, "clip": b"0" * 1000, "image": {"bytes": b"1" * 1000, "path": f"{k}.jpg"}} for k in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert data(tmp_path / "a.parquet") == [{"id": k, "image": {"path": f"{k}.jpg"}} for k in range(3)]


def test_tables(tmp_path: Path) -> None:
    rows = [{"a": "1", "b": "x,y\nz"}, {"a": "2", "b": ""}]
    assert data(put(tmp_path / "a.csv", 'a,b\n1,"x,y\nz"\n\n2,\n')) == rows
    assert data(put(tmp_path / "a.txt", "1\tx\n"), columns=("a", "b", "c")) == [{"a": "1", "b": "x"}]
    long = "y" * 200_000  # longer than the csv module's own limit
    assert data(put(tmp_path / "l.csv", f"a\n{long}\n")) == [{"a": long}]


def test_rows_know_their_place(tmp_path: Path) -> None:
    assert [row.origin for row in stream_rows(put(tmp_path / "a.json", '[{"a": 1}, {"a": 2}]'))] == [
        "a.json:1",
        "a.json:2",
    ]
    assert [row.origin for row in stream_rows(put(tmp_path / "a.csv", "a\n1\n\n2\n"))] == ["a.csv:2", "a.csv:4"]


def test_a_row_that_is_no_record_costs_itself_alone(tmp_path: Path) -> None:
    first, bad, last = stream_rows(put(tmp_path / "a.json", '[{"a": 1}, 7, {"a": 2}]'))
    assert (first.text("a"), last.text("a")) == ("1", "2")
    with pytest.raises(DataError, match=r"a\.json:2: expected a record, .* got 7"):
        bad.text("a")
    lines = stream_rows(put(tmp_path / "a.jsonl", '{"a": 1}\n{"a": \n{"a": 2}\n'))
    assert [row.problem is None for row in lines] == [True, False, True]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b'[{"a": 1}, {"a": ', "record 2: not JSON"),
        ("a.json", b'[{"a": 1}', "cut off"),
        ("a.json", b'{"x": {"a": 1}, "y"', "not JSON"),
        ("a.json", b"7", "expected a list of records"),
        ("a.json", b"", "found 'nothing'"),
        ("a.csv", b"a\n\xff\n", "not utf-8 text"),
        ("a.json.gz", b"no gzip", "can't be read"),
        ("a.xml", b"<a/>", "expected a .json"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(stream_rows(tmp_path / name))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        list(stream_rows(tmp_path / "gone.json"))
