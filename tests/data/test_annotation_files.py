"""Files of a data set are found where its authors put them, deeper inside, or under another name by their fields."""

import json
from pathlib import Path

import pytest

from videollama2.data.annotation_files import DataFolder
from videollama2.errors import DataError

KEYS = ("question", "answer")


def put(path: Path, held: object = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(held if isinstance(held, str) else json.dumps(held), encoding="utf-8")
    return path


RECORDS = [{"question": "Why?", "answer": "yes"}]


def test_the_published_place_comes_first(tmp_path: Path) -> None:
    put(tmp_path / "deep" / "json" / "qa.json", RECORDS)
    assert DataFolder(tmp_path).file("json/qa.json", keys=KEYS) == tmp_path / "deep" / "json" / "qa.json"
    put(tmp_path / "json" / "qa.json", RECORDS)
    assert DataFolder(tmp_path).file("json/qa.json", keys=KEYS) == tmp_path / "json" / "qa.json"
    assert DataFolder(tmp_path).optional("other.json") is None


def test_a_file_of_that_name_without_the_fields_is_not_it(tmp_path: Path) -> None:
    put(tmp_path / "qa.json", [{"text": "?"}])
    put(tmp_path / "release" / "qa.json", RECORDS)
    assert DataFolder(tmp_path).file("qa.json", keys=KEYS).parent.name == "release"
    (tmp_path / "release" / "qa.json").unlink()
    assert DataFolder(tmp_path).file("qa.json", keys=KEYS) == tmp_path / "qa.json", "its own error says what is wrong"


@pytest.mark.parametrize("name", ["renamed.json", "v2/renamed.jsonl", "table.csv", "table.tsv"])
def test_a_renamed_file_is_found_by_its_fields(tmp_path: Path, name: str) -> None:
    text = {".csv": "question,answer\na,b\n", ".tsv": "question\tanswer\na\tb\n"}.get(Path(name).suffix)
    put(tmp_path / name, text or RECORDS)
    put(tmp_path / "unrelated.json", {"question": 1})
    assert DataFolder(tmp_path).file("qa.json", keys=KEYS) == tmp_path / name


def test_another_split_never_takes_its_place(tmp_path: Path) -> None:
    put(tmp_path / "qa_train.json", RECORDS)
    put(tmp_path / "val-qa.json", RECORDS)
    with pytest.raises(DataError, match=r"expected qa_test.json; it holds qa_train.json, val-qa.json\."):
        DataFolder(tmp_path).file("qa_test.json", keys=KEYS)
    assert DataFolder(tmp_path).file("val-qa.json", keys=KEYS).name == "val-qa.json"


def test_several_candidates_are_named(tmp_path: Path) -> None:
    put(tmp_path / "one.json", RECORDS)
    put(tmp_path / "two.json", RECORDS)
    with pytest.raises(DataError, match=r"several files have its fields: one.json, two.json\."):
        DataFolder(tmp_path).file("qa.json", keys=KEYS)


def test_a_parquet_file_is_known_by_its_columns(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"question": ["x"], "answer": ["y"]}), tmp_path / "b.parquet")
    assert DataFolder(tmp_path).file("test-*.parquet", keys=KEYS).name == "b.parquet"


def test_media_are_found_in_their_folders_or_by_name(tmp_path: Path) -> None:
    put(tmp_path / "videos" / "a.mp4", "")
    put(tmp_path / "unpacked" / "chunk_1" / "b.mkv", "")
    for place in ("one", "two"):
        put(tmp_path / place / "c.mp4", "")
    finder = DataFolder(tmp_path).media("videos", "")
    assert finder.find("a") == (tmp_path / "videos" / "a.mp4", None)
    assert finder.find("b") == (tmp_path / "unpacked" / "chunk_1" / "b.mkv", None)
    assert finder.find("two/c") == (tmp_path / "two" / "c.mp4", None)
    assert finder.find("c") == (None, "videos/c.mp4 not found; its name stands for several files: one/c.mp4, two/c.mp4")
    assert finder.find("d") == (None, "videos/d.mp4 not found (nor with another suffix, nor anywhere in the folder)")
    strict = DataFolder(tmp_path).media("videos", "", anywhere=False)
    assert strict.find("b") == (None, "videos/b.mp4 not found (nor with another suffix, nor in .)")
    path, why = finder.find("../secret")
    assert path is None and why is not None and "leads out of" in why


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    put(tmp_path / "data" / "videos" / "a.mp4", "")
    put(tmp_path / "disk" / "b.mp4", "")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "data" / "videos" / "again").symlink_to(tmp_path / "data")
    finder = DataFolder(tmp_path / "data").media("videos")
    assert finder.find("b") == (tmp_path / "data" / "linked" / "b.mp4", None)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none is not a folder; expected a folder with qa.json\."):
        DataFolder(tmp_path / "none").file("qa.json")


def test_archives_are_named(tmp_path: Path) -> None:
    (tmp_path / "Videos.tar").touch()
    with pytest.raises(DataError, match=r"expected qa\.json; it holds Videos\.tar\. Unpack Videos\.tar\.$"):
        DataFolder(tmp_path).file("qa.json")
