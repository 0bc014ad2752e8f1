"""The evaluation of nano on recordings: its list, what is right, its table."""

import json
from pathlib import Path

import card
import evaluate_sounds
import numpy as np
import pytest
from evaluate_sounds import Recording, check, find, make, recordings, right, table, wrong
from waves import decode

FIRST = "group,kind,words,recordings\n"


def record(group: str, kind: str, right: bool, reply: str = "A drum.") -> dict[str, object]:
    return {"group": group, "kind": kind, "recording": "a: b", "reply": reply, "right": right}


def test_the_list_has_the_three_groups_and_nothing_that_training_uses() -> None:
    listed = recordings()
    kinds = {group: {r.kind for r in listed if r.group == group} for group in ("animals", "kinds", "told apart")}
    assert len(kinds["animals"]) == sum(r.group == "animals" for r in listed) == 10 and len(kinds["kinds"]) >= 50
    assert all(sum(r.kind == kind for r in listed) >= 5 for kind in kinds["told apart"])
    assert all(1 <= sum(r.kind == kind for r in listed) <= 4 for kind in kinds["kinds"])
    assert len({r.name for r in listed}) == len(listed) and all(r.path and all(r.words) for r in listed)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("scratch: Animal/Dog1.wav", "pet", "this file as 'a dog'"),
        ("sonic-pi-samples: samples/drum_roll.flac", "roll", "this file as 'drums'"),
        ("scratch: Animal/Other.wav", "hound | dog", "'a dog' from this package"),
        ("hydrogen-drumkits: bell.flac", "bell", "uses this package"),
    ],
)
def test_a_recording_of_training_is_rejected(name: str, words: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"{FIRST}kinds,a thing,{words},{name}\n")
    with pytest.raises(SystemExit, match=message):
        recordings(tmp_path / "list.csv")
    check(Recording("kinds", "an owl", ("owl",), "scratch", "Animal/Owl.wav"))


def test_rows_are_read_and_files_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"{FIRST}kinds,a river,water | stream,one: a/b c.wav | two: d.ogg\n")
    first, second = recordings(tmp_path / "list.csv")
    assert first == Recording("kinds", "a river", ("water", "stream"), "one", "a/b c.wav")
    assert second.name == "two: d.ogg"
    inside = tmp_path / "deb" / "one" / "usr" / "share" / "a"
    inside.mkdir(parents=True)
    (inside / "b c.wav").touch()
    assert find(tmp_path, first) == inside / "b c.wav"
    with pytest.raises(SystemExit, match=r"0 files d\.ogg"):
        find(tmp_path, second)


def test_a_word_is_enough_except_for_what_is_told_apart() -> None:
    speech = Recording("told apart", "speech", ("speech",), "one", "a.wav")
    crowd = Recording("told apart", "a crowd", ("crowd", "cheering"), "one", "b.wav")
    river = Recording("kinds", "a river", ("stream", "crowd"), "one", "c.wav")
    listed = [speech, crowd, river]
    assert right(crowd, "Cheering.", listed) and right(river, "Two streams, then speech.", listed)
    assert not right(crowd, "Speech, then a crowd.", listed) and not right(crowd, "A crowd, then speech.", listed)
    assert right(crowd, "A crowd, then a voice.", listed) and not right(crowd, "A car, then a crowd.", listed)


def test_silence_and_faint_noise_are_made(tmp_path: Path) -> None:
    assert decode(make("silence 2 s", tmp_path / "made.wav")).size == 0
    noise = decode(make("noise -60 dB 5 s", tmp_path / "made.wav"))
    assert noise.size == pytest.approx(5 * evaluate_sounds.RATE, rel=0.01)
    assert 20 * np.log10(np.sqrt((noise**2).mean())) == pytest.approx(-60, abs=0.5)


def test_the_mean_is_over_kinds() -> None:
    records = [
        *(record("animals", "cat", True), record("animals", "dog", False, "A cat.")),
        *(record("kinds", "rain", True), record("kinds", "wind", False), record("kinds", "wind", False, "A bee.")),
        *(record("told apart", "speech", True), record("told apart", "a crowd", False)),
    ]
    lines = table(records).splitlines()[2:]
    assert [line.split("|")[2].partition("(")[0].strip() for line in lines] == [
        "1 of 2", "50.0 %", "1 of 3", "1 of 2", "1 of 1", "0 of 1",
    ]  # fmt: skip
    assert "2 kinds" in lines[1] and "speech, a crowd" in lines[3] and "a crowd" in lines[5]
    assert wrong(records).splitlines()[:2] == ["dog: A cat.", "wind: A drum. A bee."]
    assert len(table(records[:2]).splitlines()) == 3


def test_the_card_and_the_status_get_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = "<!-- sounds: written by recipes/nano/card.py -->\nold\n<!-- /sounds -->\nrest\n"
    pages = [tmp_path / name for name in ("card.md", "status.md")]
    pages[0].write_text(f"<!-- files: written by recipes/nano/card.py -->\n<!-- /files -->\n{marks}")
    pages[1].write_text(marks)
    records = [record("animals", "cat", True), record("animals", "dog", False)]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    monkeypatch.setattr(card, "CARD", pages[0])
    monkeypatch.setattr(card, "STATUS", pages[1])
    monkeypatch.setattr("sys.argv", ["card.py", "write", "--sounds", str(tmp_path / "records.jsonl")])
    card.main()
    for page in pages:
        assert table(records) in page.read_text() and "old" not in page.read_text() and "rest" in page.read_text()
