"""AVHBench: is audio made up from the video, or video from the audio? Yes-or-no questions, and captions.

Files: AVHBench_v0/{json,video} as the authors' archive unpacks (github.com/kaist-ami/AVHBench), qa.json or QA.json.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...data.annotations import Row, rows
from ..benchmark import Benchmark
from ..choices import YesNoBenchmark, categories_of, filled, yes_no_figures, yes_or_no
from ..items import Loaded, Needed, Result, Setting
from ..open_answers import CaptionBenchmark, with_corpus
from ..sources import Items

_QUESTION = "{question}\nAnswer with yes or no."  # the questions don't say how to answer
_KEYS = ("video_id", "task", "text", "label")
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
        captions = _add(self, items, captions=False)
        items.notes += [f"{captions} records ask for captions: avhbench-captions"] if captions else []
        return items.loaded(published=self.published)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; precision, recall and f1 of yes; yes_share, of all items. An unparsable reply is not a yes."""
        return yes_no_figures(results)


class AvhBenchCaptions(CaptionBenchmark):
    """Captions of both modalities, against one reference each."""

    name, title, source, needs, published = "avhbench-captions", "AVHBench, captions", _SOURCE, _NEEDS, 1106
    official = "The paper has METEOR, CIDEr and GAVIE by GPT-4; here are CIDEr-D, ROUGE-L, and a judge if asked."
    reply_tokens = 256

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record that asks for a caption."""
        items = Items(folder, setting)
        _add(self, items, captions=True)
        return with_corpus(items.loaded(published=self.published))


def _add(benchmark: Benchmark, items: Items, *, captions: bool) -> int:
    """Add the records that ask for captions, or the others; returns how many were left out."""
    path = items.file("QA.json", "qa.json", "AVHBench*.json", "avhbench*.json", keys=_KEYS)
    media, left_out = items.media("videos", "video", ""), 0
    for number, row in enumerate(rows(path), 1):
        with items.record(row):
            if (_task(row) == _CAPTIONS) != captions:
                left_out += 1
                continue
            video, text = row.text("video_id"), row.text("text")
            items.add(
                benchmark.item(
                    items.setting, row.origin, media.find(video), id=f"{number}/{video}",
                    question=text if captions else filled(_QUESTION, question=text),
                    truth=(row.text("label") if captions else yes_or_no(row, "label"),),
                    categories=categories_of(row, task="task"),
                )
            )  # fmt: skip
    return left_out


def _task(row: Row) -> str:
    task = row.text("task").strip()
    if task not in _TASKS:
        trained = "; that is a task of the training file" if task.startswith("AV Hallucination") else ""
        raise row.error(f"task: expected one of {', '.join(_TASKS)}, got {task!r:.60}{trained}.")
    return task


BENCHMARKS = (AvhBench(), AvhBenchCaptions())
