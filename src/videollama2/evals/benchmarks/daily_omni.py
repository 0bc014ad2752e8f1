"""Daily-Omni: how audio and video of daily life belong together, in clips of 30 and 60 seconds.

Files: github.com/Lliar-liar/Daily-Omni and liarliar/Daily-Omni on the hub: qa.json, Videos.tar.
"""

from pathlib import Path

from ...data.annotations import rows
from .. import paper_rules
from ..choices import ChoiceBenchmark, categories_of, letter_of, unlettered
from ..items import Loaded, Needed, Setting
from ..sources import Items

_NOTHING = "No content_parent_category provided"  # literally, in the file


class DailyOmni(ChoiceBenchmark):
    """Four options. The published wording is not repeated here; the paper's question with options is asked."""

    name, title, published = "daily-omni", "Daily-Omni", 1197
    source = "Lliar-liar/Daily-Omni, 2025"
    official = (
        "The authors ask with their own prompt and show the options as a Python list. Their scorer takes the reply's "
        "first character, and drops what has no reply from the denominator (accuracy_of_answered)."
    )
    paper_rule = staticmethod(paper_rules.daily_omni)
    paper_reply_tokens = 10
    published_over_answered = True
    needs = (
        Needed(path="qa.json", what="list of {Question, Choice, Answer, video_id, Type, video_category, …}"),
        Needed(path="Videos/<video_id>/<video_id>_video.mp4", what="the clips", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per record; records have no ids, so an item's id is its number and its video."""
        items = Items(folder, setting)
        path = items.file("qa.json", keys=("Question", "Choice", "Answer", "video_id"))
        media = items.media("Videos", "videos", "")
        for number, row in enumerate(rows(path), 1):
            with items.record(row):
                video, choices = row.text("video_id"), unlettered(row, row.texts("Choice"))
                categories = categories_of(
                    row, type="Type", duration="video_duration", category="video_category",
                    content="content_parent_category",
                )  # fmt: skip
                items.add(
                    self.choice(
                        setting, row, media.find(f"{video}/{video}_video", f"{video}_video", video),
                        id=f"{number}/{video}", question=row.text("Question"), choices=choices,
                        letter=letter_of(row, "Answer", choices),
                        categories={name: value for name, value in categories.items() if value != _NOTHING},
                    )
                )  # fmt: skip
        return items.loaded(published=self.published)


BENCHMARKS = (DailyOmni(),)
