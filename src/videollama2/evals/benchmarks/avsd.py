"""AVSD: answers of a dialogue about a video. Published: a judge's accuracy and score, each question asked alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...data.annotations import Row, rows
from ..equivalence import polarity
from ..items import Loaded, Needed, Setting
from ..measures import words
from ..open_answers import OpenBenchmark
from ..sources import MediaFinder, annotation_file, conversation_records, loaded, path_tails

_UNDISCLOSED = "__UNDISCLOSED__"
_OFFICIAL = (
    "val*_set4DSTC7-AVSD.json",  # "val" in one release, "valid" in others
    "val*_set4DSTC10-AVSD.json",
    "mock_test_set4DSTC10-AVSD_from_DSTC*_singref.json",
    "test_set4DSTC8-AVSD.json",
    "test_set4DSTC7-AVSD.json",
)
_FOLDERS = ("videos", "Charades_v1_480", "Charades_v1", "Charades_vu17_test_480", "Charades_vu17_test", "")


class Avsd(OpenBenchmark):
    """Every turn of the validation dialogues whose answer is public; of test dialogues those with references.

    An answer that begins with yes or no is compared by that alone, the others by their words.
    """

    name, title = "avsd", "AVSD (audio-visual scene-aware dialogue)"
    source = "AlAmri et al., CVPR 2019; DSTC7, 8 and 10"
    needs = (
        Needed(
            path="val*_set4DSTC7-AVSD.json", what='official: {"dialogs": [{image_id, dialog: [{question, answer}]}]}'
        ),
        Needed(path="test_set4DSTC*-AVSD.json", what="or a test set; its last answers are undisclosed", required=False),
        Needed(path="lbl_*test_set4DSTC*.json", what="references of that test set, in the same form", required=False),
        Needed(path="instruction_val.json", what="or the original's: list of {video, conversations}", required=False),
        Needed(path="Charades_v1_480/<image_id>.mp4", what="the videos; also in videos/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Undisclosed answers are withheld unless there are references for them."""
        path, reformat = annotation_file(folder, setting, *_OFFICIAL, reformats=("instruction_val.json",))
        media = MediaFinder(folder, _FOLDERS)
        turns = _reformatted(path) if reformat else _official(path, _references(folder, path))
        items = [
            self.item(setting, origin, media.find(*names), id=id, question=question, truth=answers)
            for id, origin, names, question, answers in turns
        ]
        withheld = sum(not item.truth for item in items)
        notes = [f"{withheld} answers are undisclosed"] if withheld else []
        return loaded(items, path, *notes, published=17_870 if path.name.startswith("val") else None)

    def key_words(self, truth: Sequence[str]) -> Sequence[str]:
        """Yes or no, if every reference begins with one."""
        said = [polarity(words(answer)[0]) if words(answer) else None for answer in truth]
        return [found for found in said if found] if all(said) else truth


_Turn = tuple[str, str, tuple[str, ...], str, tuple[str, ...]]  # id, origin, names of the video, question, answers


def _official(path: Path, references: Mapping[str, tuple[str, ...]]) -> Iterator[_Turn]:
    for dialogue in rows(path, key="dialogs"):
        video = dialogue.text("image_id")
        for number, turn in enumerate(dialogue.rows("dialog"), 1):
            answer = turn.text("answer")
            answers = references.get(video, ()) if answer == _UNDISCLOSED else (answer,)
            yield f"{video}-{number}", turn.origin, (video,), turn.text("question"), answers


def _reformatted(path: Path) -> Iterator[_Turn]:
    for number, record in enumerate(conversation_records(path, "video"), 1):
        names = path_tails(record.path)
        question = Row({"question": record.question}, record.row.origin).text("question")
        yield f"{names[-1]}-{number}", record.row.origin, names, question, (record.answer,)


def _references(folder: Path, path: Path) -> Mapping[str, tuple[str, ...]]:
    """The answers of each dialogue's undisclosed last turn, by video, from files in the folder or below."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob(f"**/lbl_*{path.stem}*.json")):
        for dialogue in rows(file, key="dialogs"):
            known = found.setdefault(dialogue.text("image_id"), [])
            for turn in dialogue.rows("dialog")[-1:]:
                several = isinstance(turn.get("answer"), list)
                known.extend(turn.texts("answer") if several else (turn.text("answer"),))
    return {video: tuple(dict.fromkeys(answers)) for video, answers in found.items()}


BENCHMARKS = (Avsd(),)
