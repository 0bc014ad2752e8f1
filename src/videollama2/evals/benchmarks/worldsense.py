"""WorldSense: questions that take sound and picture together, in 26 tasks about videos of eight domains."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import paper_rules, prompts
from ..annotations import Row, first_existing, keyed_rows
from ..benchmark import Benchmark
from ..choices import Choices, columns, letter_of_text, unlettered
from ..extract import Read
from ..items import Item, Loaded, Needed, Setting
from ..sources import Shelf, loaded, reply_limit

_PUBLISHED = 3172  # questions


class WorldSense(Choices):
    """Three or four options. Where the published evaluator asks a judge, nothing is read."""

    name, title = "worldsense", "WorldSense"
    source = "Hong et al., ICLR 2026; honglyhly/WorldSense"
    needs: tuple[Needed, ...] = (
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
        shelf = Shelf(folder, ("videos", ""))
        items = []
        for video, about in keyed_rows(path):
            medium, missing = shelf.find(video)
            heard = {"sounds": ", ".join(sorted(about.texts("audio_class")))} if about.has("audio_class") else {}
            for key, row in _tasks(about):
                choices = unlettered(row, row.texts("candidates"))
                items.append(
                    Item(
                        id=f"{video}/{key}",
                        origin=row.origin,
                        question=prompts.asked(row.text("question"), choices),
                        media=medium,
                        missing=missing,
                        truth=(letter_of_text(row, row.text("answer"), choices),),
                        choices=choices,
                        categories={
                            **columns(about, duration="duration", domain="domain", sub_category="sub_category"),
                            **columns(row, task_domain="task_domain", task="task_type"),
                            **heard,
                        },
                        max_new_tokens=reply_limit(setting, 64),
                    )
                )
        return loaded(items, path, published=_PUBLISHED)

    def as_published(self, reply: str, choices: Sequence[str]) -> Read:
        """See paper_rules.worldsense."""
        return paper_rules.worldsense(reply, choices)


def _tasks(about: Row) -> Iterator[tuple[str, Row]]:
    found = [key for key in about.data if "task" in key]
    if not found:
        raise about.error(f"expected task1, task2, …; the record has {', '.join(map(str, about.data)):.200}")
    for key in found:
        task = about.data[key]
        if not isinstance(task, dict):
            raise about.error(f"{key} is {task!r:.60}; expected a question with candidates")
        yield key, Row(task, f"{about.origin}, {key}")


BENCHMARKS: tuple[Benchmark, ...] = (WorldSense(),)
