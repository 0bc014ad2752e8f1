"""Miniature data sets of the benchmarks with open answers, in the official formats, with their quirks and typos.

Every text is made up. Each maker fills a folder; media named "gone" are never made.
"""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.media.make import noisy, tone, write


@cache
def _originals() -> tuple[Path, Path]:
    folder = Path(mkdtemp(prefix="miniature"))
    sound = tone(0.5, rate=16000)
    clip = write(folder / "clip.mp4", 4, draw=noisy, sound=sound, rate=16000)
    return clip, write(folder / "sound.wav", sound=sound, rate=16000, sound_codec="pcm_s16le")


def medium(path: Path) -> Path:
    """A tiny sound where the name says so, else a tiny clip with sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clip, sound = _originals()
    shutil.copyfile(sound if path.suffix == ".wav" else clip, path)
    return path


def put(path: Path, data: Any) -> None:
    """Write what the file holds: text as it is, lines for .jsonl, else JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        data = "".join(json.dumps(line) + "\n" for line in data)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


def table(path: Path, rows: Sequence[Sequence[object]], encoding: str = "utf-8") -> None:
    """Write a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)


def talk(medium: Mapping[str, str], question: str, answer: str) -> dict[str, Any]:
    """A record of the original's private reformats."""
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {**medium, "conversations": turns}


def msvc(folder: Path) -> None:
    captions = [
        ["a dog runs", "a brown dog runs on grass"],
        ["a man cooks soup"],
        ["two cats sleep"],
        ["rain falls"],
        ["a red bus stops"],
    ]
    names = ["vatex/dog_01.mp4", "msvd/cook_1_2.avi", "msrvtt/video7.mp4", "msrvtt/video8.mp4", "msvd/gone.avi"]
    records = [
        {"video_path": name, "question": f"Describe video {i}.", "captions": texts}
        for i, (name, texts) in enumerate(zip(names, captions, strict=True), 1)
    ]
    put(folder / "msvc.json", records)
    for name in names[:4]:
        medium(folder / name)


def msvd_qa(folder: Path) -> None:
    answers = {
        "what is a man playing?": "guitar",
        "who is cooking?": "man",
        "how many dogs run?": "two",
        "what eats?": "cat",
        "where is it?": "kitchen",
    }
    put(
        folder / "test_qa.json",
        [
            {"answer": answer, "id": 40001 + i, "question": question, "video_id": 1501 + i}
            for i, (question, answer) in enumerate(answers.items())
        ],
    )
    put(folder / "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1502\nabc_1_2 vid9\n")
    medium(folder / "video" / "vid1501.avi")
    medium(folder / "YouTubeClips" / "-4wsuPCjDBc_5_15.avi")
    medium(folder / "video" / "vid1503.avi")
    medium(folder / "video" / "vid1505.avi")


def msvd_qa_repackaged(folder: Path) -> None:
    root = folder / "MSVD_Zero_Shot_QA"
    put(root / "test_q.json", [{"video_name": "vid1501", "question": "what is a man playing?", "question_id": "v_1_0"}])
    put(root / "test_a.json", [{"answer": "guitar", "question_id": "v_1_0"}])
    medium(root / "videos" / "vid1501.avi")


def activitynet_qa(folder: Path) -> None:
    asked = [
        ("abcdefghijk", "is the man indoors", "yes", 3),
        ("abcdefghijk", "how many people are there", "2", 7),
        ("v_startswithv", "what color is the shirt", "grey", 4),
        ("nnnnnnnnnnn", "what is the man holding", "a red ball", 5),
        ("nnnnnnnnnnn", "what happens at the end", "they leave", 2),
        ("goneggggggg", "what is the sport", "tennis", 8),
    ]
    ids = [f"v_{name}_{i}" for i, (name, *_) in enumerate(asked)]
    put(
        folder / "test_q.json",
        [{"video_name": n, "question": q, "question_id": id_} for id_, (n, q, _, _) in zip(ids, asked, strict=True)],
    )
    put(
        folder / "test_a.json",
        [{"answer": a, "type": t, "question_id": id_} for id_, (_, _, a, t) in zip(ids, asked, strict=True)],
    )
    medium(folder / "all_test" / "v_abcdefghijk.mp4")
    medium(folder / "all_test" / "v_startswithv.webm")
    medium(folder / "all_test" / "v_nnnnnnnnnnn.mkv")


def video_chatgpt(folder: Path) -> None:
    put(
        folder / "generic_qa.json",
        [
            {"Q": "What happens?", "A": "A chef slices onions.", "video_name": "v_chef"},
            {"Q": "What is seen?", "A": "A dog.", "video_name": "v_gone"},
        ],
    )
    put(folder / "temporal_qa.json", [{"Q": "What comes first?", "A": "He washes them.", "video_name": "v_chef"}])
    put(
        folder / "consistency_qa.json",
        [{"Q1": "What is cut?", "Q2": "Which vegetable is it?", "A": "Onions.", "video_name": "v_dog"}],
    )
    medium(folder / "Test_Videos" / "v_chef.mp4")
    medium(folder / "Test_Videos" / "v_dog.mkv")


