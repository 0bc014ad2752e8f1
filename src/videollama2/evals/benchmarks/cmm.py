"""CMM, the curse of multi-modalities: what is present should be noticed, and what is absent should not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...data.annotations import Row, first_existing, rows
from .. import paper_rules
from ..benchmark import FoundMedia, accuracy, scored
from ..choices import YesNoBenchmark, categories_of, yes_or_no
from ..items import Loaded, Needed, Result, Setting
from ..sources import MediaFinder, loaded, sound_finder

_FILE = "all_data_final_reorg.json"
_ARCHIVE = "reorg_raw_files"  # the name of the archive; paths say raw_files


class Cmm(YesNoBenchmark):
    """Yes-or-no questions, two per sample. The published scorer reads five characters."""

    name, title = "cmm", "CMM (curse of multi-modalities)"
    source = "Leng et al., 2024; DAMO-NLP-SG/CMM"
    paper_rule = staticmethod(paper_rules.cmm)
    needs = (
        Needed(
            path=_FILE,
            what="list, or a line each: {category, sub_category, video_path, audio_path, question, answer, …}",
        ),
        Needed(path="reorg_raw_files/", what="the media, as the records name them; also raw_files/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Video is used if a video is named, audio if an audio file is."""
        path = first_existing(folder, _FILE, f"*/{_FILE}", "*.json", "*.jsonl")
        videos, sounds = MediaFinder(folder, ("",)), sound_finder(folder, "")
        items = []
        for number, row in enumerate(rows(path), 1):
            answer = yes_or_no(row, "answer")
            items.append(
                self.item(
                    setting, row.origin, _media(row, videos, sounds), id=str(number), truth=(answer,),
                    question=row.text("question"),  # it says how to answer
                    categories=categories_of(
                        row, category="category", sub_category="sub_category", granularity="granularity"
                    ),
                )
            )  # fmt: skip
        return loaded(items, path, published=2400)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; perception_accuracy, of what is present (yes); hallucination_resistance, of what is absent (no)."""
        known = scored(results)
        parts = {
            "accuracy": known,
            "perception_accuracy": [result for result in known if "yes" in result.truth],
            "hallucination_resistance": [result for result in known if "no" in result.truth],
        }
        return {name: accuracy(part) for name, part in parts.items() if part}


def _media(row: Row, videos: MediaFinder, sounds: MediaFinder) -> FoundMedia:
    """The video, with its own audio if an audio file is named, too; else the audio file."""
    if row.has("video_path"):
        media, missing = videos.find(*_names(row.text("video_path")))
        return (None if media is None else replace(media, audio=row.has("audio_path"))), missing
    return sounds.find(*_names(row.text("audio_path", "video_path")))


def _names(path: str) -> tuple[str, ...]:
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part != "."]
    inside = "/".join(parts[1:])
    return ("/".join(parts), f"{_ARCHIVE}/{inside}", inside)


BENCHMARKS = (Cmm(),)
