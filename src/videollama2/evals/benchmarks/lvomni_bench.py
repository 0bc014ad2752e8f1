"""LVOmniBench: questions about audio and video of ten to ninety minutes.

Files: KD-TAO/LVOmniBench on the hub, data.json and videos/; fields as read by OmniEval/ of the GitHub repository.
"""

from pathlib import Path

from ...data.annotations import rows
from .. import paper_rules
from ..choices import ChoiceBenchmark, categories_of, letter_of, unlettered
from ..items import Loaded, Needed, Setting
from ..sources import Items


class LvOmniBench(ChoiceBenchmark):
    """Options as the file letters them."""

    name, title, published = "lvomnibench", "LVOmniBench", 1014
    source = "Tao et al., 2026; KD-TAO/LVOmniBench"
    official = (
        "The authors ask with their own prompt, read the first letter that stands alone, in any case (“a cup” is A), "
        "and drop replies without one from the denominator (accuracy_of_answered drops what has no reply)."
    )
    paper_rule = staticmethod(paper_rules.lvomnibench)
    published_over_answered = True
    needs = (
        Needed(
            path="data.json",
            what="list of {video_id, question, options, correct_option, question_type, audio_type, difficulty, "
            "video_category}",
        ),
        Needed(path="videos/<video_id>.mp4", what="the videos", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question; records have no ids, so an item's id is its number and its video."""
        items = Items(folder, setting)
        path = items.file("data.json", keys=("video_id", "question", "options", "correct_option"))
        media = items.media("videos", "")
        for number, row in enumerate(rows(path), 1):
            with items.record(row):
                video, choices = row.text("video_id"), unlettered(row, row.texts("options"))
                items.add(
                    self.choice(
                        setting, row, media.find(video), id=f"{number}/{video}", question=row.text("question"),
                        choices=choices, letter=letter_of(row, "correct_option", choices),
                        categories=categories_of(
                            row, type="question_type", audio="audio_type", difficulty="difficulty",
                            category="video_category",
                        ),
                    )
                )  # fmt: skip
        return items.loaded(published=self.published)


BENCHMARKS = (LvOmniBench(),)
