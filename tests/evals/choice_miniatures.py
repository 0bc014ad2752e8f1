"""Miniatures of benchmarks with choices: the official files' names, fields and quirks; records and media of our own.

Each function writes one into a folder. Questions are one word, so that a fake engine's replies can be keyed by them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videollama2.evals.benchmarks.mvbench import BOUNDED, FRAMES, TASKS

from ..media import make

FOUR = ["cooking", "reading", "typing", "sweeping"]
LETTERED = [f"{letter}. {text.capitalize()}." for letter, text in zip("ABCD", FOUR, strict=True)]


class Media:
    """Copies of one clip and one sound, made once."""

    def __init__(self, folder: Path) -> None:
        self.clip = make.write(folder / "clip.mp4", 30, fps=10, sound=make.tone(3, 16000), rate=16000)
        self.sound = make.write(folder / "sound.wav", sound=make.tone(0.5, 16000), rate=16000, sound_codec="pcm_s16le")

    def put(self, *paths: Path) -> None:
        """A clip or a sound, by the suffix, at each path."""
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.sound if path.suffix == ".wav" else self.clip, path)


def write(path: Path, held: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(held if isinstance(held, str) else json.dumps(held), encoding="utf-8")
    return path


def egoschema(folder: Path, media: Media) -> None:
    """Six questions: five public answers, one missing clip, and an answer to a question that does not exist."""
    options = {f"option {i}": text for i, text in enumerate([*FOUR, "dancing"])}
    uids = [f"0aa{i}-demo" for i in range(6)]
    records = [
        {"q_uid": uid, "google_drive_id": "xyz", "question": f"Question{i}?", **options} for i, uid in enumerate(uids)
    ]
    write(folder / "questions.json", records)
    write(folder / "subset_answers.json", dict.fromkeys([*uids[:5], "0zz-demo"], 1))
    media.put(*(folder / "good_clips_git" / f"{uid}.mp4" for uid in [*uids[:4], uids[5]]))


def perception_test(folder: Path, media: Media, split: str = "valid") -> None:
    """Two videos, five questions; the answers are withheld in `test`, and one video is cut in `valid`."""

    def asked(number: int | str, area: str) -> dict[str, Any]:
        given = {"answer_id": 1} if split == "valid" else {}
        tags = {"area": area, "reasoning": "Descriptive", "tag": ["collision", "other"]}
        return {"id": number, "question": f"Question{number}?", "options": ["cup", "book", "pen"], **given, **tags}

    def about(video: str) -> dict[str, Any]:
        return {"split": split, "video_id": video, "frame_rate": 10.0, "num_frames": 30, "is_cup_game": False}

    held = {
        "video_12": {"metadata": about("video_12"), "mc_question": [asked(i, "Physics") for i in range(3)]},
        "video_13": {"metadata": about("video_13"), "mc_question": [asked(i, "Memory") for i in ("3", "4")]},
    }
    write(folder / f"mc_question_{split}.json", held)
    if split == "valid":
        write(folder / "cut_frame_mapping_valid.json", {"video_12": 15})
    media.put(folder / "videos" / "video_12.mp4", folder / "videos" / "video_13.mp4")


def mvbench(folder: Path, media: Media) -> None:
    """One question of each task, in its folder; a folder of images for episodic_reasoning; nturgbd has no media."""
    for number, (task, place) in enumerate(TASKS.items()):
        name = "clip.webm" if number % 2 else "clip.avi"
        place = place[0]
        if task == FRAMES:
            name = "castle_s01e01_seg02_clip_00"
            images = folder / "video" / place / name
            images.mkdir(parents=True)
            for i in range(1, 10):
                Image.fromarray(np.full((24, 32, 3), 20 * i, np.uint8)).save(images / f"{i:05}.jpg")
        elif place != "nturgbd":
            media.put(folder / "video" / place / name)
        record = {"video": name, "question": f"{task}?", "candidates": FOUR[: 2 + number % 3], "answer": "reading"}
        bounds = {"start": 0.5, "end": 2.0, "accurate_start": 0.6} if task in BOUNDED else {}
        write(folder / "json" / f"{task}.json", [{**record, **bounds}])


def video_mme_rows() -> list[dict[str, Any]]:
    """Of the Parquet file: a row per question; three videos, the last of which is missing."""
    return [
        {
            "video_id": f"{video:03}",
            "duration": duration,
            "domain": domain,
            "sub_category": "Law",
            "url": f"https://www.youtube.com/watch?v=abcdefgh_-{video}",
            "videoID": f"abcdefgh_-{video}",
            "question_id": f"{video:03}-{number}",
            "task_type": "OCR Problems" if number == 1 else "Counting Problem",
            "question": f"Question{video}{number}?",
            "options": LETTERED,
            "answer": "B",
        }
        for video, duration, domain in ((1, "short", "Knowledge"), (2, "medium", "Sports"), (3, "long", "Sports"))
        for number in (1, 2)
    ]


def video_mme(folder: Path, media: Media, form: str = "parquet") -> None:
    """As the re-hosted Parquet file, the official template, or the file that the original writes and reads."""
    found = video_mme_rows()
    if form == "parquet":
        import pyarrow
        import pyarrow.parquet

        path = folder / "videomme" / "test-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found), path)
    else:
        own = ("videoID", "url", "question_id", "task_type", "question", "options", "answer")
        videos: dict[str, dict[str, Any]] = {}
        for row in found:
            video = videos.setdefault(
                row["video_id"], {k: v for k, v in row.items() if k not in own} | {"questions": []}
            )
            options = {"options" if form == "template" else "choices": row["options"]}
            video["questions"].append({k: row[k] for k in own if k not in ("videoID", "url", "options")} | options)
            if form == "original":
                video |= {"youtube_id": row["videoID"], "url": row["url"], "missing": False}
        text = json.dumps(list(videos.values()), indent=1)
        # the published template ends its list with a comma
        write(folder / "video_mme_template.json", text.replace("}\n]", "},\n]") if form == "template" else text)
    names = [f"abcdefgh_-{i}" if form != "template" else f"{i:03}" for i in (1, 2)]
    media.put(*(folder / "videos" / f"{name}.mp4" for name in names))
    blocks = [
        ("00:00:00,000", "00:00:00,900", "<font color=white>First</font>\nline"),
        ("00:00:01,000", "00:00:02,500", "<i>Second</i>"),
        ("00:00:02,600", "00:00:03,000", "Third, at the end"),
    ]
    said = "\n\n".join(f"{i}\n{start} --> {end}\n{text}" for i, (start, end, text) in enumerate(blocks, 1))
    write(folder / "subtitles" / f"{names[0]}.srt", "\ufeff" + said + "\n")


def daily_omni(folder: Path, media: Media) -> None:
    """Five records in the three shapes that the file has."""
    base = {"Choice": [f"{letter}. {text}" for letter, text in zip("ABCD", FOUR, strict=True)], "Answer": "B"}
    end = {"video_category": "Education", "video_duration": "30s"}
    parents = {"content_parent_category": "No content_parent_category provided", "content_fine_category": "Crafts"}
    shapes = [parents, {**parents, "content_parent_category": "Sports"}, {"Explaination": "It is."}, {}, {}]
    write(
        folder / "qa.json",
        [
            {"Question": f"Question{i}?", **base, "video_id": f"abcdefghij{i % 4}", "Type": kind, **shape, **end}
            for i, (shape, kind) in enumerate(
                zip(shapes, ["Event Sequence", "Comparative", "Inference", "Reasoning", "Reasoning"], strict=True)
            )
        ],
    )
    media.put(*(folder / "Videos" / f"abcdefghij{i}" / f"abcdefghij{i}_video.mp4" for i in range(3)))
    media.put(*(folder / "Videos" / f"abcdefghij{i}" / f"abcdefghij{i}_audio.wav" for i in range(3)))


def worldsense(folder: Path, media: Media) -> None:
    """Two videos, three questions, one of them with three candidates."""

    def task(name: str, count: int = 4) -> dict[str, Any]:
        head = {"task_domain": "Recognition", "task_type": "Audio Counting", "question": f"{name}?"}
        return {**head, "candidates": LETTERED[:count], "answer": "B"}

    about = {"duration": "<1min", "domain": "Music", "sub_category": "swimming", "video_caption": "Water."}
    held = {
        "abcd": {**about, "audio_class": ["Music", "Event"], "task1": task("First"), "task2": task("Second", 3)},
        "efgh": {
            **about,
            "duration": ">8min",
            "audio_class": ["Speech"],
            "task1": task("Third"),
            "task2": task("Fourth"),
        },
    }
    write(folder / "worldsense_qa.json", held)
    media.put(folder / "videos" / "abcd.mp4", folder / "videos" / "efgh.mp4")


def avqa(folder: Path, media: Media) -> None:
    """Four records; one with an answer as text, one with a null among its choices, one without any."""
    given: list[Any] = [FOUR, FOUR, [FOUR[0], FOUR[1], None, ""], None]
    write(
        folder / "data" / "annotation" / "val_qa.json",
        [
            {
                "id": 5 + i,
                "video_name": f"abcdefghij{i}_000064",
                "video_id": 9001,
                "question_text": f"Question{i}?",
                "multi_choice": choices,
                "answer": "1" if i == 1 else 1,
                "question_relation": "Both",
                "question_type": "Happening",
            }
            for i, choices in enumerate(given)
        ],
    )
    media.put(*(folder / "videos" / f"abcdefghij{i}_000064.mp4" for i in range(4)))


def avhbench(folder: Path, media: Media) -> None:
    """Six questions, three of each label, and a caption."""
    tasks = ("Audio-driven Video Hallucination", "Video-driven Audio Hallucination", "AV Matching")
    records = [
        {"video_id": f"{i:05}", "task": task, "text": f"Question{i}?", "label": "Yes" if i % 2 == 0 else "No"}
        for i, task in enumerate(tasks * 2)
    ]
    caption = {"video_id": "00000", "task": "AV Captioning", "text": "Describe it.", "label": "A tone sounds."}
    write(folder / "QA.json", [*records, caption])
    media.put(*(folder / "videos" / f"{i:05}.mp4" for i in range(6)))


def cmm(folder: Path, media: Media, *, lines: bool = False) -> None:
    """Six questions; a video, a sound, and both; the archive's folder has another name than the paths."""
    paths = [
        ("./raw_files/a/1.mp4", None),
        (None, "./raw_files/b/1.wav"),
        ("./raw_files/c/1.mp4", "./raw_files/c/1.wav"),
    ]
    records = [
        {
            "category": "inter-modality_spurious_correlation" if i < 4 else "overrely_unimodal_priors",
            "sub_category": "audio-language" if i < 4 else "visual dominance",
            "modality": "audio",
            "granularity": "event-level",
            "correlation_type": "global_frequency",
            "video_path": paths[i // 2][0],
            "audio_path": paths[i // 2][1],
            "question": f"Question{i}? Answer with yes or no.",
            "answer": "yes" if i % 2 == 0 else "no",
        }
        for i in range(6)
    ]
    write(folder / "all_data_final_reorg.json", "\n".join(map(json.dumps, records)) if lines else records)
    media.put(*(folder / f"reorg_{path[2:]}" for pair in paths for path in pair if path))


def avut(folder: Path, media: Media) -> None:
    """Four records, the last of which has a blank option."""
    records = [
        {
            "video_id": 7,
            "url": f"https://www.youtube.com/shorts/abcdefghij{i}",
            "video_type": "vlog",
            "task_type": "Audio Content Counting" if i % 2 else "Audio OCR Matching",
            "question": f"Question{i}?",
            **dict(zip(("option_A", "option_B", "option_C", "option_D"), FOUR, strict=True)),
            "answer": "B",
            "video_path": f"data/abcdefghij{i}.mp4",
            "QA_id": 450 + i,
        }
        for i in range(4)
    ]
    records[3] |= {"option_C": "", "answer": "C"}
    write(folder / "AV_Human_data.json", records)
    media.put(*(folder / "data" / f"abcdefghij{i}.mp4" for i in range(3)))


def video_holmes(folder: Path, media: Media) -> None:
    """Four records with options by letter, of one film."""
    records = [
        {
            "video ID": "abcdefghijk",
            "Question ID": i,
            "Question Type": ("SR", "TCI")[i % 2],
            "Question": f"Question{i}?",
            "Options": dict(zip("ABCD", FOUR, strict=True)) | ({"E": "nothing", "F": "all"} if i == 1 else {}),
            "Answer": "B",
            "Explanation": "It is.",
        }
        for i in range(4)
    ]
    write(folder / "Benchmark" / "test_Video-Holmes.json", records)
    write(folder / "Benchmark" / "train_Video-Holmes.json", records[:1])
    media.put(folder / "Benchmark" / "videos_cropped" / "abcdefghijk.mp4")


def future_omni(folder: Path, media: Media) -> None:
    """Four records, in both forms that the authors publish."""
    options = [f"{letter}. {text}" for letter, text in zip("ABCDE", [*FOUR, "nothing"], strict=True)]
    base = {"options": options, "answer": "B"}
    named = {"video_domain": "education", "audio_type": "Sound", "forecasting_pattern": "Causal"}
    records = [
        {"id": 0, "question": "Question0?", **base, "original_video": "uu8c.mp4", "split_point": 2, **named},
        {"id": 1, "question": "Question1?", **base, "original_video": "uu8c.mp4", "split_point": 1, **named},
        {"qid": 2, "question": "Question2?", **base, "source": "test.json", "video": "/far/x.mp4", "seconds": 1.5},
        {"id": 3, "question": "Question3?", **base, "original_video": "gone.mp4", "split_point": 1, **named},
    ]
    write(folder / "futureomni_test.json", records)
    media.put(folder / "videos" / "0.mp4", folder / "videos" / "uu8c.mp4", folder / "videos" / "2.mp4")


def lvomnibench(folder: Path, media: Media) -> None:
    """Four records about two videos."""
    records = [
        {
            "video_id": f"video_{i // 2}",
            "question": f"Question{i}?",
            "options": [f"{letter}. {text}" for letter, text in zip("ABCD", FOUR, strict=True)],
            "correct_option": "B",
            "question_type": "Counting",
            "audio_type": "Speech",
            "difficulty": "easy",
            "video_category": "Sports",
        }
        for i in range(4)
    ]
    write(folder / "data.json", records)
    media.put(folder / "videos" / "video_0.mp4")


def miniature(name: str, folder: Path) -> None:
    """The miniature of a benchmark with choices, without any media."""
    makers: dict[str, Any] = {
        "egoschema": egoschema, "egoschema-subset": egoschema, "perception-test-valid": perception_test,
        "mvbench": mvbench, "video-mme": _template, "video-mme-subtitles": _template, "daily-omni": daily_omni,
        "worldsense": worldsense, "avqa": avqa, "avhbench": avhbench, "avhbench-captions": avhbench, "cmm": cmm,
        "avut": avut, "video-holmes": video_holmes, "future-omni": future_omni, "lvomnibench": lvomnibench,
    }  # fmt: skip
    makers[name](folder, _NoMedia())


def _template(folder: Path, media: Media) -> None:
    video_mme(folder, media, "template")


class _NoMedia(Media):
    def __init__(self) -> None:
        pass

    def put(self, *paths: Path) -> None:
        pass
