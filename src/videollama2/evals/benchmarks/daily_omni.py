"""Daily-Omni: how audio and video of daily life belong together, in clips of 30 and 60 seconds."""

from pathlib import Path

from ...data.annotations import first_existing, rows
from .. import paper_rules
from ..choices import ChoiceBenchmark, categories_of, letter_of_text, unlettered
from ..items import Loaded, Needed, Setting
from ..sources import MediaFinder, loaded

_NOTHING = "No content_parent_category provided"  # literally, in the file


class DailyOmni(ChoiceBenchmark):
    """Four options. The published scorer takes the reply's first character, and leaves out what has no reply.

    The published wording of the question is not repeated here; the paper's question with options is asked.
    """

    name, title = "daily-omni", "Daily-Omni"
    source = "Lliar-liar/Daily-Omni, 2025"
    paper_rule = staticmethod(paper_rules.daily_omni)
    paper_reply_tokens = 10
    published_over_answered = True
    needs = (
        Needed(path="qa.json", what="list of {Question, Choice, Answer, video_id, Type, video_category, …}"),
        Needed(path="Videos/<video_id>/<video_id>_video.mp4", what="the clips", required=False),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record; records have no ids, so an item's id is its number and its video."""
        path = first_existing(folder, "qa.json", "*/qa.json")
        media = MediaFinder(folder, ("Videos", "videos", ""))
        items = []
        for number, row in enumerate(rows(path), 1):
            video, choices = row.text("video_id"), unlettered(row, row.texts("Choice"))
            categories = categories_of(
                row, type="Type", duration="video_duration", category="video_category",
                content="content_parent_category",
            )  # fmt: skip
            items.append(
                self.choice(
                    setting, row, media.find(f"{video}/{video}_video", f"{video}_video", video), id=f"{number}/{video}",
                    question=row.text("Question"), choices=choices,
                    letter=letter_of_text(row, row.text("Answer"), choices),
                    categories={name: value for name, value in categories.items() if value != _NOTHING},
                )
            )  # fmt: skip
        return loaded(items, path, published=1197)


BENCHMARKS = (DailyOmni(),)
