"""Benchmarks with choices, yes and no: from the official files to exact scores, in both settings."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from videollama2.errors import DataError
from videollama2.evals.benchmarks.mvbench import BOUNDED, TASKS
from videollama2.evals.benchmarks.video_mme import VideoMme
from videollama2.evals.frame_subtitles import moments
from videollama2.evals.items import Item, Setting
from videollama2.evals.registry import benchmark
from videollama2.evals.run import Run, evaluate
from videollama2.media import open_clip
from videollama2.subtitles import read_subtitles

from . import choice_miniatures as mini
from .fake import FakeEngine, Reply

R, W, U, F = "right", "wrong", "unparsable", "failed"
BROKEN = RuntimeError("out of luck")


@dataclass(frozen=True)
class Case:
    """A miniature, what the model replies to it, and what must come of it."""

    name: str
    make: Callable[[Path, mini.Media], None]
    replies: Mapping[str, Reply]
    strict: tuple[str, ...]
    paper: tuple[str, ...]
    figures: Mapping[str, tuple[float, float]]  # strict, paper
    otherwise: str = ""
    columns: frozenset[str] = field(default_factory=frozenset)


CASES = [
    Case(
        "egoschema",
        mini.egoschema,
        {"n0?": "B", "n1?": "(A)", "n2?": "Based on it", "n3?": BROKEN, "n5?": "D."},
        (R, W, U, F, F, W),
        (R, W, R, F, F, W),
        {"accuracy": (1 / 5, 2 / 5)},
    ),
    Case(
        "egoschema-subset",
        mini.egoschema,
        {"n0?": "B", "n1?": "(A)", "n2?": "", "n3?": BROKEN},
        (R, W, U, F, F),
        (R, W, W, F, F),
        {"accuracy": (1 / 5, 1 / 5)},
    ),
    Case(
        "perception-test-valid",
        mini.perception_test,
        {"n0?": "(B)", "n1?": "pen", "n2?": "Based on it", "n3?": "???", "n4?": BROKEN},
        (R, W, U, U, F),
        (R, W, R, W, F),
        {"accuracy": (1 / 5, 2 / 5)},
        columns=frozenset(["area", "reasoning"]),
    ),
    Case(
        "mvbench",
        mini.mvbench,
        {
            "action_sequence?": "A",
            "action_count?": "reading",
            "object_shuffle?": "I see a man",
            "scene_transition?": "Based on it",
            "moving_count?": "",
            "state_change?": BROKEN,
        },
        (W, R, R, R, R, R, R, U, R, R, U, R, U, R, F, F, R, R, R, R),
        (W, R, R, R, R, R, R, W, R, R, R, R, W, R, F, F, R, R, R, R),
        {"accuracy": (14 / 20, 15 / 20)},
        otherwise="(B)",
        columns=frozenset(["task"]),
    ),
    Case(
        "video-mme",
        mini.video_mme,
        {"n11?": "B.", "n12?": "Reading", "n21?": "Based on it", "n22?": "dunno"},
        (R, R, U, U, F, F),
        (R, R, R, W, F, F),
        {"accuracy": (2 / 6, 3 / 6), "accuracy_of_answered": (2 / 4, 3 / 4)},
        columns=frozenset(["duration", "domain", "sub_category", "task"]),
    ),
    Case(
        "daily-omni",
        mini.daily_omni,
        {"n0?": "B", "n1?": "(B)", "n2?": "because", "n4?": "A"},
        (R, R, U, F, W),
        (R, U, R, F, W),
        {"accuracy": (2 / 5, 2 / 5), "accuracy_of_answered": (2 / 4, 2 / 4)},
        columns=frozenset(["type", "duration", "category"]),
    ),
    Case(
        "worldsense",
        mini.worldsense,
        {"First?": "B", "Second?": "it is d", "Third?": BROKEN, "Fourth?": "Blue"},
        (R, U, F, U),
        (R, U, F, R),
        {"accuracy": (1 / 4, 2 / 4)},
        columns=frozenset(["duration", "domain", "sub_category", "task_domain", "task", "sounds"]),
    ),
    Case(
        "avqa",
        mini.avqa,
        {"n0?": "(B)", "n1?": "typing", "n2?": "null", "n3?": BROKEN},
        (R, W, U, F),
        (R, W, U, F),
        {"accuracy": (1 / 4, 1 / 4)},
        columns=frozenset(["type", "relation"]),
    ),
    Case(
        "avhbench",
        mini.avhbench,
        {"n0?": "Yes", "n1?": "Yes.", "n2?": "no", "n3?": "No, nothing", "n4?": "hm", "n5?": BROKEN},
        (R, W, W, R, U, F),
        (R, W, W, R, U, F),
        {
            "accuracy": (2 / 6, 2 / 6),
            "precision": (1 / 2, 1 / 2),
            "recall": (1 / 3, 1 / 3),
            "f1": (0.4, 0.4),
            "yes_share": (2 / 6, 2 / 6),
        },
        columns=frozenset(["task"]),
    ),
    Case(
        "cmm",
        mini.cmm,
        {"n0?": "Yes", "n1?": "I know", "n2?": "no", "n3?": "No.", "n4?": BROKEN, "n5?": "yes"},
        (R, U, W, R, F, W),
        (R, R, W, R, F, W),
        {
            "accuracy": (2 / 6, 3 / 6),
            "perception_accuracy": (1 / 3, 1 / 3),
            "hallucination_resistance": (1 / 3, 2 / 3),
        },
        columns=frozenset(["category", "sub_category", "granularity"]),
    ),
    Case(
        "avut",
        mini.avut,
        {"n0?": "(B)", "n1?": "typing", "n2?": "hm"},
        (R, W, U, F),
        (R, W, U, F),
        {"accuracy": (1 / 4, 1 / 4)},
        columns=frozenset(["task", "video"]),
    ),
    Case(
        "video-holmes",
        mini.video_holmes,
        {"n0?": "<think>A or C?</think><answer>B</answer>", "n1?": "F.", "n2?": "Because", "n3?": BROKEN},
        (R, W, U, F),
        (R, W, R, F),
        {"accuracy": (1 / 4, 2 / 4)},
        columns=frozenset(["type"]),
    ),
    Case(
        "future-omni",
        mini.future_omni,
        {"n0?": "B", "n1?": "E. nothing", "n2?": "hm"},
        (R, W, U, F),
        (R, W, U, F),
        {"accuracy": (1 / 4, 1 / 4)},
        columns=frozenset(["audio", "domain", "pattern"]),
    ),
    Case(
        "lvomnibench",
        mini.lvomnibench,
        {"n0?": "B", "n1?": "It is a book"},
        (R, U, F, F),
        (R, W, F, F),
        {"accuracy": (1 / 4, 1 / 4), "accuracy_of_answered": (1 / 2, 1 / 2)},
        columns=frozenset(["type", "audio", "difficulty", "category"]),
    ),
]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> mini.Media:
    return mini.Media(tmp_path_factory.mktemp("media"))


def run(case: Case, folder: Path, out: Path, setting: Setting) -> Run:
    engine = FakeEngine(case.replies, otherwise=case.otherwise)
    return evaluate(engine, benchmark(case.name), folder, out, setting=setting)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_scores_are_exact(case: Case, tmp_path: Path, media: mini.Media) -> None:
    case.make(tmp_path / "data", media)
    for place, (setting, want) in enumerate({"strict": case.strict, "paper": case.paper}.items()):
        done = run(case, tmp_path / "data", tmp_path / setting, setting)  # type: ignore[arg-type]
        assert tuple(result.outcome for result in done.results) == want, setting
        figures = done.summary["ablations"]["none"]["metrics"]
        measured = {name: figure["value"] for name, figure in figures.items()}
        assert measured == pytest.approx({name: both[place] for name, both in case.figures.items()}), setting
        assert all((r.read is None) == (r.outcome in (U, F)) and (r.rule or r.outcome == F) for r in done.results)
        assert case.columns <= {name for result in done.results for name in result.categories}
        assert [r.reply is None for r in done.results] == [r.outcome == F for r in done.results]
        assert len({result.id for result in done.results}) == len(want)


def items(name: str, folder: Path, setting: Setting = "strict") -> dict[str, Item]:
    return {item.id: item for item in benchmark(name).load(folder, setting).items}


# ── what is asked ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_paper_s_questions_byte_for_byte(tmp_path: Path, media: mini.Media) -> None:
    mini.egoschema(tmp_path / "ego", media)
    end = "Answer with the option's letter from the given choices directly and only give the best option."
    ego = items("egoschema", tmp_path / "ego")["0aa0-demo"]
    assert ego.question == (
        "Select the best answer to the following multiple-choice question based on the video.\nQuestion0?\nOptions:\n"
        f"(A) cooking\n(B) reading\n(C) typing\n(D) sweeping\n(E) dancing\n{end} The best answer is: "
    )
    mini.mvbench(tmp_path / "mv", media)
    task = items("mvbench", tmp_path / "mv")["action_count/1"]
    assert (
        task.question == f"Question: action_count?\nOptions:\n(A) cooking\n(B) reading\n(C) typing\n(D) sweeping\n{end}"
    )
    mini.video_mme(tmp_path / "mme", media)
    mme = items("video-mme", tmp_path / "mme")["001-1"]
    assert mme.question == (
        "Select the best answer to the following multiple-choice question based on the video. Respond with only the "
        "letter (A, B, C, or D) of the correct option.\nQuestion11?\nA. Cooking.\nB. Reading.\nC. Typing.\n"
        f"D. Sweeping.\n{end} The best answer is: "
    )
    assert mme.choices == ("Cooking.", "Reading.", "Typing.", "Sweeping.")


def test_braces_in_a_question_are_words(tmp_path: Path, media: mini.Media) -> None:
    mini.egoschema(tmp_path, media)
    records = json.loads((tmp_path / "questions.json").read_text())
    records[0]["question"] = "What is {options} in {0}?"
    mini.write(tmp_path / "questions.json", records)
    assert "\nWhat is {options} in {0}?\n" in items("egoschema", tmp_path)["0aa0-demo"].question


def test_mvbench_media(tmp_path: Path, media: mini.Media) -> None:
    """Folders, bounds and pictures of all twenty tasks; files of one name in two sources are never mixed."""
    mini.mvbench(tmp_path, media)
    found = items("mvbench", tmp_path, "paper")
    assert len(found) == len(TASKS) == 20
    for task, folder in TASKS.items():
        item = found[f"{task}/1"]
        assert item.categories == {"task": task}
        if folder[0] == "nturgbd":
            assert item.media is None and item.missing is not None and "video/nturgbd/clip" in item.missing
            continue
        assert item.media is not None and (item.media.start, item.media.end) == (
            (0.5, 2.0) if task in BOUNDED else (None, None)
        )
        assert str(item.media.source).startswith(str(tmp_path / "video" / folder[0]))
        assert item.media.audio is False
    asked = found["episodic_reasoning/1"].media
    assert asked is not None
    clip = open_clip(asked.source, protocol="paper", start=asked.start, end=asked.end, want_audio=False, num_frames=2)
    assert clip.frames_total == 9 and clip.frame_indices == (1, 4)  # of int(3t) - 1 from 0.5 to 2 s: pictures 0 to 5
    assert items("mvbench", tmp_path)["action_count/1"].media.audio is True  # type: ignore[union-attr]
    (tmp_path / "json" / "action_count.json").unlink()
    assert "1 of 20 tasks not found: action_count" in benchmark("mvbench").load(tmp_path, "strict").notes


def test_mvbench_records_that_contradict_themselves(tmp_path: Path, media: mini.Media) -> None:
    mini.mvbench(tmp_path, media)
    path = tmp_path / "json" / "action_sequence.json"
    (record,) = json.loads(path.read_text())
    mini.write(path, [{**record, "start": 2, "end": 1}, {**record, "start": 1, "end": 1, "answer": "Reading"}])
    loaded = benchmark("mvbench").load(tmp_path, "paper")
    first, second = loaded.items[:2]
    assert first.media is not None and (first.media.start, first.media.end) == (1, 2)
    assert second.media is not None and (second.media.start, second.media.end) == (1, 2)
    repaired = "2 × ranges whose end is not after their start, repaired: action_sequence.json:1: 1 to 2 s"
    assert any(note.startswith(repaired) for note in loaded.notes)
    hopeless = "1 × answers that are not among their candidates, so no reply can be right: action_sequence.json:2"
    assert hopeless in loaded.notes
    assert {benchmark("mvbench").read(second, letter, "paper").outcome for letter in "AB"} == {W}


def test_perception_test_is_cut_and_handed_in(tmp_path: Path, media: mini.Media) -> None:
    mini.perception_test(tmp_path / "valid", media)
    found = items("perception-test-valid", tmp_path / "valid")
    assert [item.media.end if item.media else 0 for item in found.values()] == [1.5, 1.5, 1.5, None, None]
    (tmp_path / "valid" / "cut_frame_mapping_valid.json").unlink()
    notes = benchmark("perception-test-valid").load(tmp_path / "valid", "strict").notes
    assert any("gives some answers away" in note for note in notes)

    mini.perception_test(tmp_path / "test", media, "test")
    case = Case(
        "perception-test", mini.perception_test, {"n0?": "(B)", "n2?": "pen", "n3?": "huh", "n4?": "A"}, (), (), {}
    )
    done = run(case, tmp_path / "test", tmp_path / "out", "strict")
    assert done.summary["ablations"]["none"]["metrics"] == {}
    assert json.loads((done.folder / "submission.json").read_text()) == {
        "video_12": [{"id": 0, "answer_id": 1, "answer": "book"}, {"id": 2, "answer_id": 2, "answer": "pen"}],
        "video_13": [{"id": 4, "answer_id": 0, "answer": "cup"}],
    }


def test_nothing_is_handed_in_of_a_run_without_a_modality(tmp_path: Path, media: mini.Media) -> None:
    mini.egoschema(tmp_path / "data", media)
    engine = FakeEngine(CASES[0].replies, otherwise=CASES[0].otherwise)
    official = benchmark("egoschema")
    done = evaluate(engine, official, tmp_path / "data", tmp_path / "out", ablations=("audio",))
    assert done.left == 0 and not list(done.folder.glob("submission.*"))
    done = evaluate(engine, official, tmp_path / "data", tmp_path / "out", ablations=("none",))
    assert (done.folder / "submission.csv").exists()


def test_egoschema_is_handed_in(tmp_path: Path, media: mini.Media) -> None:
    mini.egoschema(tmp_path / "data", media)
    texts = {}
    for setting in ("strict", "paper"):
        done = run(CASES[0], tmp_path / "data", tmp_path / setting, setting)  # type: ignore[arg-type]
        texts[setting] = (done.folder / "submission.csv").read_text()
        assert json.loads((done.folder / "submission.json").read_text())["0aa5-demo"] == 3
    assert texts["strict"] == "q_uid, answer\n0aa0-demo, 1\n0aa1-demo, 0\n0aa5-demo, 3\n"
    assert texts["paper"] == "q_uid, answer\n0aa0-demo, 1\n0aa1-demo, 0\n0aa2-demo, 1\n0aa5-demo, 3\n"
    notes = benchmark("egoschema").load(tmp_path / "data", "strict").notes
    assert "1 public answers belong to no question in questions.json" in notes


@pytest.mark.parametrize("form", ["parquet", "template", "original"])
def test_video_mme_in_every_form(tmp_path: Path, media: mini.Media, form: str) -> None:
    mini.video_mme(tmp_path, media, form)
    found = items("video-mme", tmp_path)
    assert list(found) == ["001-1", "001-2", "002-1", "002-2", "003-1", "003-2"]
    assert [item.missing is None for item in found.values()] == [True] * 4 + [False] * 2
    assert found["002-2"].categories == {
        "duration": "medium",
        "domain": "Sports",
        "sub_category": "Law",
        "task": "Counting Problem",
    }


def test_video_mme_subtitles(tmp_path: Path, media: mini.Media) -> None:
    mini.video_mme(tmp_path, media)
    lines = read_subtitles(tmp_path / "subtitles" / "abcdefgh_-1.srt")
    assert [(line.start, line.end, line.text) for line in lines] == [
        (0, 900, "First line"),
        (1000, 2500, "Second"),
        (2600, 3000, "Third, at the end"),
    ]
    assert moments(media.clip, 3) == (500.0, 1400.0, 2400.0)  # of 30 frames at 10 a second
    shown = VideoMme(subtitles=True, frames=3)
    published, strict = (shown.load(tmp_path, setting).items for setting in ("paper", "strict"))  # type: ignore[arg-type]
    plain = VideoMme(subtitles=False).load(tmp_path, "paper").items
    styled = r"{\i1}Second{\i0}"  # the published code leaves pysubs2's styles in the text
    heading = "This video's subtitles are listed below:\n"
    assert published[0].question == f"{heading}First line\n{styled}\n{styled}\n{plain[0].question}"
    assert strict[0].question == f"{heading}First line\nSecond\n{plain[0].question}"
    assert published[2].question == f"{heading}\n{plain[2].question}" and strict[2].question == plain[2].question
    srt = tmp_path / "subtitles" / "abcdefgh_-1.srt"
    plainly = srt.read_text("utf-8")
    srt.write_text(plainly.replace("Second", "Q&amp;A isn&#39;t"), encoding="utf-8")
    assert "\nQ&A isn't\n" in shown.load(tmp_path, "strict").items[0].question
    assert "{\\i1}Q&amp;A isn&#39;t{" in shown.load(tmp_path, "paper").items[0].question  # as the authors' code
    srt.write_text(plainly, encoding="utf-8")
    engine = FakeEngine()
    engine.model.config.num_frames = 3
    done = evaluate(engine, benchmark("video-mme-subtitles"), tmp_path, tmp_path / "out", setting="paper", limit=1)
    assert done.results[0].question == published[0].question  # at the moments of the frames that the model sees
    assert "2 of 3 videos have no subtitles" in shown.load(tmp_path, "paper").notes
    for broken, words in (
        (b"\xff\xfe\x00 no text", "is not a subtitle file"),
        (b"just some text, again and again", "has no subtitles"),
    ):
        (tmp_path / "subtitles" / "abcdefgh_-2.srt").write_bytes(broken)
        odd = [item for item in shown.load(tmp_path, "strict").items if item.malformed is not None]
        assert len(odd) == 2 and all(f"abcdefgh_-2.srt {words}" in str(item.malformed) for item in odd)
    (tmp_path / "subtitles" / "abcdefgh_-2.srt").unlink()
    (tmp_path / "videos" / "abcdefgh_-1.mp4").write_bytes(b"no video")
    assert "no subtitles for 1 videos that can't be opened" in shown.load(tmp_path, "paper").notes


def test_what_is_wanted_of_a_medium(tmp_path: Path, media: mini.Media) -> None:
    """Of CMM's media what the record names; of the original's benchmarks of pictures no sound in its own setting."""
    mini.cmm(tmp_path / "cmm", media)
    found = list(items("cmm", tmp_path / "cmm").values())
    wanted = [(item.media.video, item.media.audio) for item in found[::2] if item.media]
    assert wanted == [(True, False), (False, True), (True, True)]
    mini.cmm(tmp_path / "lines", media, lines=True)
    assert len(items("cmm", tmp_path / "lines")) == 6
    mini.egoschema(tmp_path / "ego", media)
    for setting, sound in (("strict", True), ("paper", False)):
        medium = items("egoschema", tmp_path / "ego", setting)["0aa0-demo"].media  # type: ignore[arg-type]
        assert medium is not None and medium.audio is sound


def test_avhbench_captions(tmp_path: Path, media: mini.Media) -> None:
    mini.avhbench(tmp_path / "data", media)
    done = evaluate(
        FakeEngine(otherwise="A tone sounds."), benchmark("avhbench-captions"), tmp_path / "data", tmp_path / "out"
    )
    assert [result.outcome for result in done.results] == [R]
    assert (
        "1 records ask for captions: avhbench-captions" in benchmark("avhbench").load(tmp_path / "data", "strict").notes
    )


# ── files that are not as they should be ───────────────────────────────────────────────────────────────────────────


def change(path: Path, *keys: Any, to: Any) -> None:
    """Replace what stands under the keys of a JSON file; None takes it away."""
    held = json.loads(path.read_text())
    inner = held
    for key in keys[:-1]:
        inner = inner[key]
    if to is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    path.write_text(json.dumps(held))


MALFORMED: list[tuple[str, Callable[[Path, mini.Media], None], str, tuple[Any, ...], Any, str]] = [
    ("egoschema", mini.egoschema, "questions.json", (1, "question"), None, "questions.json:2: expected 'question'"),
    ("egoschema", mini.egoschema, "questions.json", (1, "option 4"), None, "questions.json:2: expected 'option 4'"),
    (
        "avqa",
        mini.avqa,
        "data/annotation/val_qa.json",
        (0, "answer"),
        4,
        "val_qa.json:1: expected an answer from 0 to 3 for 4 options, got 4",
    ),
    ("avhbench", mini.avhbench, "QA.json", (2, "label"), "Maybe", "QA.json:3: label: expected yes or no, got 'Maybe'"),
    ("avhbench", mini.avhbench, "QA.json", (0, "task"), "AV Hallucination (Audio)", "the training file"),
    (
        "cmm",
        mini.cmm,
        "all_data_final_reorg.json",
        (3, "answer"),
        "dunno",
        "reorg.json:4: answer: expected yes or no, got 'dunno'",
    ),
    (
        "daily-omni",
        mini.daily_omni,
        "qa.json",
        (0, "Answer"),
        "E",
        "qa.json:1: expected an answer from A to D, got 'E'",
    ),
    (
        "daily-omni",
        mini.daily_omni,
        "qa.json",
        (0, "Choice"),
        ["B. x", "A. y"],
        "expected options lettered A, B, C, … in this order, got B, A",
    ),
    (
        "worldsense",
        mini.worldsense,
        "worldsense_qa.json",
        ("abcd", "task2"),
        [],
        "abcd, task2: expected a question with candidates, got []",
    ),
    (
        "perception-test-valid",
        mini.perception_test,
        "mc_question_valid.json",
        ("video_13", "mc_question", 1, "options"),
        "cup",
        "mc_question_valid.json:video_13, mc_question:2: options: expected a list of texts, got 'cup'",
    ),
    (
        "perception-test-valid",
        mini.perception_test,
        "cut_frame_mapping_valid.json",
        ("video_12",),
        "soon",
        "to cut its video at, got 'soon'",
    ),
    (
        "perception-test-valid",
        mini.perception_test,
        "cut_frame_mapping_valid.json",
        ("video_12",),
        10**400,
        "to cut its video at, got 1000",
    ),
    (
        "perception-test-valid",
        mini.perception_test,
        "mc_question_valid.json",
        ("video_13", "metadata"),
        "none",
        "mc_question_valid.json:video_13, metadata: expected a record, {…}, got 'none'",
    ),
    (
        "mvbench",
        mini.mvbench,
        "json/action_sequence.json",
        (0, "start"),
        None,
        "action_sequence.json:1: expected 'start'",
    ),
    (
        "video-mme",
        lambda folder, media: mini.video_mme(folder, media, "original"),
        "video_mme_template.json",
        (1, "questions", 0, "answer"),
        "E",
        "template.json:2, questions:1: expected an answer from A to D, got 'E'",
    ),
]


@pytest.mark.parametrize(
    ("name", "make", "file", "keys", "to", "said"),
    MALFORMED,
    ids=lambda part: getattr(part, "__name__", str(part))[:30],
)
def test_a_malformed_record_is_an_item_of_its_own(
    tmp_path: Path, media: mini.Media, name: str, make: Any, file: str, keys: tuple[Any, ...], to: Any, said: str
) -> None:
    """It is named, counted and not scored, and costs no other item."""
    make(tmp_path / "data", media)
    whole = evaluate(FakeEngine(otherwise="(B)"), benchmark(name), tmp_path / "data", tmp_path / "whole")
    change(tmp_path / "data" / file, *keys, to=to)
    loaded = benchmark(name).load(tmp_path / "data", "strict")
    (odd,) = [item for item in loaded.items if item.malformed is not None]
    assert said in str(odd.malformed) and odd.truth == () and odd.media is None
    assert any(note.startswith("1 malformed records are not asked: ") and said in note for note in loaded.notes)
    engine = FakeEngine(otherwise="(B)")
    done = evaluate(engine, benchmark(name), tmp_path / "data", tmp_path / "out")
    (result,) = [result for result in done.results if result.outcome == "malformed"]
    assert result.error == odd.malformed and result.reply is None and result.truth == ()
    kept = {result.id: result.outcome for result in done.results if result.id != odd.id}
    assert kept.items() <= {result.id: result.outcome for result in whole.results}.items() and kept
    column = done.summary["ablations"]["none"]
    assert column["outcomes"]["malformed"] == 1
    assert sum(column["outcomes"].values()) + column["withheld"]["items"] == len(done.results)
    covered = done.manifest["coverage"]
    assert covered["malformed"] == 1 and said in covered["malformed_named"][0]


def test_if_no_record_can_be_asked_the_file_is_wrong(tmp_path: Path, media: mini.Media) -> None:
    mini.daily_omni(tmp_path, media)
    for i in range(5):
        change(tmp_path / "qa.json", i, "Answer", to="E")
    with pytest.raises(DataError, match=r"qa.json:1: expected an answer from A to D, got 'E'\."):
        benchmark("daily-omni").load(tmp_path, "strict")


def test_an_odd_answer_of_a_separate_file_is_withheld(tmp_path: Path, media: mini.Media) -> None:
    mini.egoschema(tmp_path, media)
    change(tmp_path / "subset_answers.json", "0aa0-demo", to=5)
    loaded = benchmark("egoschema").load(tmp_path, "strict")
    assert loaded.items[0].truth == () and loaded.items[1].truth == ("B",)
    said = "1 × answers that are no index from 0 to 4, taken as withheld: subset_answers.json:0aa0-demo"
    assert said in loaded.notes


@pytest.mark.parametrize(
    "name", [*dict.fromkeys(case.name for case in CASES), "perception-test", "video-mme-subtitles"]
)
def test_a_folder_without_the_files(tmp_path: Path, name: str) -> None:
    """It says what is expected and what is there; an empty file is no benchmark."""
    (tmp_path / "unrelated").mkdir()
    with pytest.raises(DataError, match="it holds unrelated/"):
        benchmark(name).load(tmp_path, "strict")
    with pytest.raises(DataError, match="is not a folder"):
        benchmark(name).load(tmp_path / "none", "strict")
    wanted = benchmark(name).needs[0]
    assert wanted.required and wanted.what
