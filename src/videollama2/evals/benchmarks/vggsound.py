"""VGGSound, twice: the event in free words, which the paper calls AVSSD and has judged, and as one of 309 classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...data.annotations import VIDEO_SUFFIXES, rows
from ..benchmark import Benchmark, verdict
from ..closed_sets import ClassBenchmark, ClosedSet, closed_verdict
from ..items import Item, Loaded, Needed, Setting, Verdict
from ..measures import matches
from ..open_answers import OpenBenchmark
from ..sources import SOUND_SUFFIXES, MediaFinder, annotation_file, conversation_records, loaded, path_tails

_FILES = ("test.csv", "data/test.csv", "vggsound.csv", "data/vggsound.csv")
_NEEDS = (
    Needed(path="test.csv", what="official: <id>_<start>.mp4,label, no header"),
    Needed(path="vggsound.csv", what="or id, start, label, split, no header; its test rows are read", required=False),
    Needed(path="stat.csv", what="label, count, group: the classes, and tables by group", required=False),
    Needed(path="videos/<id>_<6-digit start>.mp4", what="the clips; also video/, test/; .wav too", required=False),
)
_SOURCE = "Chen et al., ICASSP 2020"


class VggSound(OpenBenchmark):
    """AVSSD: the event in free words."""

    name, title, source = "vggsound", "VGGSound (AVSSD)", _SOURCE
    needs = (*_NEEDS, Needed(path="avssd_test.json", what="or the original's: {video, conversations}", required=False))

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; the label is the reference."""
        return _load(self, folder, setting, "Identify the event in the video.", ("avssd_test.json",))


class VggSoundClosed(ClassBenchmark):
    """The class itself. The paper has no such figure: under `paper`, the reply must have the label's words."""

    name, title, source, needs = "vggsound-closed", "VGGSound (closed set)", _SOURCE, _NEEDS
    paper_reply_tokens = 32

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; the classes are those of stat.csv, else all labels of the file."""
        question = "What is the main sound event in this clip?\nAnswer with the sound class label only."
        found = _load(self, folder, setting, question)
        classes = ClosedSet.of([*_groups(folder), *(item.truth[0] for item in found.items)])
        items = tuple(replace(item, prepared=classes) for item in found.items)
        return Loaded(items=items, notes=(*found.notes, f"{len(classes.classes)} classes"))

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The one class that the reply says (`strict`), or whether it has the label's words (`paper`)."""
        if setting == "strict":
            return closed_verdict(item, reply)
        return verdict(reply.strip(), "same words", right=matches(reply, item.truth[0]))


def _load(benchmark: Benchmark, folder: Path, setting: Setting, question: str, reformats: Sequence[str] = ()) -> Loaded:
    path, reformat = annotation_file(folder, setting, *_FILES, reformats=reformats)
    groups = _groups(folder)
    media = MediaFinder(folder, ("videos", "video", "test", "audio", ""), (*VIDEO_SUFFIXES, *SOUND_SUFFIXES))
    items = [
        benchmark.item(
            setting, origin, media.find(*names), id=names[-1], question=question, truth=(label,),
            categories={"group": groups[label]} if label in groups else {},
        )
        for origin, names, label in (_reformatted(path) if reformat else _official(path))
    ]  # fmt: skip
    return loaded(items, path, published=15_446)


def _official(path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Place, name and label of each test clip. The file has two columns, or four with all splits."""
    if path.name == "test.csv":
        for row in rows(path, columns=("clip", "label")):
            yield row.origin, (row.text("clip").removesuffix(".mp4"),), row.text("label").strip()
    else:
        for row in rows(path, columns=("id", "start", "label", "split")):
            if row.text("split").strip() == "test":
                name = f"{row.text('id')}_{row.number('start'):06}"
                yield row.origin, (name,), row.text("label").strip()


def _reformatted(path: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for record in conversation_records(path, "video"):
        yield record.row.origin, path_tails(record.path), record.answer.strip()


def _groups(folder: Path) -> Mapping[str, str]:
    """Label → group, from the table of all classes; empty without it."""
    table = next((path for path in (folder / "stat.csv", folder / "data" / "stat.csv") if path.is_file()), None)
    found = rows(table, columns=("label", "count", "group")) if table else []
    return {
        row.text("label").strip(): row.text("group").strip() for row in found if row.text("count").strip().isdigit()
    }


BENCHMARKS = (VggSound(), VggSoundClosed())
