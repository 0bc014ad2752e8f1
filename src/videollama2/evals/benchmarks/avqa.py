"""AVQA: questions about the audio and video of daily scenes. Some call MUSIC-AVQA by this name, too.

Files: github.com/AlyssaYoung/AVQA, data/annotation/; the clips are those of VGGSound.
"""

from pathlib import Path

from ...data.annotations import Row, rows
from ..choices import ChoiceBenchmark, categories_of, letter_of_index
from ..items import Loaded, Needed, Setting
from ..sources import Items

_NULL = "NULL"  # what the official loader shows for an absent choice
_USUAL = 4


class Avqa(ChoiceBenchmark):
    """Four options about clips of VGGSound. There is no test split: published results are of `val`."""

    name, title = "avqa", "AVQA"
    source = "Yang et al., ACM MM 2022"
    official = (
        "The authors' code scores a classifier over all answers; here the paper's question with options is asked."
    )
    needs = (
        Needed(
            path="data/annotation/val_qa.json",
            what="list of {id, video_name, question_text, multi_choice, answer, question_type, question_relation}",
        ),
        Needed(
            path="data/video/<video_name>.mp4", what="the clips, <YouTube id>_<six digits of the start>; also videos/",
            required=False, media=True,
        ),
    )  # fmt: skip

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record."""
        items = Items(folder, setting)
        path = items.file("data/annotation/val_qa.json", "val_qa.json", keys=("video_name", "multi_choice"))
        media = items.media("data/video", "data/videos", "videos", "video", "")
        for number, row in enumerate(rows(path), 1):
            with items.record(row):
                choices = _choices(row)
                if _NULL in choices:
                    items.repair(f"questions without some choices, shown as {_NULL}, as officially", row.origin)
                items.add(
                    self.choice(
                        setting, row, media.find(row.text("video_name")),
                        id=row.text("id") if row.has("id") else str(number), question=row.text("question_text"),
                        choices=choices, letter=letter_of_index(row, row.number("answer"), choices),
                        categories=categories_of(row, type="question_type", relation="question_relation"),
                    )
                )  # fmt: skip
        return items.loaded()


def _choices(row: Row) -> tuple[str, ...]:
    held = row.get("multi_choice") if row.has("multi_choice") else None
    held = held or [None] * _USUAL
    if not isinstance(held, list):
        return row.texts("multi_choice")
    filled = [_NULL if choice is None or choice == "" else choice for choice in held]
    return Row({"multi_choice": filled}, row.origin).texts("multi_choice")


BENCHMARKS = (Avqa(),)
