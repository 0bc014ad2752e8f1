"""Copies of benchmarks in the layouts of lmms-eval and VLMEvalKit give the items of the authors' files."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videollama2.data.annotations import rows
from videollama2.errors import DataError
from videollama2.evals.items import Loaded
from videollama2.evals.registry import benchmark

OPTIONS = ["one", "two", "three", "four", "five"]
LETTERED = [f"{letter}. {option}" for letter, option in zip("ABCDE", OPTIONS, strict=True)]


def parquet(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(records)), path)


def tsv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """As pandas writes one: lists as text, None as nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(records[0]), delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(records)


def plain(path: Path, held: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held), encoding="utf-8")


def loaded(name: str, folder: Path) -> Loaded:
    found = benchmark(name).load(folder, "strict")
    assert all(item.malformed is None for item in found.items)
    return found


def same(name: str, authors: Path, copy: Path) -> Loaded:
    """Loads both, and compares what is asked, expected and counted."""
    ours, theirs = loaded(name, authors), loaded(name, copy)
    for one, other in zip(ours.items, theirs.items, strict=True):
        assert (one.question, one.truth, one.choices) == (other.question, other.truth, other.choices)
        assert one.categories == other.categories and one.media == other.media
    return theirs


def test_egoschema_of_lmms_eval(tmp_path: Path) -> None:
    ids = ["aaaa", "bbbb", "cccc"]
    questions = [
        {"q_uid": uid, "question": f"What is c doing in {uid}?"} | {f"option {i}": o for i, o in enumerate(OPTIONS)}
        for uid in ids
    ]
    plain(tmp_path / "a/questions.json", questions)
    plain(tmp_path / "a/subset_answers.json", {"bbbb": 3, "cccc": 0})
    copied = [
        {"question_idx": str(i), "question": q["question"], "video_idx": q["q_uid"], "option": LETTERED}
        for i, q in enumerate(questions)
    ]
    parquet(tmp_path / "b/MC/test-00000-of-00001.parquet", copied)
    parquet(tmp_path / "b/GENERATION/test-00000-of-00001.parquet", [{**c, "option": None} for c in copied])
    answered = [{**c, "answer": answer} for c, answer in zip(copied[1:], ("3", "0"), strict=True)]
    parquet(tmp_path / "b/Subset/test-00000-of-00001.parquet", answered)
    same("egoschema-subset", tmp_path / "a", tmp_path / "b")
    (tmp_path / "a/subset_answers.json").unlink()
    assert [item.id for item in same("egoschema", tmp_path / "a", tmp_path / "b").items] == ids


def test_an_answer_of_egoschemas_copy_that_is_no_index_is_one_odd_record(tmp_path: Path) -> None:
    record = {"question_idx": "0", "question": "What?", "video_idx": "aaaa", "option": LETTERED, "answer": "3"}
    parquet(tmp_path / "Subset/test-00000-of-00001.parquet", [record, {**record, "video_idx": "bbbb", "answer": "9"}])
    items = benchmark("egoschema-subset").load(tmp_path, "strict").items
    assert items[0].truth == ("D",) and "from 0 to 4" in str(items[1].malformed)


@pytest.mark.parametrize(
    ("name", "split", "copy"),
    [("perception-test-valid", "valid", "mc_question_val/validation"), ("perception-test", "test", "mc_question/test")],
)
def test_perception_test_of_lmms_eval(tmp_path: Path, name: str, split: str, copy: str) -> None:
    questions = [
        {"id": i, "question": f"What falls {i}?", "options": ["cup", "book", "pen"], "answer_id": i, "area": "Physics",
         "reasoning": "Descriptive", "tag": ["collision"]}
        for i in range(3)
    ]  # fmt: skip
    videos = {f"video_{n}": {"metadata": {"video_id": f"video_{n}"}, "mc_question": questions[: n + 1]} for n in (0, 2)}
    plain(tmp_path / f"a/mc_question_{split}.json", videos)
    copied = [
        {"video_name": video, "question_id": str(q["id"]), "answer_id": str(q["answer_id"])}
        | {key: q[key] for key in ("question", "options", "area", "reasoning", "tag")}
        for video, about in videos.items()
        for q in about["mc_question"]
    ]
    parquet(tmp_path / f"b/{copy}-00000-of-00001.parquet", copied)
    assert [item.id for item in same(name, tmp_path / "a", tmp_path / "b").items][:2] == ["video_0/0", "video_2/0"]