def clotho_aqa(folder: Path) -> None:
    """Latin-1, a name with blanks and an accent, three answers to a question, not all alike."""
    given = [
        ("rain démo.wav", "Is it raining?", ["yes", "yes", "no"]),
        ("rain démo.wav", "What falls?", ["water", "rain", "Rain"]),
        ("bell (1).wav", "How many bells ring?", ["two", "two", "two"]),
        ("bell (1).wav", "Is it loud?", ["no", "no", "no"]),
        ("bell (1).wav", "Who is it?", ["man", "man", "man"]),
        ("gone.wav", "Is a dog there?", ["yes", "yes", "yes"]),
    ]
    rows = [(name, question, answer, "yes") for name, question, answers in given for answer in answers]
    table(folder / "clotho_aqa_test.csv", [("file_name", "QuestionText", "answer", "confidence"), *rows], "latin1")
    medium(folder / "audio_files" / "rain démo.wav")
    medium(folder / "audio_files" / "bell (1).wav")


def clotho_aqa_private(folder: Path) -> None:
    records = [
        talk({"id": "1", "audio": "/data/far/audio_files/bell (1).wav"}, "<audio>\nIs it loud?", "no"),
        talk({"id": "2", "audio": "/data/far/audio_files/bell (1).wav"}, "Is it loud?", "yes"),
    ]
    put(folder / "clothoAQA_eval.json", records)
    medium(folder / "audio_files" / "bell (1).wav")


def clotho(folder: Path) -> None:
    captions = {
        "wind demo.wav": ["Wind blows.", "The wind blows hard", "Wind, outside", "It blows", "Wind blows outside"],
        "bell.wav": ["A bell rings."] * 5,
        "odd.wav": ["Birds sing."] * 5,
        "car.wav": ["A car stops."] * 5,
        "gone.wav": ["A car passes."] * 5,
    }
    header = ("file_name", *(f"caption_{i}" for i in range(1, 6)))
    table(folder / "clotho_captions_evaluation.csv", [header, *([name, *texts] for name, texts in captions.items())])
    for name in list(captions)[:4]:
        medium(folder / "evaluation" / name)


def tut2017(folder: Path) -> None:
    scenes = ["beach", "cafe/restaurant", "city_center", "park", "bus", "tram", "beach"]
    lines = [f"audio/{i}.wav\t{scene}" for i, scene in enumerate(scenes)]
    put(folder / "evaluation_setup" / "evaluate.txt", "\n".join(lines) + "\n")
    put(folder / "evaluation_setup" / "test.txt", "\n".join(f"audio/{i}.wav" for i in range(7)))
    for i in (0, 1, 2, 3, 4, 6):
        medium(folder / "audio" / f"{i}.wav")


def vocalsound(folder: Path) -> None:
    mids = {"/m/01j3sz": "Laughter", "/m/07plz5l": "Sigh", "/m/01b_21": "Cough", "/m/0dl9sf8": "Throat clearing"}
    table(
        folder / "class_labels_indices_vs.csv",
        [("index", "mid", "display_name"), *((i, mid, name) for i, (mid, name) in enumerate(mids.items()))],
    )
    sounds = {
        "f0003_0_cough.wav": "/m/01b_21",
        "m0004_0_throatclearing.wav": "/m/0dl9sf8",
        "f0005_0_sigh.wav": "/m/07plz5l",
        "m0006_0_laughter.wav": "/m/01j3sz",
        "f9999_0_cough.wav": "/m/01b_21",
    }
    records = [{"wav": f"/any/prefix/{name}", "labels": mid, "spk_id": name[:5]} for name, mid in sounds.items()]
    put(folder / "datafiles" / "te.json", {"data": records})
    put(folder / "datafiles" / "subtest" / "te_age1.json", {"data": records[:2]})
    put(folder / "datafiles" / "subtest" / "te_age3.json", {"data": records[2:]})
    for name in list(sounds)[:4]:
        medium(folder / "audio_16k" / name)


def lettered_private(folder: Path) -> None:
    """The original's lists of TUT2017 and VocalSound."""
    put(folder / "tut2017_eval.jsonl", [{"audio": "tut/0.wav", "gt": "cafe or restaurant", "source": "tut2017"}])
    put(folder / "vocalsound_eval.jsonl", [{"audio": "vs/f0003_0_cough.wav", "gt": "throatclearing"}])
    medium(folder / "tut" / "0.wav")
    medium(folder / "vs" / "f0003_0_cough.wav")


