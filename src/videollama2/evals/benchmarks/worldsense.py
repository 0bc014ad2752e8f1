"""WorldSense: questions that need audio and video together, in 26 tasks about videos of eight domains."""

from collections.abc import Iterator
from pathlib import Path

from ...data.annotations import Row, first_existing, keyed_rows
from .. import paper_rules
from ..choices import ChoiceBenchmark, categories_of, letter_of_text, unlettered
from ..items import Loaded, Needed, Setting
from ..sources import MediaFinder, loaded


class WorldSense(ChoiceBenchmark):
    """Three or four options. Replies that the published evaluator gives to a judge are not read."""

    name, title = "worldsense", "WorldSense"
    source = "Hong et al., ICLR 2026; honglyhly/WorldSense"
    paper_rule = staticmethod(paper_rules.worldsense)
    needs = (
        Needed(
            path="worldsense_qa.json",
            what="object: video id → {duration, domain, sub_category, audio_class, task1: {task_domain, task_type, "
            "question, candidates, answer}, …}",
        ),
        Needed(path="videos/<video id>.mp4", what="the videos", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per task of a video."""
        path = first_existing(folder, "worldsense_qa.json", "*/worldsense_qa.json", "*.json")
        media = MediaFinder(folder, ("videos", ""))
        items = []
        for video, about in keyed_rows(path):
            of_video = categories_of(about, duration="duration", domain="domain", sub_category="sub_category")
            sounds = {"sounds": ", ".join(sorted(about.texts("audio_class")))} if about.has("audio_class") else {}
            for key, row in _tasks(about):
                choices = unlettered(row, row.texts("candidates"))
                of_task = categories_of(row, task_domain="task_domain", task="task_type")
                items.append(
                    self.choice(
                        setting, row, media.find(video), id=f"{video}/{key}", question=row.text("question"),
                        choices=choices, letter=letter_of_text(row, row.text("answer"), choices),
                        categories={**of_video, **of_task, **sounds},
                    )
                )  # fmt: skip
        return loaded(items, path, published=3172)


def _tasks(about: Row) -> Iterator[tuple[str, Row]]:
    found = [key for key in about.data if "task" in key]
    if not found:
        raise about.error(f"expected task1, task2, …; the record has {', '.join(map(str, about.data)):.200}")
    for key in found:
        task = about.data[key]
        if not isinstance(task, dict):
            raise about.error(f"{key}: expected a question with candidates, got {task!r:.60}")
        yield key, Row(task, f"{about.origin}, {key}")


BENCHMARKS = (WorldSense(),)