def test_mvbench_of_vlmevalkit(tmp_path: Path) -> None:
    records = [
        {
            "video": "a b.mp4",
            "question": 'He said "go"?',
            "candidates": ["It's yes.", "No, not."],
            "answer": "No, not.",
        },
        {"video": "c.mp4", "question": "And then?", "candidates": ["Yes.", "No."], "answer": "No."},
    ]
    bounded = [{**each, "start": 1.5, "end": 4.0} for each in records]
    tasks = {"action_sequence": bounded, "fine_grained_pose": records}
    for task, own in tasks.items():
        plain(tmp_path / f"a/json/{task}.json", own)
    shown = {"action_sequence": "Action Sequence", "fine_grained_pose": "Fine-grained Pose"}
    table = [
        {"task_type": shown[task], "prefix": "elsewhere/video/", "data_type": "video", "bound": "start" in each,
         "start": each.get("start"), "end": each.get("end"), "video": each["video"], "question": each["question"],
         "answer": each["answer"], "candidates": each["candidates"], "index": i}
        for task, own in tasks.items() for i, each in enumerate(own)
    ]  # fmt: skip
    tsv(tmp_path / "b/MVBench.tsv", table)
    for place in ("a", "b"):
        (tmp_path / place / "video/star/Charades_v1_480").mkdir(parents=True)
        (tmp_path / place / "video/star/Charades_v1_480/a b.mp4").touch()
    ours, theirs = loaded("mvbench", tmp_path / "a"), loaded("mvbench", tmp_path / "b")
    assert [i.id for i in ours.items] == [i.id for i in theirs.items]
    assert [(i.question, i.truth) for i in ours.items] == [(i.question, i.truth) for i in theirs.items]
    media = theirs.items[0].media
    assert media is not None and (media.start, media.end) == (1.5, 4.0)
    tsv(tmp_path / "b/MVBench.tsv", [*table, {**table[0], "task_type": "Cooking"}])
    odd = [item.malformed for item in benchmark("mvbench").load(tmp_path / "b", "strict").items if item.malformed]
    assert len(odd) == 1 and "expected a task of MVBench, got 'Cooking'" in str(odd[0])


def test_video_mme_of_vlmevalkit(tmp_path: Path) -> None:
    question = {"question": "What?", "answer": "B", "task_type": "Counting"}
    about = {"duration": "short", "domain": "Sports", "sub_category": "Ball"}
    parquet(
        tmp_path / "a/videomme/test-00000-of-00001.parquet",
        [{"videoID": "abcdefghijk", "video_id": "001", "url": "", "question_id": "001-1", "options": LETTERED[:4]}
         | about | question],
    )  # fmt: skip
    row = {"index": 0, "video": "abcdefghijk", "video_path": "./video/abcdefghijk.mp4", "candidates": LETTERED[:4]}
    tsv(tmp_path / "b/Video-MME.tsv", [row | about | {"subtitle_path": "./subtitle/abcdefghijk.srt"} | question])
    (tmp_path / "b/video").mkdir()
    (tmp_path / "b/video/abcdefghijk.mp4").touch()
    theirs = loaded("video-mme", tmp_path / "b")
    ours = loaded("video-mme", tmp_path / "a")
    assert [(i.question, i.truth, i.categories) for i in theirs.items] == [
        (i.question, i.truth, i.categories) for i in ours.items
    ]
    assert theirs.items[0].missing is None and loaded("video-mme-subtitles", tmp_path / "b").items


