"""AVQA: questions about the sounds and pictures of daily scenes. MUSIC-AVQA, which some call AVQA, is another set."""

from pathlib import Path

from .. import prompts
from ..annotations import Row, first_existing, rows
from ..benchmark import Benchmark
from ..choices import Choices, columns, letter_of_index
from ..items import Item, Loaded, Needed, Setting
from ..sources import Shelf, loaded, reply_limit

_NULL = "NULL"  # what the official loader puts in the place of a choice that is none
_USUAL = 4


class Avqa(Choices):
    """Four options, clips of VGGSound. There is no test split: published results are of `val`.

    The official code scores classes of a classifier; the paper's question with options is asked here.
    """

    name, title = "avqa", "AVQA"
    source = "Yang et al., ACM MM 2022"
    needs: tuple[Needed, ...] = (
        Needed(
            path="data/annotation/val_qa.json",
            what="list of {id, video_name, question_text, multi_choice, answer, question_type, question_relation}",
        ),
        Needed(
            path="videos/<video_name>.mp4", what="the clips, <YouTube id>_<six digits of the start>", required=False
        ),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record."""
        path = first_existing(
            folder, "data/annotation/val_qa.json", "val_qa.json", "annotation/val_qa.json", "*/val_qa.json"
        )
        shelf = Shelf(folder, ("videos", "video", ""))
        items, bare = [], 0
        for number, row in enumerate(rows(path), 1):
            medium, missing = shelf.find(row.text("video_name"))
            choices = _choices(row)
            bare += _NULL in choices
            items.append(
                Item(
                    id=row.text("id") if row.has("id") else str(number),
                    origin=row.origin,
                    question=prompts.asked(row.text("question_text"), choices),
                    media=medium,
                    missing=missing,
                    truth=(letter_of_index(row, row.number("answer"), choices),),
                    choices=choices,
                    categories=columns(row, type="question_type", relation="question_relation"),
                    max_new_tokens=reply_limit(setting, 64),
                )
            )
        notes = [f"{bare} questions lack choices, which are shown as {_NULL}, as officially"] if bare else []
        return loaded(items, path, *notes)


def _choices(row: Row) -> tuple[str, ...]:
    held = row.get("multi_choice") or [None] * _USUAL
    if not isinstance(held, list):
        return row.texts("multi_choice")
    filled = [_NULL if choice is None or choice == "" else choice for choice in held]
    return Row({"multi_choice": filled}, row.origin).texts("multi_choice")


BENCHMARKS: tuple[Benchmark, ...] = (Avqa(),)
