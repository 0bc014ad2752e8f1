"""CMM, the curse of multi-modalities: what is present should be noticed, and what is absent should not.

Files: DAMO-NLP-SG/CMM on the hub. Of its 1,200 samples, 600 are a video and a separate audio file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ...data.annotations import Row, rows
from .. import paper_rules
from ..benchmark import accuracy, scored, verdict
from ..choices import YesNoBenchmark, categories_of, yes_or_no
from ..items import FoundMedia, Item, Loaded, Needed, Result, Setting, Verdict
from ..sources import BenchmarkMedia, Items, with_sound_of

_SUFFIX = "Answer with yes or no."  # of the published prompt; the file's questions don't have it
_ARCHIVE = "reorg_raw_files"  # the name of the archive; some paths say raw_files


class Cmm(YesNoBenchmark):
    """Yes-or-no questions, two per sample."""

    name, title, published = "cmm", "CMM (curse of multi-modalities)", 2400
    source = "Leng et al., 2024; DAMO-NLP-SG/CMM"
    official = "The authors' scorer reads the reply's first five characters: “I know” says no, “yes/no” is right twice."
    tabled = True
    crossed = ("sub_category", "granularity")
    needs = (
        Needed(
            path="all_data_final_reorg.json",
            what="list, or a line each: {category, sub_category, video_path, audio_path, question, answer, …}",
        ),
        Needed(
            path="reorg_raw_files/", what="media, as the records name them; also raw_files/", required=False, media=True
        ),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question, about a video, an audio file, or both together."""
        items = Items(folder, setting)
        keys = ("sub_category", "video_path", "audio_path", "question", "answer")
        path = items.file("all_data_final_reorg.json", keys=keys)
        videos, sounds = items.media(""), items.sounds("")
        for number, row in enumerate(rows(path), 1):
            with items.record(row):
                question, truth = row.text("question").strip(), (yes_or_no(row, "answer"),)
                items.add(
                    self.item(
                        setting, row.origin, _media(row, videos, sounds), id=str(number), truth=truth,
                        question=question if question.endswith(_SUFFIX) else f"{question} {_SUFFIX}",
                        categories=categories_of(
                            row, category="category", sub_category="sub_category", granularity="granularity"
                        ),
                    )
                )  # fmt: skip
        return items.loaded(published=self.published)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """ "yes" or "no"; under `paper` whether the right one is in the first five characters."""
        if setting == "strict":
            return super().read(item, reply, setting)
        said, rule = paper_rules.cmm(reply, item.truth)
        return verdict(said, rule, right=said in item.truth)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; perception_accuracy, of what is present (yes); hallucination_resistance, of what is absent (no)."""
        known = scored(results)
        parts = {
            "accuracy": known,
            "perception_accuracy": [result for result in known if "yes" in result.truth],
            "hallucination_resistance": [result for result in known if "no" in result.truth],
        }
        return {name: accuracy(part) for name, part in parts.items() if part}


def _media(row: Row, videos: BenchmarkMedia, sounds: BenchmarkMedia) -> FoundMedia:
    sound = sounds.find(*_names(row.text("audio_path"))) if row.has("audio_path") else None
    if not row.has("video_path"):
        return sound or sounds.find(*_names(row.text("audio_path", "video_path")))
    return with_sound_of(videos.find(*_names(row.text("video_path"))), sound)


def _names(path: str) -> tuple[str, ...]:
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part != "."]
    inside = "/".join(parts[1:])
    return ("/".join(parts), f"{_ARCHIVE}/{inside}", inside)


BENCHMARKS = (Cmm(),)