@pytest.mark.parametrize("form", ["tsv", "parquet"])
def test_worldsense_with_a_row_per_question(tmp_path: Path, form: str) -> None:
    task = {"task_domain": "Recognition", "task_type": "Audio Counting", "question": "How many?", "answer": "C"}
    tasks = {f"task{i}": {**task, "candidates": LETTERED[: 2 + i]} for i in (1, 2)}
    about = {"duration": "<1min", "domain": "Music", "sub_category": "Covers", "audio_class": ["Speech", "Music"]}
    plain(tmp_path / "a/worldsense_qa.json", {"abcd": {**about, "video_caption": "…", **tasks}})
    table = [
        {"index": i, "video": "abcd", "video_path": "./videos/abcd.mp4", **about, **each}
        for i, each in enumerate(tasks.values())
    ]
    if form == "tsv":
        tsv(tmp_path / "b/WorldSense.tsv", table)
    else:
        parquet(tmp_path / "b/data/test-00000-of-00001.parquet", table)
    same("worldsense", tmp_path / "a", tmp_path / "b")


def test_activitynet_qa_of_lmms_eval(tmp_path: Path) -> None:
    questions = [
        {"video_name": "abcdefghijk", "question": "is he in", "question_id": f"v_abcdefghijk_{i}"} for i in range(2)
    ]
    answers = [{"answer": "yes", "type": 3, "question_id": q["question_id"]} for q in questions]
    plain(tmp_path / "a/dataset/test_q.json", questions)
    plain(tmp_path / "a/dataset/test_a.json", answers)
    rowed = [q | a | {"type": "3"} for q, a in zip(questions, answers, strict=True)]
    parquet(tmp_path / "b/data/test-00000-of-00001.parquet", rowed)
    same("activitynet-qa", tmp_path / "a", tmp_path / "b")


def test_video_chatgpt_of_lmms_eval(tmp_path: Path) -> None:
    plain(tmp_path / "a/generic_qa.json", [{"Q": "What happens?", "A": "A chef slices.", "video_name": "v_a"}])
    pairs = [
        {"Q1": "What is it?", "Q2": "And what is that?", "A": "A cat.", "video_name": "v_a"},
        {"Q1": "Who is it?", "Q2": "Who else?", "A": "A cat.", "video_name": "v_a"},
        {"Q1": "What is it?", "Q2": "And what is that?", "A": "A dog.", "video_name": "v_b"},
    ]
    plain(tmp_path / "a/consistency_qa.json", pairs)
    part = "test-00000-of-00001.parquet"
    parquet(
        tmp_path / f"b/Generic/{part}", [{"video_name": "v_a", "question": "What happens?", "answer": "A chef slices."}]
    )
    split = [
        {"video_name": p["video_name"], "question_1": p["Q1"] if first else "None", "answer": p["A"],
         "question_2": "None" if first else p["Q2"]}
        for p in pairs for first in (True, False)
    ]  # fmt: skip
    parquet(tmp_path / f"b/Consistency/{part}", split)
    ours, theirs = loaded("video-chatgpt", tmp_path / "a"), loaded("video-chatgpt", tmp_path / "b")
    assert [(i.question, i.truth) for i in ours.items] == [(i.question, i.truth) for i in theirs.items]
    places = [i.categories["pair_place"] for i in theirs.items if "pair" in i.categories]
    assert places == ["1", "2"] * 3 and len({i.categories.get("pair") for i in theirs.items}) == 1 + 3


def test_all_parts_of_a_table_are_read(tmp_path: Path) -> None:
    for i in range(3):
        parquet(tmp_path / f"test-0000{i}-of-00003.parquet", [{"n": i}])
    assert [row.number("n") for row in rows(tmp_path / "test-00001-of-00003.parquet")] == [0, 1, 2]
    (tmp_path / "test-00002-of-00003.parquet").unlink()
    with pytest.raises(DataError, match=r"expected all parts .*not found: test-00002-of-00003\.parquet\.$"):
        rows(tmp_path / "test-00000-of-00003.parquet")


