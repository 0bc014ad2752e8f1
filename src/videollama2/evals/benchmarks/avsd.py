"""AVSD: answers of a dialogue about a video. Published: a judge's accuracy and score, each question asked alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..annotations import Row, rows
from ..benchmark import Benchmark
from ..equivalence import polarity
from ..items import Item, Kind, Loaded, Needed, Setting
from ..measures import words
from ..open_answers import OpenAnswers
from ..sources import Shelf, annotation_file, exchanges, loaded, reply_limit, tails

_UNDISCLOSED = "__UNDISCLOSED__"
_OFFICIAL = (
    "val*_set4DSTC7-AVSD.json",  # "val" in one place, "valid" in others
    "val*_set4DSTC10-AVSD.json",
    "mock_test_set4DSTC10-AVSD_from_DSTC*_singref.json",
    "test_set4DSTC8-AVSD.json",
    "test_set4DSTC7-AVSD.json",
)
_FOLDERS = ("videos", "Charades_v1_480", "Charades_v1", "Charades_vu17_test_480", "Charades_vu17_test", "")
_PUBLISHED = 17_870  # answers of the validation dialogues


class Avsd(OpenAnswers):
    """Every turn of the validation dialogues whose answer is public; of the test dialogues those with references.

    An answer that begins with yes or no is compared by that without a judge; the others by their words.
    """

    name, title = "avsd", "AVSD (audio-visual scene-aware dialogue)"
    source = "AlAmri et al., CVPR 2019; DSTC7, 8 and 10"
    kind: Kind = "open"
    metric = "accuracy"
    needs: tuple[Needed, ...] = (
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
        path, private = annotation_file(folder, setting, official=_OFFICIAL, private=("instruction_val.json",))
        shelf = Shelf(folder, _FOLDERS)
        items = []
        for id_, row, names, answers in _private(path) if private else _official(path, _references(folder, path)):
            medium, missing = shelf.find(*names)
            items.append(
                Item(
                    id=id_,
                    origin=row.origin,
                    question=row.text("question"),
                    media=medium,
                    missing=missing,
                    truth=answers,
                    max_new_tokens=reply_limit(setting, 128),
                )
            )
        withheld = sum(not item.truth for item in items)
        notes = [f"{withheld} answers are undisclosed"] if withheld else []
        return loaded(items, path, *notes, published=_PUBLISHED if path.name.startswith("val") else None)

    def short(self, truth: Sequence[str]) -> Sequence[str]:
        """Yes or no, where every reference begins with one."""
        said = [polarity(words(answer)[0]) if words(answer) else None for answer in truth]
        return [found for found in said if found] if all(said) else truth


_Turn = tuple[str, Row, tuple[str, ...], tuple[str, ...]]


def _official(path: Path, references: Mapping[str, tuple[str, ...]]) -> Iterator[_Turn]:
    for dialogue in rows(path, key="dialogs"):
        video = dialogue.text("image_id")
        for number, turn in enumerate(dialogue.rows("dialog"), 1):
            answer = turn.text("answer")
            answers = references.get(video, ()) if answer == _UNDISCLOSED else (answer,)
            yield f"{video}-{number}", turn, (video,), answers


def _private(path: Path) -> Iterator[_Turn]:
    for number, exchange in enumerate(exchanges(path, "video"), 1):
        row = Row({"question": exchange.question}, exchange.row.origin)
        yield f"{tails(exchange.medium)[-1]}-{number}", row, tails(exchange.medium), (exchange.answer,)


def _references(folder: Path, path: Path) -> Mapping[str, tuple[str, ...]]:
    """By the dialogue's video, the answers of the undisclosed turn: of the last turn, in a file beside or below."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob(f"**/lbl_*{path.stem}*.json")):
        for dialogue in rows(file, key="dialogs"):
            last = dialogue.rows("dialog")[-1:]
            answers = [
                turn.texts("answer") if isinstance(turn.get("answer"), list) else (turn.text("answer"),)
                for turn in last
            ]
            found.setdefault(dialogue.text("image_id"), []).extend(answer for several in answers for answer in several)
    return {video: tuple(dict.fromkeys(answers)) for video, answers in found.items()}


BENCHMARKS: tuple[Benchmark, ...] = (Avsd(),)
