"""AVHBench: is what is heard made to be seen, and what is seen to be heard? Yes and no, and captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import prompts
from ..annotations import Row, first_existing, rows
from ..benchmark import Benchmark
from ..choices import YesNo, columns, scored, share_right
from ..items import Item, Kind, Loaded, Needed, Outcome, Result, Setting
from ..open_answers import Captions, with_corpus
from ..sources import Shelf, loaded, reply_limit

_CAPTIONS = "AV Captioning"
_TASKS = ("Audio-driven Video Hallucination", "Video-driven Audio Hallucination", "AV Matching", _CAPTIONS)
_FILES = ("QA.json", "qa.json", "AVHBench*.json", "avhbench*.json", "*/QA.json", "*.json")
_NEEDS = (
    Needed(path="QA.json", what="list of {video_id, task, text, label}; any name ending in .json"),
    Needed(path="videos/<video_id>.mp4", what="the videos", required=False),
)


class AvhBench(YesNo):
    """Questions with yes and no. Yes is what is looked for: hallucinating says it too often."""

    name, title = "avhbench", "AVHBench"
    source = "Sung-Bin et al., ICLR 2025"
    needs: tuple[Needed, ...] = _NEEDS

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question; the records that ask for captions are left to avhbench-captions, and counted."""
        path, items, captions = first_existing(folder, *_FILES), [], 0
        shelf = Shelf(folder, ("videos", "video", ""))
        for number, row in enumerate(rows(path), 1):
            if _task(row) == _CAPTIONS:
                captions += 1
                continue
            label = row.text("label").strip().lower()
            if label not in ("yes", "no"):
                raise row.error(f"label is {row.text('label')!r:.60}; expected Yes or No")
            question = prompts.filled(prompts.YES_NO, question=row.text("text"))
            items.append(_item(row, number, question, (label,), shelf, reply_limit(setting, 32)))
        notes = [f"{captions} records ask for captions: avhbench-captions"] if captions else []
        return loaded(items, path, *notes)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; precision, recall and f1 of yes; yes_share, of all items. What says nothing is no yes."""
        known = scored(results)
        if not known:
            return {}
        said = sum(result.read == "yes" for result in known)
        meant = sum("yes" in result.truth for result in known)
        both = sum(result.outcome is Outcome.RIGHT and result.read == "yes" for result in known)
        return {
            "accuracy": share_right(known),
            "precision": both / said if said else 0.0,
            "recall": both / meant if meant else 0.0,
            "f1": 2 * both / (said + meant) if said + meant else 0.0,
            "yes_share": said / len(known),
        }


class AvhBenchCaptions(Captions):
    """Captions of what is seen and heard, against one sentence each."""

    name, title = "avhbench-captions", "AVHBench, captions"
    source = AvhBench.source
    kind: Kind = "caption"
    metric = "cider_of_10"
    needs: tuple[Needed, ...] = _NEEDS

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record that asks for a caption."""
        path = first_existing(folder, *_FILES)
        shelf = Shelf(folder, ("videos", "video", ""))
        items = [
            _item(row, number, row.text("text"), (row.text("label"),), shelf, reply_limit(setting, 256))
            for number, row in enumerate(rows(path), 1)
            if _task(row) == _CAPTIONS
        ]
        return loaded(with_corpus(items), path)


def _task(row: Row) -> str:
    task = row.text("task").strip()
    if task not in _TASKS:
        trained = " That is a task of the file for training." if task.startswith("AV Hallucination") else ""
        raise row.error(f"task is {task!r:.60}; expected one of {', '.join(_TASKS)}.{trained}")
    return task


def _item(row: Row, number: int, question: str, truth: tuple[str, ...], shelf: Shelf, limit: int) -> Item:
    video = row.text("video_id")
    medium, missing = shelf.find(video)
    return Item(
        id=f"{number}/{video}",
        origin=row.origin,
        question=question,
        media=medium,
        missing=missing,
        truth=truth,
        categories=columns(row, task="task"),
        max_new_tokens=limit,
    )


BENCHMARKS: tuple[Benchmark, ...] = (AvhBench(), AvhBenchCaptions())
