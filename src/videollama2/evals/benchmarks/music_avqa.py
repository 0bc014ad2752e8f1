"""MUSIC-AVQA: one word about the audio and video of a performance. Published: exact match, per type of question.

Files: github.com/GeWu-Lab/MUSIC-AVQA, data/json_update (corrected) or data/json; and v2, in which answers are balanced:
github.com/DragonLiu1995/MUSIC-AVQA-v2.0, data/balance_full_set and data/bias_set.
"""

from pathlib import Path

from ...data.annotations import Row, rows
from ...data.official import filled_template
from ...errors import DataError
from ..closed_sets import ClassBenchmark, with_classes
from ..extract import NUMBER_WORDS
from ..items import Loaded, Needed, Setting
from ..sources import Items, conversation_record, path_tails

_ALWAYS = (*NUMBER_WORDS[:11], "more than ten", "yes", "no")  # classes even if no item has them for its answer
_V1 = ("data/json_update/avqa-test.json", "json_update/avqa-test.json", "data/json/avqa-test.json", "avqa-test.json")
_V2 = ("data/balance_full_set/test_balance.json", "test_balance.json", *_V1)
_MEDIA = Needed(path="videos/<video_id>.mp4", what="the videos, real and synthetic", required=False, media=True)


class MusicAvqa(ClassBenchmark):
    """The test split. The closed set is all answers of the file."""

    official = (
        "The authors' code scores a classifier over 42 answers. The original's scorer compares in capitals: “2” is not "
        "“two”. Under `paper`, templates are filled as officially, which loses a glued “?”."
    )

    def __init__(self, version: int) -> None:
        """`version`: 1, of which the corrected set is preferred; or 2, the balanced set."""
        self._version = version
        self.name, self.title = ("music-avqa", "MUSIC-AVQA") if version == 1 else ("music-avqa-v2", "MUSIC-AVQA v2")
        self.source = "Li et al., CVPR 2022" if version == 1 else "Liu et al., WACV 2024"
        self.needs = (
            Needed(path=_V1[0], what="official, corrected: 9,129 questions"),
            Needed(path=_V1[2], what="or as first published: 9,185", required=False),
            Needed(path="AVQA_music_test.json", what="or the original's: {video, conversations}", required=False),
            _MEDIA,
        )  # fmt: skip
        if version == 2:
            what = "list of {video_id, type, question_content, templ_values, anser}; question_id is often missing"
            self.needs = (Needed(path=_V2[0], what=what), _MEDIA)

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question, whose template is filled."""
        items, keys = Items(folder, setting), ("video_id", "question_content", "templ_values")
        if self._version == 1:
            path, reformat = items.file_or_reformat(*_V1, reformats=("AVQA_music_test.json",), keys=keys)
        else:
            path, reformat = items.file(*_V2, keys=keys), False
        records = rows(path)
        of_v1 = any(path.match(name) for name in _V1) and all(row.problem or row.has("question_id") for row in records)
        if self._version == 2 and of_v1:
            raise DataError(f"{path}: all records have a question_id, so this is v1; expected {_V2[0]} of v2.")
        media = items.media("videos", "video", "MUSIC-AVQA-videos-Real", "MUSIC-AVQA-videos-Synthetic", "")
        for number, row in enumerate(records, 1):
            with items.record(row):
                if reformat:
                    record = conversation_record(row, "video")
                    names, question, answer, kinds = path_tails(record.path), record.question, record.answer.strip(), {}
                else:
                    names, kinds = (row.text("video_id"),), _kinds(row)
                    question = filled_template(row, "question_content", "templ_values", by_word=setting == "paper")
                    answer = row.text("anser", "answer")  # misspelt as published
                id = row.text("question_id", "id") if row.has("question_id") or row.has("id") else str(number)
                items.add(
                    self.item(
                        setting, row.origin, media.find(*names), id=id, question=question, truth=(answer,),
                        categories=kinds,
                    )
                )  # fmt: skip
        corrected = path.parent.name == "json_update"
        if self._version == 1 and not reformat:
            items.notes.append("the corrected set" if corrected else "not the corrected set (json_update)")
        published = None if self._version == 2 else 9129 if corrected or reformat else 9185
        return with_classes(items.loaded(published=published), _ALWAYS)


def _kinds(row: Row) -> dict[str, str]:
    types = row.texts("type")
    if len(types) != 2:
        raise row.error(f"type: expected a modality and a kind of question, got {row.get('type')!r:.60}.")
    return {"type": " ".join(types), "modality": types[0]}


BENCHMARKS = (MusicAvqa(1), MusicAvqa(2))
