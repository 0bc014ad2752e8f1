"""Perception Test, multiple-choice questions about short scenes. The answers of the test split are withheld.

Files: github.com/google-deepmind/perception_test, mc_question_{test,valid}_annotations.zip; or lmms-lab/PerceptionTest
and PerceptionTest_Val on the hub.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from ...data.annotations import Row, keyed_rows, rows
from .. import paper_rules
from ..choices import ChoiceBenchmark, categories_of, indices_by_video, letter_of_index, unlettered
from ..copies import PERCEPTION_TEST, by_video
from ..items import FoundMedia, Item, Loaded, Needed, Result, Setting
from ..sources import Items
from ..time_ranges import cut_at_frames

_PUBLISHED = {"test": 11_528, "valid": 19_140}  # questions
_COPIES = {"test": "mc_question/test-*.parquet", "valid": "mc_question_val/validation-*.parquet"}
_CUTS = "cut_frame_mapping_valid.json"


class PerceptionTest(ChoiceBenchmark):
    """Three options. Published: the test split, scored by the challenge's server; `valid` comes with its answers."""

    source = "Pătrăucean et al., NeurIPS 2023"
    official = "The challenge's server scores the test split; a reply that the original can't read counts as C."
    paper_rule = staticmethod(paper_rules.perception_test)

    def __init__(self, split: Literal["test", "valid"]) -> None:
        self._split, self.published = split, _PUBLISHED[split]
        self.name = "perception-test" if split == "test" else "perception-test-valid"
        self.title = "Perception Test" + (", validation" if split == "valid" else "")
        cuts = Needed(path=_CUTS, what="video id → frame at which to stop", required=False)
        self.needs = (
            Needed(
                path=f"mc_question_{split}.json",
                what="object: video → {metadata, mc_question: [{id, question, options, answer_id, area, reasoning}]}",
            ),
            Needed(path=_COPIES[split], what="or lmms-lab's copy, with a row per question", required=False),
            *((cuts,) if split == "valid" else ()),
            Needed(
                path="videos/<video id>.mp4", what="the videos; also in <split>_videos/", required=False, media=True
            ),
        )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. A validation video is cut before its end would give the answer away."""
        items = Items(folder, setting)
        names = (f"mc_question_{self._split}.json", _COPIES[self._split])
        path = items.file(*names, keys=("mc_question", "options"), copies=[PERCEPTION_TEST])
        media = items.media("videos", f"{self._split}_videos", "", audio=setting == "strict")
        cut = cut_at_frames(items, _CUTS) if self._split == "valid" else None  # test videos are published cut
        for key, video in keyed_rows(path) if path.suffix == ".json" else by_video(rows(path)):
            with items.record(video):
                about = video.row("metadata") if video.has("metadata") else Row({}, f"{video.origin}, metadata")
                name = about.text("video_id") if about.has("video_id") else key
                found = media.find(name) if cut is None else cut(media.find(name), name, about)
                for row in video.rows("mc_question"):
                    with items.record(row):
                        items.add(self._item(setting, row, name, found))
        return items.loaded(published=self.published)

    def _item(self, setting: Setting, row: Row, video: str, found: FoundMedia) -> Item:
        choices, id = unlettered(row, row.texts("options")), f"{video}/{row.text('id', 'question_id')}"
        return self.choice(
            setting, row, found, id=id, question=row.text("question"), choices=choices,
            categories=categories_of(row, area="area", reasoning="reasoning"),
            letter=letter_of_index(row, row.number("answer_id"), choices) if row.has("answer_id") else None,
        )  # fmt: skip

    def submission(self, results: Sequence[Result]) -> Mapping[str, str]:
        """The challenge's file, as the original writes it: video id → [{id, answer_id, answer}]."""
        return {"submission.json": indices_by_video(results)} if self._split == "test" else {}


BENCHMARKS = (PerceptionTest("test"), PerceptionTest("valid"))
