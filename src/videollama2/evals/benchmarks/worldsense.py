"""WorldSense: questions that need audio and video together, in 26 tasks about videos of eight domains.

Files: honglyhly/WorldSense on the hub: worldsense_qa.json, videos/; or, with a row per question, VLMEvalKit's
WorldSense.tsv and the Parquet files of lmms-lab/WorldSense.
"""

from collections.abc import Iterator
from pathlib import Path

from ...data.annotations import Row, keyed_rows, rows
from .. import copies, paper_rules
from ..choices import ChoiceBenchmark, categories_of, letter_of, unlettered
from ..items import Loaded, Needed, Setting
from ..sources import Items


class WorldSense(ChoiceBenchmark):
    """Three or four options. The published wording is not repeated here; the paper's question with options is asked."""

    name, title, published = "worldsense", "WorldSense", 3172
    source = "Hong et al., ICLR 2026; honglyhly/WorldSense"
    official = (
        "VLMEvalKit asks with its own prompt, takes the first capital letter from A to D, and gives replies without "
        "one to a judge; here they are unparsable."
    )
    paper_rule = staticmethod(paper_rules.worldsense)
    needs = (
        Needed(
            path="worldsense_qa.json",
            what="object: video id → {duration, domain, sub_category, audio_class, task1: {task_domain, task_type, "
            "question, candidates, answer}, …}",
        ),
        Needed(path="WorldSense.tsv", what="or VLMEvalKit's table", required=False),
        Needed(path="data/test-*.parquet", what="or lmms-lab/WorldSense, with the same columns", required=False),
        Needed(path="videos/<video id>.mp4", what="the videos", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per task of a video."""
        items = Items(folder, setting)
        path = items.file(
            "worldsense_qa.json", "WorldSense*.tsv", "test-*.parquet", keys=("task1", "candidates", "task_type"),
            copies=[copies.WORLDSENSE],
        )  # fmt: skip
        media, flat = items.media("videos", ""), path.suffix.lower() != ".json"
        for video, about in ((None, row) for row in rows(path)) if flat else keyed_rows(path):
            with items.record(about):
                video = about.text("video") if video is None else video
                of_video = categories_of(about, duration="duration", domain="domain", sub_category="sub_category")
                if about.has("audio_class"):
                    of_video["sounds"] = ", ".join(sorted(about.texts("audio_class")))
                for key, row in [(about.text("index"), about)] if flat else _tasks(about):
                    with items.record(row):
                        choices = unlettered(row, row.texts("candidates"))
                        of_task = categories_of(row, task_domain="task_domain", task="task_type")
                        items.add(
                            self.choice(
                                setting, row, media.find(video), id=f"{video}/{key}", question=row.text("question"),
                                choices=choices, letter=letter_of(row, "answer", choices),
                                categories={**of_video, **of_task},
                            )
                        )  # fmt: skip
        return items.loaded(published=self.published)


def _tasks(about: Row) -> Iterator[tuple[str, Row]]:
    found = [key for key in about.data if "task" in key]
    if not found:
        raise about.error(f"expected task1, task2, …; the record has {', '.join(map(str, about.data)):.200}.")
    for key in found:
        held = about.data[key]
        odd = None if isinstance(held, dict) else f"expected a question with candidates, got {held!r:.60}."
        yield key, Row({} if odd else held, f"{about.origin}, {key}", odd)


BENCHMARKS = (WorldSense(),)
