"""Copies of benchmarks in other layouts, as the records that their authors publish: a table with a row per question.

    lmms-eval     Parquet of lmms-lab's copies on the hub; options carry letters ("A. Exit")
    VLMEvalKit    .tsv files that it writes from the authors' files; lists are written as text

A copy whose rows have the authors' fields, or further names for some, needs nothing here: its loader lists the names.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..data.annotations import Row
from ..errors import DataError

EGOSCHEMA = ("question_idx", "video_idx", "question", "option")
PERCEPTION_TEST = ("video_name", "question_id", "answer_id", "options")
MVBENCH = ("task_type", "candidates", "data_type")
WORLDSENSE = ("video", "candidates", "audio_class", "task_domain")
_VIDEO_CHATGPT = {"Q": "question", "Q1": "question_1", "Q2": "question_2", "A": "answer"}


def by_video(found: Sequence[Row]) -> list[tuple[str, Row]]:
    """Perception Test: the questions of each video, as its record. A row without a video is a record with a problem."""
    videos: dict[str, list[Row]] = {}
    for row in found:
        named = row.problem is None and row.has("video_name")
        videos.setdefault(row.text("video_name") if named else row.origin, []).append(row)
    return [
        (name, own[0] if own[0].problem else Row({"mc_question": [dict(row.data) for row in own]}, own[0].origin))
        for name, own in videos.items()
    ]


def by_task(found: Sequence[Row], tasks: Sequence[str]) -> dict[str, list[Row]]:
    """MVBench: the records of each task; one whose task is unknown is a problem of the first.

    The table's `prefix` is a folder of the machine that wrote it, and is not used.
    """
    records: dict[str, list[Row]] = {}
    for row in found:
        try:
            task = re.sub(r"\W", "_", row.text("task_type").lower())
            if task not in tasks:
                raise row.error(f"task_type: expected a task of MVBench, got {row.text('task_type')!r:.60}")
        except DataError as error:
            task, row = tasks[0], Row({}, row.origin, str(error).removeprefix(f"{row.origin}: "))
        records.setdefault(task, []).append(row)
    return records


def authors_pairs(found: Sequence[Row]) -> list[Row]:
    """Video-ChatGPT: records {Q, A} or {Q1, Q2, A}.

    The copy has a row for each question of a pair: those about one video with the same answer are paired in order.
    """
    if any(row.problem or row.has("Q") or row.has("Q1") for row in found):
        return list(found)
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    origins: dict[tuple[Any, ...], str] = {}
    seen: Counter[tuple[Any, ...]] = Counter()
    for row in found:
        for key in ("Q", "Q1", "Q2"):
            question = row.get(_VIDEO_CHATGPT[key])
            if question in (None, "", "None"):  # of a pair, the other question
                continue
            about = (row.origin,) if key == "Q" else (row.get("video_name"), row.get("answer"))
            seen[(key, *about)] += 1
            place = (*about, seen[(key, *about)])
            record = records.setdefault(place, {"video_name": row.get("video_name"), "A": row.get("answer")})
            record[key] = question
            origins.setdefault(place, row.origin)
    return [Row(record, origins[place]) for place, record in records.items()]
