"""Perception Test, multiple-choice questions about short scenes. The answers of the test split are withheld."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ...data.annotations import Row, first_existing, if_existing, keyed_rows, read_json
from ...errors import DataError
from ...text.media_parts import Media
from .. import paper_rules
from ..choices import ChoiceBenchmark, categories_of, indices_to_submit, letter_of_index
from ..items import Item, Loaded, Needed, Result, Setting
from ..sources import MediaFinder, loaded

_PUBLISHED = {"test": 11_528, "valid": 19_140}  # questions
_CUTS = "cut_frame_mapping_valid.json"
_MAX_FRAMES = 10**9  # of a video; a number with thousands of digits can't become a float


class PerceptionTest(ChoiceBenchmark):
    """Three options. Published: the test split, scored by the challenge's server; `valid` comes with its answers."""

    source = "Pătrăucean et al., NeurIPS 2023"
    paper_rule = staticmethod(paper_rules.perception_test)

    def __init__(self, split: Literal["test", "valid"]) -> None:
        self._split = split
        self.name = "perception-test" if split == "test" else "perception-test-valid"
        self.title = "Perception Test" + (", validation" if split == "valid" else "")
        cuts = Needed(path=_CUTS, what="video id → frame at which to stop", required=False)
        self.needs = (
            Needed(
                path=f"mc_question_{split}.json",
                what="object: video → {metadata, mc_question: [{id, question, options, answer_id, area, reasoning}]}",
            ),
            *((cuts,) if split == "valid" else ()),
            Needed(path="videos/<video id>.mp4", what=f"the videos; also in {split}_videos/", required=False),
        )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. A validation video is cut before its end would give the answer away."""
        name = f"mc_question_{self._split}.json"
        path = first_existing(folder, name, f"*/{name}")
        cuts, notes = ({}, ()) if self._split == "test" else _cuts(folder)  # test videos are published cut
        media = MediaFinder(folder, ("videos", f"{self._split}_videos", ""), audio=setting == "strict")
        items: list[Item] = []
        for key, video in keyed_rows(path):
            about = Row(video.get("metadata") or {}, f"{video.origin}, metadata")
            if not isinstance(about.data, dict):
                raise about.error(f"expected an object, got {about.data!r:.60}")
            name = about.text("video_id") if about.has("video_id") else key
            clip, missing = media.find(name)
            if clip is not None and key in cuts:
                clip = _cut(clip, about, cuts[key])
            for row in video.rows("mc_question"):
                choices = row.texts("options")
                items.append(
                    self.choice(
                        setting, row, (clip, missing), id=f"{name}/{row.text('id')}", question=row.text("question"),
                        choices=choices, categories=categories_of(row, area="area", reasoning="reasoning"),
                        letter=letter_of_index(row, row.number("answer_id"), choices) if row.has("answer_id") else None,
                    )
                )  # fmt: skip
        return loaded(items, path, *notes, published=_PUBLISHED[self._split])

    def submission(self, results: Sequence[Result]) -> Mapping[str, str]:
        """The challenge's file, as the original writes it: video id → [{id, answer_id, answer}]."""
        if self._split != "test":
            return {}
        answers: dict[str, list[dict[str, Any]]] = {}
        for result, index in indices_to_submit(results):
            video, _, number = result.id.rpartition("/")
            known: int | str = int(number) if number.isdecimal() else number
            answers.setdefault(video, []).append({"id": known, "answer_id": index, "answer": result.choices[index]})
        return {"submission.json": json.dumps(answers, ensure_ascii=False) + "\n"}


def _cuts(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The frame at which each video ends, and notes."""
    path = if_existing(folder, _CUTS, f"*/{_CUTS}")
    if path is None:
        return {}, (f"{_CUTS} is not there: videos are used to their end, which gives some answers away",)
    cuts = read_json(path)
    if not isinstance(cuts, dict):
        raise DataError(f"{path}: expected an object of frames by video id, got {cuts!r:.60}")
    return cuts, ()


def _cut(clip: Media, about: Row, frame: Any) -> Media:
    if isinstance(frame, bool) or not isinstance(frame, int) or not 1 <= frame <= _MAX_FRAMES:
        raise about.error(f"expected a frame from 1 to {_MAX_FRAMES} to cut its video at, got {frame!r:.60}")
    rate = about.seconds("frame_rate")
    if not rate:
        raise about.error("frame_rate: expected frames per second above 0, got 0")
    return replace(clip, end=frame / rate)


BENCHMARKS = (PerceptionTest("test"), PerceptionTest("valid"))
