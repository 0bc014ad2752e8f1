"""Perception Test, multiple-choice questions about short scenes. The answers of the test split are withheld."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ...errors import DataError
from ...text.conversations import Media
from .. import paper_rules, prompts
from ..annotations import Row, first_existing, if_existing, keyed_rows, read_json
from ..benchmark import Benchmark
from ..choices import Choices, columns, indices_to_submit, letter_of_index
from ..extract import Read
from ..items import Item, Loaded, Needed, Result, Setting
from ..sources import Shelf, loaded, reply_limit

_PUBLISHED = {"test": 11_528, "valid": 19_140}  # questions
_MOST_FRAMES = 10**9  # of a video; a number of thousands of digits is no float


class PerceptionTest(Choices):
    """Three options. Published: the test split, scored by the challenge's server; `valid` comes with its answers."""

    source = "Pătrăucean et al., NeurIPS 2023"

    def __init__(self, split: Literal["test", "valid"]) -> None:
        self._split = split
        self.name = "perception-test" if split == "test" else "perception-test-valid"
        self.title = "Perception Test" + (", validation" if split == "valid" else "")
        cuts = Needed(path="cut_frame_mapping_valid.json", what="video id → frame at which to stop", required=False)
        self.needs: tuple[Needed, ...] = (
            Needed(
                path=f"mc_question_{split}.json",
                what="object: video → {metadata, mc_question: [{id, question, options, answer_id, area, reasoning}]}",
            ),
            *((cuts,) if split == "valid" else ()),
            Needed(path="videos/<video id>.mp4", what=f"the videos; also in {split}_videos/", required=False),
        )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. The end of a validation video is cut off where it would give the answer away."""
        name = f"mc_question_{self._split}.json"
        path = first_existing(folder, name, f"*/{name}")
        cuts, notes = self._cuts(folder)
        shelf = Shelf(folder, ("videos", f"{self._split}_videos", ""), sound=setting == "strict")
        items: list[Item] = []
        for key, video in keyed_rows(path):
            about = Row(video.get("metadata") or {}, f"{video.origin}, metadata")
            if not isinstance(about.data, dict):
                raise about.error(f"it is {about.data!r:.60}; expected an object")
            name = about.text("video_id") if about.has("video_id") else key
            medium, missing = shelf.find(name)
            if medium is not None and key in cuts:
                medium = _cut(medium, about, cuts[key])
            items += [_item(row, name, medium, missing, setting) for row in video.rows("mc_question")]
        return loaded(items, path, *notes, published=_PUBLISHED[self._split])

    def _cuts(self, folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
        name = "cut_frame_mapping_valid.json"
        if self._split == "test":  # its videos are published cut
            return {}, ()
        path = if_existing(folder, name, f"*/{name}")
        if path is None:
            return {}, (f"{name} is not there: videos are seen to their end, which gives some answers away",)
        cuts = read_json(path)
        if not isinstance(cuts, dict):
            raise DataError(f"{path} holds {cuts!r:.60}; expected an object of frames by video id")
        return cuts, ()

    def as_published(self, reply: str, choices: Sequence[str]) -> Read:
        """See paper_rules.perception_test."""
        return paper_rules.perception_test(reply, choices)

    def submission(self, results: Sequence[Result]) -> Mapping[str, str]:
        """The file to hand in, by name: video id → [{id, answer_id, answer}], as the original writes it."""
        if self._split != "test":
            return {}
        answers: dict[str, list[dict[str, Any]]] = {}
        for result, index in indices_to_submit(results):
            video, _, number = result.id.rpartition("/")
            known: int | str = int(number) if number.isdecimal() else number
            answers.setdefault(video, []).append({"id": known, "answer_id": index, "answer": result.choices[index]})
        return {"submission.json": json.dumps(answers, ensure_ascii=False) + "\n"}


def _item(row: Row, video: str, medium: Media | None, missing: str | None, setting: Setting) -> Item:
    choices = row.texts("options")
    letter = letter_of_index(row, row.number("answer_id"), choices) if row.has("answer_id") else None
    return Item(
        id=f"{video}/{row.text('id')}",
        origin=row.origin,
        question=prompts.asked(row.text("question"), choices),
        media=medium,
        missing=missing,
        truth=() if letter is None else (letter,),
        choices=choices,
        categories=columns(row, area="area", reasoning="reasoning"),
        max_new_tokens=reply_limit(setting, 64),
    )


def _cut(medium: Media, about: Row, frame: Any) -> Media:
    if isinstance(frame, bool) or not isinstance(frame, int) or not 1 <= frame <= _MOST_FRAMES:
        raise about.error(f"its video is to be cut at frame {frame!r:.60}; expected a number from 1 to {_MOST_FRAMES}")
    rate = about.seconds("frame_rate")
    if not rate:
        raise about.error("frame_rate is 0; expected frames per second")
    return replace(medium, end=frame / rate)


BENCHMARKS: tuple[Benchmark, ...] = (PerceptionTest("test"), PerceptionTest("valid"))
