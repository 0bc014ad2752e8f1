"""Dialogues about videos, turn by turn, in the form of DSTC's files, and their references."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..data.annotations import Row, rows
from .sources import Items

_UNDISCLOSED = "__UNDISCLOSED__"


FILES = (
    "val*_set4DSTC7-AVSD.json",  # "val" in one release, "valid" in others
    "test_set4DSTC10-AVSD*multiref*.json",
    "val*_set4DSTC10-AVSD*.json",
    "mock_test_set4DSTC10-AVSD_from_DSTC*_singref.json",
    "test_set4DSTC10-AVSD*.json",
    "test_set4DSTC8-AVSD.json",
    "test_set4DSTC7-AVSD.json",
)
"""The official files with dialogues, in order of preference."""
VIDEO_FOLDERS = ("videos", "Charades_v1_480", "Charades_v1", "Charades_vu17_test_480", "Charades_vu17_test", "")


class DialogueTurn(NamedTuple):
    """One question of a dialogue. `answers`: every reference; none if the answer is withheld."""

    id: str
    row: Row
    answers: tuple[str, ...]
    last: bool


def turns(dialogue: Row, references: Mapping[str, tuple[str, ...]]) -> Iterator[DialogueTurn]:
    """The turns of a dialogue; of an undisclosed answer with its references, if there are any."""
    video, asked = dialogue.text("image_id"), dialogue.rows("dialog")
    for number, row in enumerate(asked, 1):
        answers = _answers(row)
        if answers == (_UNDISCLOSED,):
            answers = references.get(video, ())
        yield DialogueTurn(f"{video}-{number}", row, answers, number == len(asked))


def references(items: Items, path: Path) -> Mapping[str, tuple[str, ...]]:
    """The answers to each dialogue's undisclosed last turn, by video, from the files lbl_*NAME*.json."""
    found: dict[str, list[str]] = {}
    for file in sorted(items.data.path.glob(f"**/lbl_*{path.stem}*.json")):
        items.files.append(file)
        for dialogue in rows(file, key="dialogs"):
            with items.side("references that can't be read"):
                known = found.setdefault(dialogue.text("image_id"), [])
                for row in dialogue.rows("dialog")[-1:]:
                    known.extend(_answers(row))
    return {video: tuple(dict.fromkeys(answers)) for video, answers in found.items()}


def _answers(row: Row) -> tuple[str, ...]:
    several = row.problem is None and isinstance(row.get("answer"), list)
    return row.texts("answer") if several else (row.text("answer"),)
