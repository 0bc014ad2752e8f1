"""AVUT: audio-centric questions about YouTube videos, without text shortcuts.

Files: tsinghua-ee/AVUTBenchmark on the hub: AV_Human_data.json (fields as in its data set viewer) and data/*.mp4.
AV_Gemini_data.json, whose questions a model wrote, is not read.
"""

from pathlib import Path

from ...data.annotations import Row, rows
from ..choices import ChoiceBenchmark, categories_of, letter_of
from ..extract import LETTERS
from ..items import Loaded, Needed, Setting
from ..sources import Items, path_tails


class Avut(ChoiceBenchmark):
    """Four options, in six tasks. One record of the published file has a blank option; it is asked as it stands."""

    name, title, published = "avut", "AVUT", 1734
    source = "Yang et al., EMNLP 2025; tsinghua-ee/AVUTBenchmark"
    official = "No scorer was found: both settings read replies by the strict rules."
    needs = (
        Needed(
            path="AV_Human_data.json",
            what="list of {QA_id, video_id, video_path, task_type, video_type, question, option_A … option_D, answer}",
        ),
        Needed(path="data/<YouTube id>.mp4", what="the videos, as video_path names them", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question."""
        items = Items(folder, setting)
        keys = ("QA_id", "video_path", "question", "option_A", "answer")
        path = items.file("AV_Human_data.json", "AV_Human_filtered_data.json", keys=keys)
        media = items.media("", "data", "videos")
        for row in rows(path):
            with items.record(row):
                choices = _options(row)
                if "" in choices:
                    items.repair("questions with a blank option", row.origin)
                items.add(
                    self.choice(
                        setting, row, media.find(*path_tails(row.text("video_path"))), id=row.text("QA_id"),
                        question=row.text("question"), choices=choices, letter=letter_of(row, "answer", choices),
                        categories=categories_of(row, task="task_type", video="video_type"),
                    )
                )  # fmt: skip
        return items.loaded(published=self.published)


def _options(row: Row) -> tuple[str, ...]:
    keys = [key for letter in LETTERS if (key := f"option_{letter}") in row.data and row.get(key) is not None]
    if sum(map(row.has, keys)) < 2:
        raise row.error(f"expected option_A, option_B, …; the record has {', '.join(map(str, row.data)):.200}.")
    return tuple(row.text(key) if row.has(key) else "" for key in keys)


BENCHMARKS = (Avut(),)
