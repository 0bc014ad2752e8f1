"""VGGSound, twice: the event in free words, which the paper calls AVSSD and has judged, and as one of 309 classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..annotations import VIDEO_SUFFIXES, rows
from ..benchmark import Benchmark
from ..closed_sets import ClosedSet, closed_verdict
from ..items import Item, Kind, Loaded, Needed, Outcome, Result, Setting, Verdict
from ..measures import matches
from ..open_answers import OpenAnswers, scored, share
from ..sources import SOUND_SUFFIXES, Shelf, annotation_file, exchanges, loaded, reply_limit, tails

_EVENT = "Identify the event in the video."
_CLASS = "What is the main sound event in this clip?\nAnswer with the sound class label only."
_NEEDS = (
    Needed(path="test.csv", what="official: <id>_<start>.mp4,label, no header"),
    Needed(path="vggsound.csv", what="or id, start, label, split, no header; its test rows are read", required=False),
    Needed(path="stat.csv", what="label, count, group: the classes, and tables by group", required=False),
    Needed(path="videos/<id>_<6-digit start>.mp4", what="the clips; also video/, test/; .wav too", required=False),
)
_PUBLISHED = 15_446  # test clips; many are no longer to be had
_SOURCE = "Chen et al., ICASSP 2020"


class VggSound(OpenAnswers):
    """AVSSD: what happens, in free words."""

    name, title = "vggsound", "VGGSound (AVSSD)"
    source = _SOURCE
    kind: Kind = "open"
    metric = "accuracy"
    needs: tuple[Needed, ...] = (
        *_NEEDS,
        Needed(path="avssd_test.json", what="or the original's: {video, conversations}", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; the label is the reference."""
        return _load(folder, setting, _EVENT, ("avssd_test.json",), reply_limit(setting, 128))


class VggSoundClosed(Benchmark):
    """The class itself. The paper has no such figure: under `paper`, the reply must equal the label's words."""

    name, title = "vggsound-closed", "VGGSound (closed set)"
    source = _SOURCE
    kind: Kind = "closed"
    metric = "accuracy"
    needs: tuple[Needed, ...] = _NEEDS

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; the classes are those of stat.csv, else all labels of the file."""
        found = _load(folder, setting, _CLASS, (), 32)
        names = [*_groups(folder), *(item.truth[0] for item in found.items)]
        classes = ClosedSet(tuple(dict.fromkeys(names)))
        items = tuple(replace(item, prepared=classes) for item in found.items)
        return Loaded(items=items, notes=(*found.notes, f"{len(classes.classes)} classes"))

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The one class that the reply says (`strict`), or whether it is the label's words (`paper`)."""
        if setting == "strict":
            return closed_verdict(item, reply)
        right = matches(reply, item.truth[0])
        return Verdict(outcome=Outcome.RIGHT if right else Outcome.WRONG, read=reply.strip(), rule="same words")

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy: the official figures (mAP, AUC, d-prime) take a score for every class."""
        known = scored(results)
        return {"accuracy": share(known)} if known else {}


def _load(folder: Path, setting: Setting, question: str, private: Sequence[str], limit: int) -> Loaded:
    official = ("test.csv", "data/test.csv", "vggsound.csv", "data/vggsound.csv")
    path, reformat = annotation_file(folder, setting, official=official, private=private)
    groups = _groups(folder)
    shelf = Shelf(folder, ("videos", "video", "test", "audio", ""), (*VIDEO_SUFFIXES, *SOUND_SUFFIXES))
    items = []
    for origin, names, label in _private(path) if reformat else _official(path):
        medium, missing = shelf.find(*names)
        items.append(
            Item(
                id=names[-1],
                origin=origin,
                question=question,
                media=medium,
                missing=missing,
                truth=(label,),
                categories={"group": groups[label]} if label in groups else {},
                max_new_tokens=limit,
            )
        )
    return loaded(items, path, published=_PUBLISHED)


def _official(path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Of each test clip: where it stands, its name, its label. Two columns, or four with all splits."""
    if path.name == "test.csv":
        for row in rows(path, columns=("clip", "label")):
            yield row.origin, (row.text("clip").removesuffix(".mp4"),), row.text("label").strip()
    else:
        for row in rows(path, columns=("id", "start", "label", "split")):
            if row.text("split").strip() == "test":
                name = f"{row.text('id')}_{row.number('start'):06}"
                yield row.origin, (name,), row.text("label").strip()


def _private(path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for exchange in exchanges(path, "video"):
        yield exchange.row.origin, tails(exchange.medium), exchange.answer.strip()


def _groups(folder: Path) -> Mapping[str, str]:
    """Label → group, of the table of all classes; empty where it is not there."""
    table = next((path for path in (folder / "stat.csv", folder / "data" / "stat.csv") if path.is_file()), None)
    found = rows(table, columns=("label", "count", "group")) if table else []
    return {
        row.text("label").strip(): row.text("group").strip() for row in found if row.text("count").strip().isdigit()
    }


BENCHMARKS: tuple[Benchmark, ...] = (VggSound(), VggSoundClosed())
