"""AVHBench: is audio made up from the video, or video from the audio? Yes-or-no questions, and captions.

Files: AVHBench_v0/{json,video} as the authors' archive unpacks (github.com/kaist-ami/AVHBench), qa.json or QA.json.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...data.annotations import Row, rows
from ..choices import YesNoBenchmark, categories_of, filled, yes_no_figures, yes_or_no
from ..items import Loaded, Needed, Result, Setting
from ..open_answers import CaptionBenchmark, with_corpus
from ..sources import Items

_QUESTION = "{question}\nAnswer with yes or no."  # the questions don't say how to answer
_CAPTIONS = "AV Captioning"
_TASKS = ("Audio-driven Video Hallucination", "Video-driven Audio Hallucination", "AV Matching", _CAPTIONS)
_SOURCE = "Sung-Bin et al., ICLR 2025"
_NEEDS = (
    Needed(path="AVHBench_v0/json/qa.json", what="list of {video_id, task, text, label}; any name ending in .json"),
    Needed(path="AVHBench_v0/video/<video_id>.mp4", what="the videos; also videos/", required=False, media=True),
)


class AvhBench(YesNoBenchmark):
    """Yes-or-no questions. A model that hallucinates says yes too often."""

    name, title, source, needs, published = "avhbench", "AVHBench", _SOURCE, _NEEDS, 5302
    official = "No scorer is published; the leaderboard has accuracy, precision, recall and F1 by task."
    tabled = True

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question; records that ask for captions belong to avhbench-captions, and are counted."""
        items = Items(folder, setting)
        media = items.media("videos", "video", "")
        captions = 0
        for id, row in _records(items):
            with items.record(row):
                if _task(row) == _CAPTIONS:
                    captions += 1
                    continue
                items.add(
                    self.item(
                        setting, row.origin, media.find(row.text("video_id")), id=f"{id}/{row.text('video_id')}",
                        question=filled(_QUESTION, question=row.text("text")), truth=(yes_or_no(row, "label"),),
                        categories=categories_of(row, task="task"),
                    )
                )  # fmt: skip
        items.notes += [f"{captions} records ask for captions: avhbench-captions"] if captions else []
        return items.loaded(published=self.published)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; precision, recall and f1 of yes; yes_share, of all items. An unparsable reply is not a yes."""
        return yes_no_figures(results)


class AvhBenchCaptions(CaptionBenchmark):
    """Captions of both modalities, against one reference each."""

    name, title, source, needs, published = "avhbench-captions", "AVHBench, captions", _SOURCE, _NEEDS, 1106
    official = (
        "The paper has METEOR, CIDEr and GAVIE by GPT-4; here are CIDEr-D and ROUGE-L, and a judge if one is asked."
    )
    reply_tokens = 256

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record that asks for a caption."""
        items = Items(folder, setting)
        media = items.media("videos", "video", "")
        for id, row in _records(items):
            with items.record(row):
                if _task(row) == _CAPTIONS:
                    items.add(
                        self.item(
                            setting, row.origin, media.find(row.text("video_id")), id=f"{id}/{row.text('video_id')}",
                            question=row.text("text"), truth=(row.text("label"),),
                            categories=categories_of(row, task="task"),
                        )
                    )  # fmt: skip
        return with_corpus(items.loaded(published=self.published))


def _records(items: Items) -> Iterator[tuple[int, Row]]:
    names = ("QA.json", "qa.json", "AVHBench*.json", "avhbench*.json")
    return enumerate(rows(items.file(*names, keys=("video_id", "task", "text", "label"))), 1)


def _task(row: Row) -> str:
    task = row.text("task").strip()
    if task not in _TASKS:
        trained = "; that is a task of the training file" if task.startswith("AV Hallucination") else ""
        raise row.error(f"task: expected one of {', '.join(_TASKS)}, got {task!r:.60}{trained}.")
    return task


BENCHMARKS = (AvhBench(), AvhBenchCaptions())
