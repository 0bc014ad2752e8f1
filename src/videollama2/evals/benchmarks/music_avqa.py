"""MUSIC-AVQA: one word about a performance, to be heard and seen. Published: exact match, per type of question."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..annotations import Row, rows
from ..benchmark import Benchmark
from ..closed_sets import ClosedSet, closed_verdict, equal_verdict
from ..extract import NUMBER_WORDS
from ..items import Item, Kind, Loaded, Needed, Result, Setting, Verdict
from ..open_answers import scored, share
from ..sources import Shelf, annotation_file, exchanges, loaded, reply_limit, tails

_ALWAYS = (*NUMBER_WORDS[:11], "more than ten", "yes", "no")  # classes also where no item has them for its answer
_PLACE = re.compile(r"<[A-Za-z]+>")


class MusicAvqa(Benchmark):
    """The test split; of the corrected set where it is there. The closed set is all answers of the file."""

    name, title = "music-avqa", "MUSIC-AVQA"
    source = "Li et al., CVPR 2022"
    kind: Kind = "closed"
    metric = "accuracy"
    needs: tuple[Needed, ...] = (
        Needed(path="data/json_update/avqa-test.json", what="official, corrected: 9,129 questions"),
        Needed(path="data/json/avqa-test.json", what="or as first published: 9,185", required=False),
        Needed(path="AVQA_music_test.json", what="or the original's: list of {video, conversations}", required=False),
        Needed(path="videos/<video_id>.mp4", what="the videos, real and synthetic", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Templates are filled; under `paper` as the official code does, which loses a "?"."""
        official = ("data/json_update/avqa-test.json", "json_update/avqa-test.json", "data/json/avqa-test.json")
        path, private = annotation_file(
            folder,
            setting,
            official=(*official, "json/avqa-test.json", "avqa-test.json"),
            private=("AVQA_music_test.json",),
        )
        records = list(_private(path) if private else _official(path, setting))
        classes = ClosedSet(tuple(dict.fromkeys([*_ALWAYS, *(record.answer for record in records)])))
        shelf = Shelf(folder, ("videos", "video", "MUSIC-AVQA-videos-Real", "MUSIC-AVQA-videos-Synthetic", ""))
        items = []
        for record in records:
            medium, missing = shelf.find(*record.names)
            items.append(
                Item(
                    id=record.id,
                    origin=record.row.origin,
                    question=record.question,
                    media=medium,
                    missing=missing,
                    truth=(record.answer,),
                    categories=record.categories,
                    max_new_tokens=reply_limit(setting, 32),
                    prepared=classes,
                )
            )
        corrected = path.parent.name == "json_update"
        notes = () if private else ("the corrected set" if corrected else "not the corrected set (json_update)",)
        return loaded(items, path, *notes, published=9129 if corrected or private else 9185)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The one class that the reply says, "2" for "two" (`strict`), or equality in capitals (`paper`)."""
        return equal_verdict(item, reply) if setting == "paper" else closed_verdict(item, reply)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy over all questions; the categories have it per type and modality."""
        known = scored(results)
        return {"accuracy": share(known)} if known else {}


@dataclass(frozen=True)
class _Record:
    id: str
    row: Row
    names: tuple[str, ...]
    question: str
    answer: str
    categories: Mapping[str, str]


def _official(path: Path, setting: Setting) -> Iterator[_Record]:
    for row in rows(path):
        types = row.texts("type")
        if len(types) != 2:
            raise row.error(f"type is {row.get('type')!r:.60}; expected a modality and a kind of question")
        yield _Record(
            id=row.text("question_id"),
            row=row,
            names=(row.text("video_id"),),
            question=_filled(row, setting),
            answer=row.text("anser", "answer"),  # misspelt as published
            categories={"type": " ".join(types), "modality": types[0]},
        )


def _private(path: Path) -> Iterator[_Record]:
    for number, exchange in enumerate(exchanges(path, "video"), 1):
        id_ = exchange.row.text("id") if exchange.row.has("id") else str(number)
        yield _Record(id_, exchange.row, tails(exchange.medium), exchange.question, exchange.answer.strip(), {})


def _filled(row: Row, setting: Setting) -> str:
    """The question with its values in the places of the template, from left to right."""
    template = row.text("question_content")
    places = _PLACE.findall(template)
    # a list without values is written as "[]"
    values = row.texts("templ_values") if places else ()
    if len(values) != len(places):
        raise row.error(f"templ_values has {len(values)} values; expected {len(places)}, for {', '.join(places)}")
    left = iter(values)
    if setting == "paper":
        return " ".join(next(left) if "<" in word else word for word in template.split(" "))
    return _PLACE.sub(lambda _: next(left), template)


BENCHMARKS: tuple[Benchmark, ...] = (MusicAvqa(),)
