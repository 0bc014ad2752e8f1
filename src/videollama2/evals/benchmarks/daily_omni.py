"""Daily-Omni: how sound and picture of daily life belong together, in clips of 30 and 60 seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import paper_rules, prompts
from ..annotations import first_existing, rows
from ..benchmark import Benchmark
from ..choices import Choices, also_of_answered, columns, letter_of_text, unlettered
from ..extract import Read
from ..items import Item, Loaded, Needed, Result, Setting
from ..sources import Shelf, loaded

_PUBLISHED = 1197  # questions
_NOTHING = "No content_parent_category provided"  # stands in the file


class DailyOmni(Choices):
    """Four options. The published scorer takes the reply's first character, and leaves out what has no reply.

    The published wording of the question is not repeated here; the paper's question with options is asked.
    """

    name, title = "daily-omni", "Daily-Omni"
    source = "Lliar-liar/Daily-Omni, 2025"
    needs: tuple[Needed, ...] = (
        Needed(path="qa.json", what="list of {Question, Choice, Answer, video_id, Type, video_category, …}"),
        Needed(path="Videos/<video_id>/<video_id>_video.mp4", what="the clips", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record; the records have no ids, so an item's is its number and its video."""
        path = first_existing(folder, "qa.json", "*/qa.json")
        shelf = Shelf(folder, ("Videos", "videos", ""))
        items = []
        for number, row in enumerate(rows(path), 1):
            video = row.text("video_id")
            medium, missing = shelf.find(f"{video}/{video}_video", f"{video}_video", video)
            choices = unlettered(row, row.texts("Choice"))
            parent = columns(row, content="content_parent_category")
            items.append(
                Item(
                    id=f"{number}/{video}",
                    origin=row.origin,
                    question=prompts.asked(row.text("Question"), choices),
                    media=medium,
                    missing=missing,
                    truth=(letter_of_text(row, row.text("Answer"), choices),),
                    choices=choices,
                    categories={
                        **columns(row, type="Type", duration="video_duration", category="video_category"),
                        **({} if parent.get("content") == _NOTHING else parent),
                    },
                    max_new_tokens=10 if setting == "paper" else 64,
                )
            )
        return loaded(items, path, published=_PUBLISHED)

    def as_published(self, reply: str, choices: Sequence[str]) -> Read:
        """See paper_rules.daily_omni."""
        return paper_rules.daily_omni(reply, choices)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy, and accuracy_of_answered."""
        return also_of_answered(results)


BENCHMARKS: tuple[Benchmark, ...] = (DailyOmni(),)
