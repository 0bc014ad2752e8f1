"""VGGSound, twice: the event in free words, which the paper calls AVSSD and has judged, and as one of 309 classes.

Files: github.com/hche11/VGGSound, data/.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...data.annotations import rows
from ..benchmark import Benchmark, verdict
from ..clip_tables import label_groups, test_clips
from ..closed_sets import ClassBenchmark, closed_verdict, with_classes
from ..items import Item, Loaded, Needed, Setting, Verdict
from ..measures import matches
from ..open_answers import OpenBenchmark
from ..sources import AV_SUFFIXES, Items, conversation_record, path_tails

_FILES = ("data/test.csv", "test.csv", "data/vggsound.csv", "vggsound.csv")
_SOURCE = "Chen et al., ICASSP 2020"
_NEEDS = (
    Needed(path="data/test.csv", what="official: <id>_<start>.mp4,label, no header"),
    Needed(path="data/vggsound.csv", what="or id, start, label, split; its test rows are read", required=False),
    Needed(path="data/stat.csv", what="label, count, group: the classes, and tables by group", required=False),
    Needed(path="videos/<id>_<6-digit start>.mp4", what="the clips; also video/, test/; .wav too", required=False,
           media=True),
)  # fmt: skip


class VggSound(OpenBenchmark):
    """AVSSD: the event in free words."""

    name, title, source, published = "vggsound", "VGGSound (AVSSD)", _SOURCE, 15_446
    official = (
        "GPT-3.5 judges; `eval judge` asks another judge, with its own prompt. Here the label's words are searched."
    )
    needs = (*_NEEDS, Needed(path="avssd_test.json", what="or the original's: {video, conversations}", required=False))

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; the label is the reference."""
        return _load(self, folder, setting, "Identify the event in the video.", ("avssd_test.json",))[0]


class VggSoundClosed(ClassBenchmark):
    """The class itself. The paper has no such figure: under `paper`, the reply must have the label's words."""

    name, title, source, published, needs = "vggsound-closed", "VGGSound (closed set)", _SOURCE, 15_446, _NEEDS
    official = "Mean average precision, AUC and d-prime of a classifier's scores, which a reply doesn't have."
    paper_reply_tokens = 32

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; the classes are those of stat.csv, else all labels of the file."""
        question = "What is the main sound event in this clip?\nAnswer with the sound class label only."
        loaded, groups = _load(self, folder, setting, question)
        return with_classes(loaded, groups)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The one class that the reply names (`strict`), or whether it has the label's words (`paper`)."""
        if setting == "strict":
            return closed_verdict(item, reply)
        return verdict(reply.strip(), "same words", right=matches(reply, item.truth[0]))


def _load(
    benchmark: Benchmark, folder: Path, setting: Setting, question: str, reformats: Sequence[str] = ()
) -> tuple[Loaded, Mapping[str, str]]:
    """The items, and the groups of the labels."""
    items = Items(folder, setting)
    path, reformat = items.file_or_reformat(*_FILES, reformats=reformats)
    groups = label_groups(items)
    media = items.media("videos", "video", "test", "audio", "", suffixes=AV_SUFFIXES)
    for row in rows(path) if reformat else test_clips(path):
        with items.record(row):
            if reformat:
                record = conversation_record(row, "video")
                names, label = path_tails(record.path), record.answer.strip()
            else:
                names, label = (row.text("clip").removesuffix(".mp4"),), row.text("label").strip()
            categories = {"group": groups[label]} if label in groups else {}
            items.add(
                benchmark.item(
                    setting, row.origin, media.find(*names), id=names[-1], question=question, truth=(label,),
                    categories=categories,
                )
            )  # fmt: skip
    return items.loaded(published=benchmark.published), groups


BENCHMARKS = (VggSound(), VggSoundClosed())
