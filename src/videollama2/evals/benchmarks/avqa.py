"""AVQA: questions about the audio and video of daily scenes. Some call MUSIC-AVQA by this name, too."""

from pathlib import Path

from ...data.annotations import Row, first_existing, rows
from ..choices import ChoiceBenchmark, categories_of, letter_of_index
from ..items import Loaded, Needed, Setting
from ..sources import MediaFinder, loaded

_NULL = "NULL"  # what the official loader shows for an absent choice
_USUAL = 4
_FILE = "val_qa.json"


class Avqa(ChoiceBenchmark):
    """Four options about clips of VGGSound. There is no test split: published results are of `val`.

    The official code scores a classifier's classes; here the paper's question with options is asked.
    """

    name, title = "avqa", "AVQA"
    source = "Yang et al., ACM MM 2022"
    needs = (
        Needed(
            path=f"data/annotation/{_FILE}",
            what="list of {id, video_name, question_text, multi_choice, answer, question_type, question_relation}",
        ),
        Needed(
            path="videos/<video_name>.mp4", what="the clips, <YouTube id>_<six digits of the start>", required=False
        ),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record."""
        path = first_existing(folder, f"data/annotation/{_FILE}", _FILE, f"annotation/{_FILE}", f"*/{_FILE}")
        media = MediaFinder(folder, ("videos", "video", ""))
        items = [
            self.choice(
                setting, row, media.find(row.text("video_name")), id=row.text("id") if row.has("id") else str(number),
                question=row.text("question_text"), choices=choices,
                letter=letter_of_index(row, row.number("answer"), choices),
                categories=categories_of(row, type="question_type", relation="question_relation"),
            )
            for number, row in enumerate(rows(path), 1)
            for choices in [_choices(row)]
        ]  # fmt: skip
        incomplete = sum(_NULL in item.choices for item in items)
        notes = [f"{incomplete} questions lack choices, shown as {_NULL}, as officially"] if incomplete else []
        return loaded(items, path, *notes)


def _choices(row: Row) -> tuple[str, ...]:
    held = row.get("multi_choice") or [None] * _USUAL
    if not isinstance(held, list):
        return row.texts("multi_choice")
    filled = [_NULL if choice is None or choice == "" else choice for choice in held]
    return Row({"multi_choice": filled}, row.origin).texts("multi_choice")


BENCHMARKS = (Avqa(),)