def music_avqa(folder: Path, below: str = "data/json_update") -> None:
    asked = [
        (
            "00099999",
            7,
            ["Audio-Visual", "Counting"],
            "How many <Object> are there in the <LR> of the video?",
            ["flute", "left"],
            "two",
        ),
        (
            "00099999",
            8,
            ["Audio", "Comparative"],
            "Is the <Object> louder than the <Object>?",
            ["flute", "tuba"],
            "yes",
        ),
        ("va000012", 9, ["Visual", "Location"], "Where is the <Object>?", ["acoustic_guitar"], "left"),
        (
            "va000012",
            9,
            ["Audio-Visual", "Location"],
            "Which is the first instrument that comes in",
            [],
            "acoustic_guitar",
        ),
        ("00000404", 10, ["Audio", "Counting"], "How many instruments sound?", [], "more than ten"),
    ]
    records = [
        {
            "video_id": video,
            "question_id": id_,
            "type": json.dumps(types),
            "question_content": question,
            "templ_values": json.dumps(values),
            "question_deleted": 0,
            "anser": answer,
        }
        for video, id_, types, question, values, answer in asked
    ]
    put(folder / below / "avqa-test.json", records)
    for name in ("00099999", "va000012"):
        medium(folder / "videos" / f"{name}.mp4")


def music_avqa_private(folder: Path) -> None:
    put(
        folder / "AVQA_music_test.json",
        [talk({"video": "/far/MUSIC/videos/1.mp4"}, "<video>\nHow many flutes?", "two")],
    )
    medium(folder / "videos" / "1.mp4")


def avsd(folder: Path, name: str = "valid_set4DSTC7-AVSD.json", last: str = "there is music ; quiet music .") -> None:
    turns = [
        ("is he alone ?", "yes he is ."),
        ("what is he holding ?", "a broom"),
        ("does he leave ?", "no , he stays in the room ."),
        ("is there sound ?", last),
    ]
    dialog = [{"question": question, "answer": answer} for question, answer in turns]
    gone = [{"question": "who is it ?", "answer": "a man"}]
    put(
        folder / name,
        {
            "type": "test",
            "dialogs": [
                {"image_id": "ABCDE", "summary": "a man cooks .", "caption": "a man walks in .", "dialog": dialog},
                {"image_id": "GONEX", "summary": "", "caption": "", "dialog": gone},
            ],
        },
    )
    medium(folder / "Charades_v1_480" / "ABCDE.mp4")


def avsd_private(folder: Path) -> None:
    put(
        folder / "instruction_val.json",
        [talk({"video": "/far/AVSD/ABCDE.mp4"}, "<video>\nis he alone ?", "yes he is .")],
    )
    medium(folder / "videos" / "ABCDE.mp4")


def vggsound(folder: Path) -> None:
    clips = {
        "abcdefghijk_000030": "playing flute",
        "-bcdefghijk_000000": "dog barking, growling",
        "bbbbbbbbbbb_000120": "dog barking",
        "ccccccccccc_000001": "rain",
        "goneggggggg_000010": "rain",
    }
    table(folder / "test.csv", [(f"{name}.mp4", label) for name, label in clips.items()])
    table(
        folder / "stat.csv",
        [
            ("playing flute", 9, "music"),
            ("dog barking, growling", 9, "animals"),
            ("rain", 9, "nature"),
            ("dog barking", 9, "animals"),
            ("sea waves", 9, "nature"),
        ],
    )
    for name in list(clips)[:4]:
        medium(folder / "videos" / f"{name}.mp4")


def vggsound_all(folder: Path) -> None:
    table(
        folder / "vggsound.csv",
        [("abcdefghijk", 30, "dog barking, growling", "test"), ("trainingclip", 1, "rain", "train")],
    )
    medium(folder / "videos" / "abcdefghijk_000030.wav")


def vggsound_private(folder: Path) -> None:
    put(
        folder / "avssd_test.json", [talk({"video": "/far/vgg/abcdefghijk_000030.mp4"}, "<video>\nWhat is it?", "rain")]
    )
    medium(folder / "videos" / "abcdefghijk_000030.mp4")


def music_avqa_v2(folder: Path) -> None:
    """Balanced: most records have no question_id, and a question may end in a full-width mark."""
    records = [
        ("00000093", '["Audio-Visual", "Existential"]', "Is there a voiceover?", "[]", "yes", {"question_id": 1923}),
        (
            "tOcOiTFQYp4",
            '["Audio-Visual", "Counting"]',
            "How many sounding <Object> in the video？",
            '["erhu"]',
            "two",
            {},
        ),
        ("va00000001_flip", '["Visual", "Location"]', "What kind of instrument is it?", "[]", "acoustic_guitar", {}),
        ("gone", '["Audio", "Counting"]', "Is there a <Object> sound?", '["tuba"]', "no", {}),
    ]
    put(
        folder / "data" / "balance_full_set" / "test_balance.json",
        [
            {"video_id": v, "type": t, "question_content": q, "templ_values": values, "anser": a, **more}
            for v, t, q, values, a, more in records
        ],
    )
    for name in ("00000093", "tOcOiTFQYp4", "va00000001_flip"):
        medium(folder / "videos" / f"{name}.mp4")
