"""Annotation files: every format, and every way in which one is malformed, with its place."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from videollama2.data.annotations import (
    Row,
    first_existing,
    keyed_rows,
    literal,
    media,
    read_json,
    rows,
)
from videollama2.data.streams import stream_rows
from videollama2.errors import DataError

RECORDS = [{"id": 1, "question": "What?"}, {"id": 2, "question": "Where?"}]


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".xlsx", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"questions{suffix}"
    if suffix == ".json":
        put(path, json.dumps(RECORDS))
    elif suffix == ".jsonl":
        put(path, "\n".join(map(json.dumps, RECORDS)) + "\n\n")
    elif suffix in (".csv", ".tsv"):
        d = "," if suffix == ".csv" else "\t"
        put(
            path,
            "\ufeff" + "".join(f"{d.join(map(str, r))}\r\n" for r in [("id", "question"), (1, "What?"), (2, "Where?")]),
        )
    elif suffix == ".xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for cells in [("id", "question"), (1, "What?"), (2, "Where?"), (None, None)]:
            book.active.append(cells)
        book.save(path)
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
    found = rows(path)
    assert [(row.number("id"), row.text("id"), row.text("question")) for row in found] == [
        (1, "1", "What?"),
        (2, "2", "Where?"),
    ]
    second = {".csv": 3, ".tsv": 3, ".xlsx": 3}.get(suffix, 2)
    assert found[1].origin == f"{path.name}:{second}"


def test_quirks_of_published_files(tmp_path: Path) -> None:
    listed = put(tmp_path / "te.json", '{"data": [{"wav": "a.wav",}, {"wav": "b,}.wav"},],}')
    assert [row.text("wav") for row in rows(listed, key="data")] == ["a.wav", "b,}.wav"]
    lines = put(tmp_path / "output.json", '{"a": "1"}\n{"a": "2"}\n')
    assert [(row.text("a"), row.origin) for row in rows(lines)] == [("1", "output.json:1"), ("2", "output.json:2")]
    bare = put(tmp_path / "vgg.csv", 'abc,30,"dog barking, growling",test\n')
    assert rows(bare, columns=("id", "start", "label", "split"))[0].text("label") == "dog barking, growling"
    meta = put(tmp_path / "meta.txt", "audio/a.wav\tcafe/restaurant\n")
    assert rows(meta, columns=("file", "label"))[0].text("label") == "cafe/restaurant"
    old = put(tmp_path / "clotho.csv", "file_name,answer\ncafé.wav,yes\n", "latin1")
    assert rows(old, encoding="latin1")[0].text("file_name") == "café.wav"
    assert next(stream_rows(old, encoding="latin1")).text("file_name") == "café.wav"
    again = put(tmp_path / "again.csv", "file_name,answer\ncafé.wav,yes\n", "utf-8")
    assert rows(again, encoding="latin1")[0].text("file_name") == "café.wav"
    assert next(stream_rows(again, encoding="latin1")).text("file_name") == "café.wav"
    keyed = put(tmp_path / "by_id.json", '{"v1": {"a": 1}, "v2": {"a": 2}}')
    assert [(key, row.number("a"), row.origin) for key, row in keyed_rows(keyed)] == [
        ("v1", 1, "by_id.json:v1"),
        ("v2", 2, "by_id.json:v2"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '[{"a": 1},\n {"a" 2}]', "line 2, column 7"),
        ("a.json", "", "a.json is empty; download it again."),
        ("a.csv", "\n \n", "a.csv is empty; download it again."),
        (
            "a.json",
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
            "is a pointer of Git LFS, not the file",
        ),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "run `git lfs pull`"),
        ("a.json", "<!DOCTYPE html>\n<html>Not found</html>", "is a web page, not the file"),
        ("a.tsv", "PK\x03\x04\x14", "is a zip archive; unpack it."),
        ("a.json", '{"a": 1}', "expected a list of records"),
        ("a.json", "[1]", "a.json:1: expected a record, {…}, got 1"),
        ("a.json", "[" * 100_000, "can't be read as JSON"),
        ("a.jsonl", "[2]\n", "a.jsonl:1: expected a record, {…}, got [2]"),
        ("a.csv", "a,b\n1\n", "a.csv:2: expected 2 cells (a, b), got 1"),
        ("a.csv", 'a,b\n1,"2\n', "not a table"),
        ("a.csv", "a,b\n\xff,2\n", "line 2: not UTF-8"),
        ("a.csv", "a,b,a\n1,2,3\n", "line 1: expected unique column names, got a twice"),
        ("a.parquet", "PAR0", "unreadable Parquet"),
        ("a.xlsx", "PK", "the sheet can't be read"),
        ("a.yaml", "a: 1", "expected a .json, .jsonl, .csv, .tsv, .txt, .xlsx or .parquet file"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = put(tmp_path / name, text, "latin1")
    with pytest.raises(DataError, match=name) as caught:
        rows(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n{"a": 3}\n', "a.jsonl:2: not a record: column"),
        ("a.jsonl", '{"a": 1}\n[2]\n{"a": 3}\n', "a.jsonl:2: expected a record, {…}, got [2]"),
        ("a.json", '{"a": 1}\n{"a": \n{"a": 3}\n', "a.json:2: not a record"),
        ("a.json", '[{"a": 1}, null, {"a": 3}]', "a.json:2: expected a record, {…}, got None"),
        ("a.csv", "a,b\n1,2\n3\n3,4\n", "a.csv:3: expected 2 cells (a, b), got 1"),
        ("a.csv", "a,b\n1,2\n3,4,5\n3,4\n", "a.csv:3: expected 2 cells (a, b), got 3"),
    ],
)
def test_one_odd_record_costs_no_other(tmp_path: Path, name: str, text: str, said: str) -> None:
    first, odd, last = rows(put(tmp_path / name, text))
    assert (first.text("a"), last.text("a")) == ("1", "3")
    for access in (lambda: odd.text("a"), lambda: odd.has("a"), lambda: odd.rows("a")):
        with pytest.raises(DataError) as caught:
            access()
        assert said in str(caught.value)


def test_a_damaged_sheet_is_told_in_one_line(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path, book, pick = tmp_path / "a.xlsx", openpyxl.Workbook(), random.Random(0)
    for i in range(40):
        book.active.append([i, f"question {i}"])
    book.save(path)
    whole, told = path.read_bytes(), 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[pick.randrange(len(damaged))] = pick.randrange(256)
        path.write_bytes(damaged)
        try:
            rows(path)
        except DataError as error:
            told += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert told > 40


def test_parquet_that_is_damaged_or_has_a_column_twice(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 2, names=["q", "q"]), path)
    with pytest.raises(DataError, match="two columns have the same name"):
        rows(path)
    parquet.write_table(pyarrow.table({"q": ["question"]}), path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(b"question", b"questi\xff\xff"))
    with pytest.raises(DataError, match="unreadable Parquet"):
        rows(path)
    path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    with pytest.raises(DataError) as caught:
        rows(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"b.json: expected the key 'data'; it has rows"):
        rows(put(tmp_path / "b.json", '{"rows": []}'), key="data")
    with pytest.raises(DataError, match="expected an object"):
        keyed_rows(put(tmp_path / "c.json", "[]"))
    with pytest.raises(DataError, match=r"c.json: expected each key once, got v1 twice"):
        keyed_rows(put(tmp_path / "c.json", '{"v1": {"a": 1, "a": {}}, "v2": {}, "v1": {"a": 3}}'))
    assert keyed_rows(put(tmp_path / "c.json", '{"v1": {"a": 1, "a": 2}}'))[0][1].number("a") == 2
    with pytest.raises(DataError, match=r"c.json:v1: expected a record, {…}, got 3"):
        keyed_rows(put(tmp_path / "c.json", '{"v1": 3}'))


@pytest.mark.parametrize(
    ("read", "value", "want"),
    [
        ("text", "x", "x"),
        ("text", 7, "7"),
        ("text", 7.0, "7"),
        ("text", True, "expected text"),
        ("text", ["x"], "expected text"),
        ("text", "  ", "expected 'k' with a value"),
        ("text", None, "expected 'k' with a value"),
        ("text", math.nan, "expected 'k' with a value"),
        ("text", math.inf, "expected text"),
        ("number", "7", 7),
        ("number", 7.5, "expected a whole number"),
        ("number", True, "expected a whole number"),
        ("number", "9" * 5000, "expected a whole number"),
        ("seconds", "1.5", 1.5),
        ("seconds", -1, "expected seconds"),
        ("seconds", "nan", "expected seconds"),
        ("texts", ["a", 2], ("a", "2")),
        ("texts", '["a", "b"]', ("a", "b")),
        ("texts", "['a', \"it's\"]", ("a", "it's")),
        ("texts", [], "expected a list of texts"),
        ("texts", ["a", None], "expected a list of texts"),
        ("texts", ["a", math.nan], "expected a list of texts"),
        ("texts", "__import__('os').getcwd()", "expected a list of texts"),
        ("texts", "[" * 9000, "expected a list of texts"),
    ],
)
def test_fields_are_read_strictly(read: str, value: Any, want: Any) -> None:
    row = Row({"k": value, "other": 1}, "q.json:4")
    if isinstance(want, str) and want.startswith("expected"):
        with pytest.raises(DataError, match=r"q\.json:4") as caught:
            getattr(row, read)("k")
        assert want in str(caught.value)
    else:
        assert getattr(row, read)("k") == want


def test_a_missing_field_says_what_is_there() -> None:
    with pytest.raises(DataError, match=r"q.json:1: expected 'answer' or 'anser'; the record has id, question"):
        Row({"question": "?", "id": 1}, "q.json:1").text("answer", "anser")
    inner = Row({"questions": [{"a": "x"}, {"a": "y"}]}, "q.json:3").rows("questions")
    assert [row.origin for row in inner] == ["q.json:3, questions:1", "q.json:3, questions:2"]


def test_literals_are_never_run() -> None:
    assert literal("['Audio', 'Counting']") == ["Audio", "Counting"]
    assert literal("open('x')") is None
    assert literal("[1]" + " " * 20_000) is None


def test_the_first_existing_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    put(tmp_path / "deep" / "qa.json", "[]")
    assert first_existing(tmp_path, "qa.json", "*/qa.json") == tmp_path / "deep" / "qa.json"
    put(tmp_path / "qa.json", "[]")
    assert first_existing(tmp_path, "**/qa.json") == tmp_path / "qa.json"
    with pytest.raises(DataError, match=r"expected x.json or y.json; it holds deep/, qa.json"):
        first_existing(tmp_path, "x.json", "y.json")
    with pytest.raises(DataError, match="is not a folder"):
        first_existing(tmp_path / "none", "x.json")


def test_media_stay_inside_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "videos").mkdir(parents=True)
    put(root / "videos" / "a b.avi", "")
    put(tmp_path / "secret.mp4", "")
    assert media(root, ["videos/a b.mp4", "videos/a b.avi"]) == (root / "videos" / "a b.avi", None)
    assert media(root, [str(root / "videos" / "a b.avi")])[0] is not None
    assert media(root, ["videos/c.mp4", "c.mp4"]) == (None, "videos/c.mp4 not found (nor c.mp4)")
    assert (
        media(root, ["a.mp4", "b.mp4", "a.mp4", "c.mp4"])[1] == "a.mp4 not found (nor b.mp4 and 1 other names for it)"
    )
    for name in ("../secret.mp4", str(tmp_path / "secret.mp4"), "videos/../../secret.mp4", "C:\\secret.mp4", "a\0.mp4"):
        path, why = media(root, [name])
        assert path is None and why is not None and "leads out of" in why
    assert media(root, ["x" * 5000])[0] is None
    assert media(root, []) == (None, "the record names no media file")


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({"data": [{"a": 1}, {"a": 2}]}, [1, 2]),
        ({"version": "1.0", "info": {"year": 2024}, "questions": [{"a": 1}, {"a": 2}]}, [1, 2]),
        ({"x1": {"a": 1}, "x2": {"a": 2}}, [1, 2]),
    ],
)
def test_objects_around_records(tmp_path: Path, held: Any, found: list[int]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(held))
    assert [row.get("a") for row in rows(tmp_path / "a.json")] == found


def test_an_object_that_is_no_list_of_records(tmp_path: Path) -> None:
    """A video with its questions is one record, not a file around them."""
    (tmp_path / "a.json").write_text(json.dumps({"video_id": "x", "questions": [{"a": 1}]}))
    with pytest.raises(DataError, match="expected a list of records"):
        rows(tmp_path / "a.json")


@pytest.mark.parametrize(
    "held",
    [["A. one", "B. two"], "['A. one', 'B. two']", "A. one\nB. two\n", "A. one\r\nB. two"],
)
def test_options_in_several_forms(held: Any) -> None:
    assert Row({"options": held}, "a:1").texts("options") == ("A. one", "B. two")


def test_options_by_their_letters() -> None:
    assert Row({"options": {"A": "one", "B": 2}}, "a:1").texts("options") == ("one", "2")
    for odd in ({"A": "one", "C": "two"}, {"B": "one", "A": "two"}, {"one": "A"}, "A. one", "A. one\nC. two", {}):
        with pytest.raises(DataError):
            Row({"options": odd}, "a:1").texts("options")
