"""MUSIC-AVQA: one word about the audio and video of a performance. Published: exact match, per type of question."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...data.annotations import Row, rows
from ..closed_sets import ClassBenchmark, ClosedSet
from ..extract import NUMBER_WORDS
from ..items import Loaded, Needed, Setting
from ..sources import MediaFinder, annotation_file, conversation_records, loaded, path_tails

_ALWAYS = (*NUMBER_WORDS[:11], "more than ten", "yes", "no")  # classes even if no item has them for its answer
_PLACE = re.compile(r"<[A-Za-z]+>")
_FILES = tuple(f"{f}avqa-test.json" for f in ("data/json_update/", "json_update/", "data/json/", "json/", ""))
_FOLDERS = ("videos", "video", "MUSIC-AVQA-videos-Real", "MUSIC-AVQA-videos-Synthetic", "")
_Question = tuple[str, str, tuple[str, ...], str, str, Mapping[str, str]]
"""id, origin, names of the video, question, answer, categories"""


class MusicAvqa(ClassBenchmark):
    """The test split, of the corrected set if it is there. The closed set is all answers of the file."""

    name, title = "music-avqa", "MUSIC-AVQA"
    source = "Li et al., CVPR 2022"
    needs = (
        Needed(path="data/json_update/avqa-test.json", what="official, corrected: 9,129 questions"),
        Needed(path="data/json/avqa-test.json", what="or as first published: 9,185", required=False),
        Needed(path="AVQA_music_test.json", what="or the original's: list of {video, conversations}", required=False),
        Needed(path="videos/<video_id>.mp4", what="the videos, real and synthetic", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Templates are filled; under `paper` as the official code does, which loses a "?"."""
        path, reformat = annotation_file(folder, setting, *_FILES, reformats=("AVQA_music_test.json",))
        questions = list(_reformatted(path) if reformat else _official(path, setting))
        classes = ClosedSet.of([*_ALWAYS, *(answer for *_, answer, _ in questions)])
        media = MediaFinder(folder, _FOLDERS)
        items = [
            self.item(
                setting, origin, media.find(*names), id=id, question=question, truth=(answer,), categories=categories,
                prepared=classes,
            )
            for id, origin, names, question, answer, categories in questions
        ]  # fmt: skip
        corrected = path.parent.name == "json_update"
        notes = () if reformat else ("the corrected set" if corrected else "not the corrected set (json_update)",)
        return loaded(items, path, *notes, published=9129 if corrected or reformat else 9185)


def _official(path: Path, setting: Setting) -> Iterator[_Question]:
    for row in rows(path):
        types = row.texts("type")
        if len(types) != 2:
            raise row.error(f"type: expected a modality and a kind of question, got {row.get('type')!r:.60}")
        id, names, question = row.text("question_id"), (row.text("video_id"),), _filled(row, setting)
        answer = row.text("anser", "answer")  # misspelt as published
        yield id, row.origin, names, question, answer, {"type": " ".join(types), "modality": types[0]}


def _reformatted(path: Path) -> Iterator[_Question]:
    for number, record in enumerate(conversation_records(path, "video"), 1):
        id = record.row.text("id") if record.row.has("id") else str(number)
        yield id, record.row.origin, path_tails(record.path), record.question, record.answer.strip(), {}


def _filled(row: Row, setting: Setting) -> str:
    """The question's template with its values, from left to right."""
    template = row.text("question_content")
    places = _PLACE.findall(template)
    # a list without values is written as "[]"
    values = row.texts("templ_values") if places else ()
    if len(values) != len(places):
        raise row.error(f"templ_values: expected {len(places)} values, for {', '.join(places)}, got {len(values)}")
    left = iter(values)
    if setting == "paper":
        return " ".join(next(left) if "<" in word else word for word in template.split(" "))
    return _PLACE.sub(lambda _: next(left), template)


BENCHMARKS = (MusicAvqa(),)
