"""AVHBench: is audio made up from the video, or video from the audio? Yes-or-no questions, and captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...data.annotations import Row, first_existing, rows
from ..benchmark import accuracy, scored
from ..choices import YesNoBenchmark, categories_of, filled, yes_or_no
from ..items import Loaded, Needed, Outcome, Result, Setting
from ..open_answers import CaptionBenchmark, with_corpus
from ..sources import MediaFinder, loaded

_QUESTION = "{question}\nAnswer with yes or no."  # the questions don't say how to answer
_CAPTIONS = "AV Captioning"
_TASKS = ("Audio-driven Video Hallucination", "Video-driven Audio Hallucination", "AV Matching", _CAPTIONS)
_FILES = ("QA.json", "qa.json", "AVHBench*.json", "avhbench*.json", "*/QA.json", "*.json")
_SOURCE = "Sung-Bin et al., ICLR 2025"
_NEEDS = (
    Needed(path="QA.json", what="list of {video_id, task, text, label}; any name ending in .json"),
    Needed(path="videos/<video_id>.mp4", what="the videos", required=False),
)


class AvhBench(YesNoBenchmark):
    """Yes-or-no questions. A model that hallucinates says yes too often."""

    name, title, source, needs = "avhbench", "AVHBench", _SOURCE, _NEEDS

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question; records that ask for captions belong to avhbench-captions, and are counted."""
        path, records = _records(folder)
        media = MediaFinder(folder, ("videos", "video", ""))
        items = [
            self.item(
                setting, row.origin, media.find(row.text("video_id")), id=id,
                question=filled(_QUESTION, question=row.text("text")), truth=(yes_or_no(row, "label"),),
                categories=categories_of(row, task="task"),
            )
            for id, task, row in records
            if task != _CAPTIONS
        ]  # fmt: skip
        captions = len(records) - len(items)
        notes = [f"{captions} records ask for captions: avhbench-captions"] if captions else []
        return loaded(items, path, *notes)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; precision, recall and f1 of yes; yes_share, of all items. An unparsable reply is not a yes."""
        known = scored(results)
        if not known:
            return {}
        said = sum(result.read == "yes" for result in known)
        meant = sum("yes" in result.truth for result in known)
        both = sum(result.outcome is Outcome.RIGHT and result.read == "yes" for result in known)
        return {
            "accuracy": accuracy(known),
            "precision": both / said if said else 0.0,
            "recall": both / meant if meant else 0.0,
            "f1": 2 * both / (said + meant) if said + meant else 0.0,
            "yes_share": said / len(known),
        }


class AvhBenchCaptions(CaptionBenchmark):
    """Captions of both modalities, against one reference each."""

    name, title, source, needs = "avhbench-captions", "AVHBench, captions", _SOURCE, _NEEDS
    reply_tokens = 256

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record that asks for a caption."""
        path, records = _records(folder)
        media = MediaFinder(folder, ("videos", "video", ""))
        items = [
            self.item(
                setting, row.origin, media.find(row.text("video_id")), id=id, question=row.text("text"),
                truth=(row.text("label"),), categories=categories_of(row, task="task"),
            )
            for id, task, row in records
            if task == _CAPTIONS
        ]  # fmt: skip
        return loaded(with_corpus(items), path)


def _records(folder: Path) -> tuple[Path, list[tuple[str, str, Row]]]:
    """The file, and the id and task of each record."""
    path = first_existing(folder, *_FILES)
    return path, [(f"{number}/{row.text('video_id')}", _task(row), row) for number, row in enumerate(rows(path), 1)]


def _task(row: Row) -> str:
    task = row.text("task").strip()
    if task not in _TASKS:
        trained = "; that is a task of the training file" if task.startswith("AV Hallucination") else ""
        raise row.error(f"task: expected one of {', '.join(_TASKS)}, got {task!r:.60}{trained}")
    return task


BENCHMARKS = (AvhBench(), AvhBenchCaptions())
