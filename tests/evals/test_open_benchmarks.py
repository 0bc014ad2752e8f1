"""Benchmarks with open answers, captions and closed sets, end to end on miniatures, with every score known.

In each the model is right, wrong, unparsable and crashes, and one medium is missing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.evals import choice_miniatures as choices
from tests.evals import open_miniatures as small
from tests.evals.fake import FakeEngine, Reply
from videollama2.data.annotations import read_json
from videollama2.errors import DataError
from videollama2.evals.items import Setting
from videollama2.evals.measures import Cider
from videollama2.evals.registry import benchmark, benchmarks
from videollama2.evals.run import evaluate

CRASH = RuntimeError("out of luck")
RIGHT, WRONG, UNPARSABLE, FAILED = "right", "wrong", "unparsable", "failed"


@dataclass(frozen=True)
class Case:
    """A miniature, replies to it, and what must come out: outcomes in the order of the items, and figures."""

    name: str
    make: Callable[[Path], None]
    replies: Mapping[str, Reply]
    outcomes: tuple[str, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    setting: Setting = "strict"


def f_measure(precision: float, recall: float) -> float:
    """Of ROUGE-L."""
    return 2.44 * precision * recall / (recall + 1.44 * precision)


CASES = (
    Case(
        "msvc",
        small.msvc,
        {
            "Describe video 1.": "A dog runs.",
            "Describe video 2.": "a man eats",
            "Describe video 3.": "...",
            "Describe video 4.": CRASH,
        },
        (RIGHT, WRONG, UNPARSABLE, FAILED, FAILED),
        {"exact_match": 1 / 5, "token_f1": 1.4 / 5, "rouge_l": (1 + f_measure(2 / 3, 2 / 4)) / 5},
    ),
    Case(
        "msvd-qa",
        small.msvd_qa,
        {
            "what is a man playing?": "He plays the guitar.",
            "who is cooking?": "A woman.",
            "how many dogs run?": "There are many.",
            "where is it?": CRASH,
        },
        (RIGHT, WRONG, UNPARSABLE, FAILED, FAILED),
        {"accuracy": 1 / 5, "exact_match": 0, "token_f1": 0.5 / 5, "rouge_l": f_measure(1 / 4, 1) / 5},
    ),
    Case(
        "activitynet-qa",
        small.activitynet_qa,
        {
            "is the man indoors": "He is in a gym.",
            "how many people are there": "There are two people.",
            "what color is the shirt": "It is a gray shirt.",
            "what is the man holding": "A ball.",
            "what happens at the end": CRASH,
        },
        (UNPARSABLE, RIGHT, RIGHT, WRONG, FAILED, FAILED),
        {
            "accuracy": 2 / 6,
            "exact_match": 0,
            "identical": 0,
            "token_f1": 2 / 3 / 6,
            "rouge_l": f_measure(1, 2 / 3) / 6,
        },
    ),
    Case(
        "video-chatgpt",
        small.video_chatgpt,
        {
            "What happens?": "A chef slices onions",
            "What comes first?": "He cuts them.",
            "What is cut?": "…",
            "Which vegetable is it?": CRASH,
        },
        (RIGHT, FAILED, WRONG, UNPARSABLE, FAILED),
        {"exact_match": 1 / 5, "token_f1": (1 + 2 / 3) / 5, "rouge_l": (1 + 2 / 3) / 5},
    ),
    Case(
        "clotho-aqa",
        small.clotho_aqa,
        {
            "Is it raining?": "Yes.",
            "What falls?": "water",
            "How many bells": "2",
            "Is it loud?": "I hear a bell.",
            "Who is it?": CRASH,
        },
        (RIGHT, WRONG, RIGHT, UNPARSABLE, FAILED, FAILED),
        # of the 18 answers it equals 2 + 1 + 3; of yes-or-no questions 1 of 3 is right, of unanimous ones 1 of 4
        {"accuracy": 2 / 6, "annotator_accuracy": 6 / 18, "binary_accuracy": 1 / 3, "unanimous_accuracy": 1 / 4},
    ),
    Case(
        "clotho-aqa",
        small.clotho_aqa,
        {
            "Is it raining?": "Yes.",
            "What falls?": "water",
            "How many bells": "2",
            "Is it loud?": "no",
            "Who is it?": CRASH,
        },
        # every answer is an item; "2" is not "two"
        (RIGHT, RIGHT, WRONG, RIGHT, WRONG, WRONG, *[WRONG] * 3, *[RIGHT] * 3, *[FAILED] * 6),
        # "Yes." counts among all and not among yes and no
        {"accuracy": 6 / 18, "annotator_accuracy": 6 / 18, "binary_accuracy": 3 / 9},
        "paper",
    ),
    Case(
        "clotho",
        small.clotho,
        {"wind demo.wav": "The wind blows.", "bell.wav": "A dog barks.", "odd.wav": "!", "car.wav": CRASH},
        (RIGHT, WRONG, UNPARSABLE, FAILED, FAILED),
        {"exact_match": 1 / 5, "token_f1": 1 / 5, "rouge_l": (1 + 1 / 3) / 5},
    ),
    Case(
        "tut2017",
        small.tut2017,
        {
            "audio/0.wav": "(A)",
            "audio/1.wav": "B",
            "audio/2.wav": "It is a city center or a beach.",
            "audio/3.wav": "The answer is l.",
            "audio/4.wav": CRASH,
            "audio/6.wav": "bus",
        },
        (RIGHT, WRONG, UNPARSABLE, RIGHT, FAILED, FAILED, WRONG),
        # of six scenes, beach is right in half and park always
        {"accuracy": 2 / 7, "class_mean_accuracy": 1.5 / 6},
    ),
    Case(
        "tut2017",
        small.tut2017,
        {
            "audio/0.wav": "(A)",
            "audio/1.wav": "B",
            "audio/2.wav": "It is a city center or a beach.",
            "audio/3.wav": "A spark.",
            "audio/4.wav": CRASH,
            "audio/6.wav": "(A) beach",
        },
        (RIGHT, WRONG, RIGHT, RIGHT, FAILED, FAILED, RIGHT),
        {"accuracy": 4 / 7, "class_mean_accuracy": 3 / 6},
        "paper",
    ),
    Case(
        "vocalsound",
        small.vocalsound,
        {"f0003": "C. Cough", "m0004": "(C)", "f0005": "A person breathes.", "m0006": CRASH},
        (RIGHT, WRONG, UNPARSABLE, FAILED, FAILED),
        {"accuracy": 1 / 5},
    ),
    Case(
        "vocalsound",
        small.vocalsound,
        {"f0003": "COUGHING", "m0004": "(D)", "f0005": "A person breathes.", "m0006": CRASH},
        (RIGHT, RIGHT, WRONG, FAILED, FAILED),
        {"accuracy": 2 / 5},
        "paper",
    ),
    Case(
        "music-avqa",
        small.music_avqa,
        {
            "How many flute are there in the left of the video?": "2",
            "Is the flute louder than the tuba?": "No, it isn't.",
            "Where is the acoustic_guitar?": "The acoustic guitar on the left.",
            "Which is the first instrument that comes in": CRASH,
        },
        (RIGHT, WRONG, UNPARSABLE, FAILED, FAILED),
        {"accuracy": 1 / 5},
    ),
    Case(
        "music-avqa",
        small.music_avqa,
        {
            "How many flute are there in the left of the video?": "2",
            "Is the flute louder than the tuba": "Yes. ",
            "Where is the acoustic_guitar": "On the left",
            "Which is the first instrument that comes in": CRASH,
        },
        (WRONG, RIGHT, WRONG, FAILED, FAILED),
        {"accuracy": 1 / 5},
        "paper",
    ),
    Case(
        "music-avqa-v2",
        small.music_avqa_v2,
        {
            "Is there a voiceover?": "Yes.",
            "How many sounding erhu in the video？": "3",
            "What kind of instrument is it?": "...",
        },
        (RIGHT, WRONG, UNPARSABLE, FAILED),
        {"accuracy": 1 / 4},
    ),
    Case(
        "avsd",
        small.avsd,
        {
            "is he alone ?": "Yes.",
            "what is he holding ?": "a mop",
            "does he leave ?": "He stays.",
            "is there sound ?": CRASH,
        },
        (RIGHT, WRONG, UNPARSABLE, FAILED, FAILED),
        {
            "accuracy": 1 / 5,
            "exact_match": 0,
            "token_f1": (2 / 4 + 4 / 7) / 5,
            "rouge_l": (2 * f_measure(1, 1 / 3) + 1 / 2) / 5,
            "last_turn_accuracy": 0,
            "last_turn_bleu_4": 0,
            "last_turn_rouge_l": 0,
            "last_turn_cider_of_10": 0,
        },
    ),
    Case(
        "vggsound",
        small.vggsound,
        {"abcdefghijk": "Someone is playing flute.", "-bcdefghijk": "A dog.", "bbbbbbbbbbb": "", "ccccccccccc": CRASH},
        (RIGHT, WRONG, UNPARSABLE, FAILED, FAILED),
        {
            "accuracy": 1 / 5,
            "exact_match": 0,
            "token_f1": (4 / 6 + 2 / 4) / 5,
            "rouge_l": (f_measure(1 / 2, 1) + f_measure(1 / 2, 1 / 3)) / 5,
        },
    ),
    Case(
        "vggsound-closed",
        small.vggsound,
        {
            "abcdefghijk": "Someone is playing the flute",
            "-bcdefghijk": "dog barking",
            "bbbbbbbbbbb": "rain and sea waves",
            "ccccccccccc": CRASH,
        },
        (RIGHT, WRONG, UNPARSABLE, FAILED, FAILED),
        {"accuracy": 1 / 5},
    ),
    Case(
        "vggsound-closed",
        small.vggsound,
        {
            "abcdefghijk": "Someone is playing the flute",
            "-bcdefghijk": "Dog barking growling.",
            "bbbbbbbbbbb": "rain and sea waves",
            "ccccccccccc": CRASH,
        },
        (WRONG, RIGHT, WRONG, FAILED, FAILED),
        {"accuracy": 1 / 5},
        "paper",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.setting}")
def test_every_score_is_known(case: Case, tmp_path: Path) -> None:
    chosen = benchmark(case.name)
    data = tmp_path / "data"
    case.make(data)
    items = chosen.load(data, case.setting).items
    run = evaluate(FakeEngine(case.replies), chosen, data, tmp_path / "out", setting=case.setting)
    by_id = {result.id: result for result in run.results}
    assert [by_id[item.id].outcome.value for item in items] == list(case.outcomes)
    metrics = dict(chosen.metrics(run.results))
    if "cider_of_10" in metrics:
        corpus = Cider(tuple(item.truth for item in items))
        said = {key: reply for key, reply in case.replies.items() if isinstance(reply, str)}
        values = [
            corpus.value(next((r for key, r in said.items() if key in (item.question, item.id)), ""), item.truth)
            for item in items
        ]
        assert metrics.pop("cider_of_10") == pytest.approx(sum(values) / len(items)) and max(values) > 1
    assert metrics == pytest.approx(dict(case.metrics))
    assert chosen.metric in chosen.metrics(run.results) and chosen.metrics([]) == {}
    errors = [by_id[item.id].error or "" for item in items if item.missing]
    assert errors and all(error.startswith("MediaNotFound: ") and " not found (nor " in error for error in errors)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.setting}")
def test_what_is_expected_where_is_said(case: Case, tmp_path: Path) -> None:
    chosen = benchmark(case.name)
    with pytest.raises(DataError, match=r"is not a folder; expected"):
        chosen.load(tmp_path / "nowhere", case.setting)
    (tmp_path / "other.txt").touch()
    with pytest.raises(DataError, match=r"expected .*; it holds other.txt"):
        chosen.load(tmp_path, case.setting)
    assert all(need.what for need in chosen.needs) and chosen.needs


PRIVATE = (
    ("msvd-qa", small.msvd_qa_repackaged, "what is a man playing?", ("guitar",)),
    (
        "clotho-aqa",
        small.clotho_aqa_private,
        "Question: Is it loud?\nAnswer the question using a single word.",
        ("no",),
    ),
    ("tut2017", small.lettered_private, None, ("cafe or restaurant",)),
    ("vocalsound", small.lettered_private, None, ("Throat clearing",)),
    ("music-avqa", small.music_avqa_private, "How many flutes?", ("two",)),
    ("avsd", small.avsd_private, "is he alone ?", ("yes he is .",)),
    ("vggsound", small.vggsound_private, "Identify the event in the video.", ("rain",)),
)


@pytest.mark.parametrize(("name", "make", "question", "truth"), PRIVATE, ids=[case[0] for case in PRIVATE])
def test_reformats_of_the_original(
    name: str, make: Callable[[Path], None], question: str | None, truth: tuple[str, ...], tmp_path: Path
) -> None:
    make(tmp_path)
    first = benchmark(name).load(tmp_path, "paper").items[0]
    assert question is None or first.question == question
    assert first.truth == truth and first.media is not None and first.media.source.is_file()


def test_paper_prefers_the_reformat_and_strict_the_official_file(tmp_path: Path) -> None:
    small.music_avqa(tmp_path)
    small.music_avqa_private(tmp_path)
    both = benchmark("music-avqa")
    assert len(both.load(tmp_path, "paper").items) == 1 and len(both.load(tmp_path, "strict").items) == 5


def test_the_published_prompts(tmp_path: Path) -> None:
    def asked(name: str, make: Callable[[Path], None]) -> str:
        make(tmp_path / name)
        return benchmark(name).load(tmp_path / name, "strict").items[0].question

    ends = ".Answer with the option's letter from the given choices directly and only give the best option."
    scenes = asked("tut2017", small.tut2017)
    assert scenes.startswith("Question: Identify the sound event in the audio.\nOptions:\n(A) beach\n(B) bus\n")
    assert scenes.endswith(f"(N) train\n(O) tram\n{ends}")
    sounds = "(A) Laughter\n(B) Sigh\n(C) Cough\n(D) Throat clearing\n(E) Sneeze\n(F) Sniff\n"
    question = f"Identify the human sound in the audio.\nOptions:\n{sounds}{ends}"
    assert asked("vocalsound", small.vocalsound) == question


class TestQuirks:
    def test_only_what_the_benchmark_is_about_is_asked(self, tmp_path: Path) -> None:
        small.activitynet_qa(tmp_path)
        pictures = benchmark("activitynet-qa").load(tmp_path, "strict").items[0].media
        assert pictures is not None and pictures.video and not pictures.audio
        small.vggsound_all(tmp_path)
        sound = benchmark("vggsound").load(tmp_path, "strict").items[0].media
        assert sound is not None and sound.audio and not sound.video, "a .wav has no pictures to ask for"

    def test_types_and_pairs_are_categories(self, tmp_path: Path) -> None:
        small.activitynet_qa(tmp_path)
        types = [i.categories["type"] for i in benchmark("activitynet-qa").load(tmp_path, "strict").items]
        assert types == ["yes/no", "number", "colour", "object", "temporal", "other"]
        small.video_chatgpt(tmp_path)
        loaded = benchmark("video-chatgpt").load(tmp_path, "strict")
        assert [i.categories.get("pair_place") for i in loaded.items] == [None, None, None, "1", "2"]
        assert len({i.categories.get("pair") for i in loaded.items[3:]}) == 1
        (tmp_path / "temporal_qa.json").unlink()
        notes = benchmark("video-chatgpt").load(tmp_path, "strict").notes
        assert "temporal_qa.json not found: its questions are not asked" in notes

    def test_music_avqa(self, tmp_path: Path) -> None:
        small.music_avqa(tmp_path, "data/json")
        loaded = benchmark("music-avqa").load(tmp_path, "strict")
        assert [i.id for i in loaded.items] == ["7", "8", "9", "9~2", "10"]
        assert loaded.items[0].categories == {"type": "Audio-Visual Counting", "modality": "Audio-Visual"}
        assert any("not the corrected set" in note for note in loaded.notes)
        assert any("1 records repeat an id" in note for note in loaded.notes)

    def test_vocalsound_says_whose_sound_it_is(self, tmp_path: Path) -> None:
        small.vocalsound(tmp_path)
        items = benchmark("vocalsound").load(tmp_path, "strict").items
        assert items[0].categories == {"sound": "Cough", "sex": "female", "age": "18-25"}
        assert items[3].categories == {"sound": "Laughter", "sex": "male", "age": "49-80"}

    def test_tut2017_without_answers_asks_and_scores_nothing(self, tmp_path: Path) -> None:
        small.tut2017(tmp_path)
        (tmp_path / "evaluation_setup" / "evaluate.txt").unlink()
        chosen = benchmark("tut2017")
        assert all(not item.truth for item in chosen.load(tmp_path, "strict").items)
        run = evaluate(FakeEngine(otherwise="(A)"), chosen, tmp_path, tmp_path / "out")
        assert chosen.metrics(run.results) == {}
        small.put(tmp_path / "meta.txt", "audio/b1_0_10.wav\tresidential_area\tb1\n")
        (item,) = chosen.load(tmp_path, "strict").items
        assert item.truth == ("residential area",), "the development set has a third column"

    def test_avsd_references_of_a_test_set(self, tmp_path: Path) -> None:
        small.avsd(tmp_path, "test_set4DSTC7-AVSD.json", last="__UNDISCLOSED__")
        chosen = benchmark("avsd")
        loaded = chosen.load(tmp_path, "strict")
        assert loaded.items[3].truth == () and "1 answers are undisclosed" in loaded.notes
        turn = {"question": "is there sound ?", "answer": "yes ."}
        more = {"question": "is there sound ?", "answer": "yes , music ."}
        dialogs = [{"image_id": "ABCDE", "dialog": [one]} for one in (turn, more)]
        small.put(tmp_path / "refs" / "lbl_undisclosedonly_test_set4DSTC7-AVSD.json", {"dialogs": dialogs})
        item = chosen.load(tmp_path, "strict").items[3]
        assert item.truth == ("yes .", "yes , music .")
        assert chosen.read(item, "Yes, loud music", "strict").outcome == RIGHT

    def test_a_table_of_all_splits(self, tmp_path: Path) -> None:
        small.vggsound_all(tmp_path)
        (item,) = benchmark("vggsound-closed").load(tmp_path, "strict").items
        assert item.truth == ("dog barking, growling",) and item.id == "abcdefghijk_000030"

    def test_clotho_aqa_is_read_as_latin_1(self, tmp_path: Path) -> None:
        small.clotho_aqa(tmp_path)
        items = benchmark("clotho-aqa").load(tmp_path, "strict").items
        assert items[0].id == "rain démo.wav#1" and items[0].media is not None
        assert items[0].truth == ("yes", "yes", "no") and items[0].categories == {"answer": "yes or no"}
        chosen = benchmark("clotho-aqa")
        read = [chosen.read(items[1], reply, "strict") for reply in ("rain", "Birds.", "many birds")]
        assert [verdict.outcome.value for verdict in read] == [RIGHT, WRONG, UNPARSABLE], "one word is an answer"


BROKEN: tuple[tuple[str, Callable[[Path], None], str, str, str], ...] = (
    ("msvc", small.msvc, "msvc.json", '[{"video_path": "a.mp4",\n "question": }]', r"msvc.json, line 2, column"),
    (
        "msvc",
        small.msvc,
        "msvc.json",
        '[{"video_path": "a.mp4", "question": "?"}]',
        r"msvc.json:1: expected 'captions'",
    ),
    (
        "msvd-qa",
        small.msvd_qa,
        "test_qa.json",
        '[{"video_id": "x", "id": 1}]',
        r"test_qa.json:1: video_id: expected a whole number, got 'x'",
    ),
    ("activitynet-qa", small.activitynet_qa, "test_a.json", "[]", r"test_q.json:1: no answer in test_a.json has"),
    (
        "activitynet-qa",
        small.activitynet_qa,
        "test_a.json",
        '[{"answer": "1"}]',
        r"expected as many answers as questions: .*test_q.json has 6, test_a.json 1",
    ),
    (
        "clotho-aqa",
        small.clotho_aqa,
        "clotho_aqa_test.csv",
        "file_name,QuestionText\na.wav,?\n",
        r":2: expected 'answer'",
    ),
    ("clotho", small.clotho, "clotho_captions_evaluation.csv", "file_name,caption_1\na.wav,x\n", r"'caption_2' or"),
    (
        "tut2017",
        small.tut2017,
        "evaluation_setup/evaluate.txt",
        "audio/1.wav\n",
        r"evaluate.txt:1: .*expected audio/<file>",
    ),
    (
        "tut2017",
        small.tut2017,
        "evaluation_setup/evaluate.txt",
        "audio/1.wav\tmoon\n",
        r"evaluate.txt:1: expected one of beach, bus, .*, got 'moon'",
    ),
    (
        "vocalsound",
        small.vocalsound,
        "datafiles/te.json",
        '{"data": [{"wav": "a.wav", "labels": "?"}]}',
        r"te.json:1: labels: expected one of /m/.*, got '\?'",
    ),
    (
        "vocalsound",
        small.vocalsound,
        "datafiles/te.json",
        '{"audio": []}',
        r"te.json: expected the key 'data'; it has audio",
    ),
    (
        "music-avqa",
        small.music_avqa,
        "data/json_update/avqa-test.json",
        '[{"video_id": "1", "question_id": 1, "type": "__import__(1)", "question_content": "?", "anser": "no"}]',
        r"avqa-test.json:1: type: expected a list of texts, got '__import__\(1\)'",
    ),
    (
        "music-avqa",
        small.music_avqa,
        "data/json_update/avqa-test.json",
        '[{"video_id": "1", "question_id": 1, "type": "[\\"a\\", \\"b\\"]", "question_content": "<LR> <FL>?",'
        ' "templ_values": "[\\"left\\"]", "anser": "no"}]',
        r"templ_values: expected 2 values, for <LR>, <FL>, got 1",
    ),
    (
        "avsd",
        small.avsd,
        "valid_set4DSTC7-AVSD.json",
        '{"dialogs": [{"image_id": "A"}]}',
        r"AVSD.json:1: expected 'dialog'",
    ),
    ("vggsound", small.vggsound, "test.csv", "a.mp4\n", r"test.csv:1: expected 2 cells \(clip, label\), got 1"),
    ("vggsound", small.vggsound, "test.csv", "", r"is empty; download it again"),
)


@pytest.mark.parametrize(
    ("name", "make", "file", "text", "message"), BROKEN, ids=[f"{b[0]}-{i}" for i, b in enumerate(BROKEN)]
)
def test_a_malformed_annotation_is_told_with_its_place(
    name: str, make: Callable[[Path], None], file: str, text: str, message: str, tmp_path: Path
) -> None:
    make(tmp_path)
    small.put(tmp_path / file, text)
    with pytest.raises(DataError, match=message):
        benchmark(name).load(tmp_path, "strict")


def damage(path: Path) -> None:
    """Put an odd record into an annotation file."""
    if path.suffix in (".csv", ".txt"):
        encoding = "latin1" if "clotho_aqa" in path.name else "utf-8"
        lines = path.read_text(encoding=encoding).splitlines()
        path.write_text("\n".join([lines[0], "odd", *lines[1:]]) + "\n", encoding=encoding)
        return
    held = read_json(path)
    if isinstance(held, list):
        held.insert(1, None)
    elif listed := [value for value in held.values() if isinstance(value, list)]:
        listed[0].insert(1, None)
    else:
        held = {**held, "odd": None}
    path.write_text(json.dumps(held), encoding="utf-8")


def miniature(name: str, folder: Path) -> None:
    """The miniature of any benchmark; of those with choices without media."""
    made = {case.name: case.make for case in reversed(CASES)}
    if name in made:
        made[name](folder)
    else:
        choices.miniature(name, folder)


@pytest.mark.parametrize("setting", ["strict", "paper"])
@pytest.mark.parametrize("name", sorted(set(benchmarks()) - {"probe", "probe-open", "perception-test"}))
def test_one_odd_record_never_costs_a_benchmark(name: str, setting: Setting, tmp_path: Path) -> None:
    miniature(name, tmp_path)
    chosen = benchmark(name)
    whole = chosen.load(tmp_path, setting)
    damage(next(path for path in whole.files if path.name != "subset_answers.json"))
    loaded = chosen.load(tmp_path, setting)
    (odd,) = [item for item in loaded.items if item.malformed is not None]
    assert [item for item in loaded.items if item is not odd and item.question] and odd.origin in str(odd.malformed)
    assert len(loaded.items) == len(whole.items) + 1
    assert any(note.startswith("1 malformed records are not asked: ") for note in loaded.notes)


def test_an_odd_line_of_a_further_file_is_noted(tmp_path: Path) -> None:
    small.msvd_qa(tmp_path)
    damage(tmp_path / "youtube_mapping.txt")
    loaded = benchmark("msvd-qa").load(tmp_path, "strict")
    assert all(item.malformed is None for item in loaded.items)
    assert any("1 × lines that name no clip: youtube_mapping.txt:2" in note for note in loaded.notes)
    small.vocalsound(tmp_path / "v")
    (tmp_path / "v" / "class_labels_indices_vs.csv").unlink()
    first = benchmark("vocalsound").load(tmp_path / "v", "strict").items[0]
    assert first.truth == ("Cough",), "the published labels are known"


def test_answers_are_paired_by_their_ids(tmp_path: Path) -> None:
    small.activitynet_qa(tmp_path)
    before = benchmark("activitynet-qa").load(tmp_path, "strict").items
    path = tmp_path / "test_a.json"
    answers = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(answers[::-1]), encoding="utf-8")
    assert benchmark("activitynet-qa").load(tmp_path, "strict").items == before
    path.write_text(json.dumps(answers[1:]), encoding="utf-8")
    first, *others = benchmark("activitynet-qa").load(tmp_path, "strict").items
    assert first.malformed == "test_q.json:1: no answer in test_a.json has its question_id."
    assert others == list(before[1:])


@pytest.mark.parametrize(
    ("name", "video", "expected"),
    [
        ("msvd-qa", "abcdefghijk", "expected names like MSVD's"),
        ("msvd-qa", "video7010", "expected names like MSVD's"),
        ("activitynet-qa", "abcdefghijk_33_46", "expected names like ActivityNet's"),
        ("activitynet-qa", "video7010", "expected names like ActivityNet's"),
    ],
)
def test_files_of_another_benchmark_with_the_same_names_are_rejected(
    tmp_path: Path, name: str, video: str, expected: str
) -> None:
    ids = [f"v_{video}_{i}" for i in range(2)]
    questions = [{"video_name": video, "question": "what is it", "question_id": id} for id in ids]
    (tmp_path / "test_q.json").write_text(json.dumps(questions))
    (tmp_path / "test_a.json").write_text(json.dumps([{"answer": "yes", "type": 3, "question_id": id} for id in ids]))
    with pytest.raises(DataError, match=f"its videos \\({video}, …\\) are another benchmark's; {expected}"):
        benchmark(name).load(tmp_path, "strict")