def test_options_that_a_table_fills_with_nothing_are_none(tmp_path: Path) -> None:
    record = {"video ID": "v1", "Question ID": 1, "Question Type": "SR", "Question": "Who?", "Answer": "B"}
    full = {**record, "Options": dict(zip("ABCDEF", "uvwxyz", strict=True))}
    four = {**record, "Question ID": 2, "Options": dict(zip("ABCD", "uvwx", strict=True))}
    parquet(tmp_path / "test-00000-of-00001.parquet", [full, four])
    assert [len(item.choices) for item in loaded("video-holmes", tmp_path).items] == [6, 4]


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ("B.", "B"),
        ("B. book", "B"),
        ("book", "B"),
        ("C. book", None),
        ("cat", None),
        ("1", None),
    ],
)
def test_answers_as_letters_or_words(tmp_path: Path, answer: str, truth: str | None) -> None:
    record = {
        "Question": "What?",
        "Choice": ["A. cup", "B. book", "C. pen"],
        "Answer": answer,
        "video_id": "v",
        "Type": "x",
    }
    plain(tmp_path / "qa.json", [{**record, "Answer": "A"}, record])
    item = benchmark("daily-omni").load(tmp_path, "strict").items[1]
    assert item.truth == (() if truth is None else (truth,)) and (item.malformed is None) == (truth is not None)


WAV = b"RIFF\x24\0\0\0WAVEfmt "


def test_clotho_aqa_of_lmms_eval_with_its_sounds(tmp_path: Path) -> None:
    """Sounds are in the table; questions about one share its file, and loading again unpacks nothing."""
    file = tmp_path / "clotho_aqa" / "clotho_aqa_test_filtered-00000-of-00001.parquet"
    sound, other = {"bytes": WAV + b"1", "path": "rain.wav"}, {"bytes": b"fLaC2", "path": None}
    asked = [
        {"audio": sound, "question": "Is it raining?", "answer": "yes"},
        {"audio": sound, "question": "What falls?", "answer": "water"},
        {"audio": other, "question": "Who is it?", "answer": "man"},
        {"audio": {"bytes": None, "path": "gone.wav"}, "question": "Is it loud?", "answer": "no"},
    ]
    parquet(file, asked)
    found = loaded("clotho-aqa", tmp_path)
    assert [(item.question.split("\n")[0], item.truth) for item in found.items] == [
        (f"Question: {row['question']}", (row["answer"],)) for row in asked
    ]
    media = [item.media for item in found.items]
    assert media[0] == media[1] != media[2] and found.items[3].missing is not None
    files = [Path(each.source) for each in media[:3] if each is not None]
    assert files[0].read_bytes() == WAV + b"1" and files[0].suffix == ".wav"
    assert files[2].read_bytes() == b"fLaC2" and files[2].suffix == ".flac"
    assert all(each is not None and each.audio and not each.video for each in media[:3])
    written = files[0].stat().st_mtime_ns
    assert loaded("clotho-aqa", tmp_path) == found and files[0].stat().st_mtime_ns == written
    parquet(file, [{**asked[0], "audio": {"bytes": WAV + b"changed", "path": "rain.wav"}}])
    (item,) = loaded("clotho-aqa", tmp_path).items
    assert item.media is not None and Path(item.media.source).read_bytes() == WAV + b"changed"
    assert not files[2].exists()


def test_vocalsound_of_lmms_eval_with_its_sounds(tmp_path: Path) -> None:
    rows = [("f0003", "Throat clearing", 1), ("m0004", "Cough", 3)]
    for part, (speaker, answer, age) in enumerate(rows):
        parquet(
            tmp_path / "data" / f"test-{part:05}-of-00002.parquet",
            [{"audio": {"bytes": WAV + bytes([part]), "path": None}, "spk_id": speaker, "answer": answer,
              "age_group": age}],
        )  # fmt: skip
    found = loaded("vocalsound", tmp_path)
    assert [(item.id, item.truth, dict(item.categories)) for item in found.items] == [
        ("1/f0003", ("Throat clearing",), {"sound": "Throat clearing", "sex": "female", "age": "18-25"}),
        ("2/m0004", ("Cough",), {"sound": "Cough", "sex": "male", "age": "49-80"}),
    ]
    assert [Path(item.media.source).read_bytes() for item in found.items if item.media] == [WAV + b"\0", WAV + b"\1"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "data" / "test-00000-of-00001.parquet"
    parquet(file, [{"audio": {"bytes": WAV, "path": None}, "spk_id": "f1", "answer": "Cough"}])
    (tmp_path / "data" / f"{file.name}.media").mkdir()
    (tmp_path / "data" / f"{file.name}.media" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"exists, but was not unpacked from test-00000-of-00001.parquet"):
        loaded("vocalsound", tmp_path)
