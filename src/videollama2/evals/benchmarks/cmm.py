"""CMM, the curse of multi-modalities: what is there should be noticed, and what is not there should not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...text.conversations import Media
from .. import paper_rules
from ..annotations import Row, first_existing, rows
from ..benchmark import Benchmark
from ..choices import YesNo, columns, scored, share_right
from ..extract import Read
from ..items import Item, Loaded, Needed, Result, Setting
from ..sources import SOUND_SUFFIXES, Shelf, loaded, reply_limit

_PUBLISHED = 2400  # questions
_ARCHIVE = "reorg_raw_files"  # paths say raw_files, the archive is called so


class Cmm(YesNo):
    """Questions with yes and no, two about each sample. The published scorer looks at five characters."""

    name, title = "cmm", "CMM (curse of multi-modalities)"
    source = "Leng et al., 2024; DAMO-NLP-SG/CMM"
    needs: tuple[Needed, ...] = (
        Needed(
            path="all_data_final_reorg.json",
            what="list, or a line each: {category, sub_category, video_path, audio_path, question, answer, …}",
        ),
        Needed(path="reorg_raw_files/", what="the media, as the records name them; also raw_files/", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Pictures are wanted where a video is named, sound where a sound is."""
        path = first_existing(folder, "all_data_final_reorg.json", "*/all_data_final_reorg.json", "*.json", "*.jsonl")
        videos, sounds = Shelf(folder, ("",)), Shelf(folder, ("",), suffixes=SOUND_SUFFIXES, pictures=False)
        items = []
        for number, row in enumerate(rows(path), 1):
            answer = row.text("answer").strip().lower()
            if answer not in ("yes", "no"):
                raise row.error(f"answer is {row.text('answer')!r:.60}; expected yes or no")
            medium, missing = _medium(row, videos, sounds)
            items.append(
                Item(
                    id=str(number),
                    origin=row.origin,
                    question=row.text("question"),  # it says how it is answered
                    media=medium,
                    missing=missing,
                    truth=(answer,),
                    categories=columns(
                        row, category="category", sub_category="sub_category", granularity="granularity"
                    ),
                    max_new_tokens=reply_limit(setting, 32),
                )
            )
        return loaded(items, path, published=_PUBLISHED)

    def as_published(self, reply: str) -> Read:
        """See paper_rules.cmm."""
        return paper_rules.cmm(reply)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; perception_accuracy, of what is there (yes); hallucination_resistance, of what is not (no)."""
        known = scored(results)
        there = [result for result in known if "yes" in result.truth]
        absent = [result for result in known if "no" in result.truth]
        parts = {"accuracy": known, "perception_accuracy": there, "hallucination_resistance": absent}
        return {name: share_right(part) for name, part in parts.items() if part}


def _medium(row: Row, videos: Shelf, sounds: Shelf) -> tuple[Media | None, str | None]:
    """The video, with its own sound where a sound is named too; else the sound."""
    if row.has("video_path"):
        medium, missing = videos.find(*_names(row.text("video_path")))
        return (None if medium is None else replace(medium, audio=row.has("audio_path"))), missing
    return sounds.find(*_names(row.text("audio_path", "video_path")))


def _names(path: str) -> tuple[str, ...]:
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part != "."]
    inside = "/".join(parts[1:])
    return ("/".join(parts), f"{_ARCHIVE}/{inside}", inside)


BENCHMARKS: tuple[Benchmark, ...] = (Cmm(),)
