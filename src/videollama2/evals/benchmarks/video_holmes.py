"""Video-Holmes: reasoning about suspense short films, seven types of questions.

Files: TencentARC/Video-Holmes on the hub, test_Video-Holmes.json and videos.zip; fields as read by evaluate.py of
github.com/TencentARC/Video-Holmes.
"""

from pathlib import Path

from ...data.annotations import Row, rows
from .. import paper_rules
from ..choices import ChoiceBenchmark, categories_of, letter_of, unlettered
from ..items import Loaded, Needed, Setting
from ..sources import Items


class VideoHolmes(ChoiceBenchmark):
    """Up to six options. The published wording, which requests reasoning first, is not repeated here."""

    name, title, published = "video-holmes", "Video-Holmes", 1837
    source = "Cheng et al., 2025; TencentARC/Video-Holmes"
    official = (
        "The authors request reasoning in <think> and the answer in <answer>, sample at temperature, and search the "
        "answer for “A ”, “A:”, “[A”, then “B ”, …, then for a bare letter: “Because” is B."
    )
    paper_rule = staticmethod(paper_rules.video_holmes)
    needs = (
        Needed(
            path="test_Video-Holmes.json",
            what="list of {video ID, Question ID, Question Type, Question, Options: {A: …}, Answer, Explanation}",
        ),
        Needed(path="videos/<video ID>.mp4", what="the films; also videos_cropped/", required=False, media=True),
    )

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question."""
        items = Items(folder, setting)
        path = items.file("test_Video-Holmes.json", keys=("video ID", "Question ID", "Options", "Answer"))
        media = items.media("videos", "videos_cropped", "")
        for row in rows(path):
            with items.record(row):
                choices = unlettered(row, _options(row))
                video = row.text("video ID")
                items.add(
                    self.choice(
                        setting, row, media.find(video), id=f"{video}/{row.text('Question ID')}",
                        question=row.text("Question"), choices=choices, letter=letter_of(row, "Answer", choices),
                        categories=categories_of(row, type="Question Type"),
                    )
                )  # fmt: skip
        return items.loaded(published=self.published)


def _options(row: Row) -> tuple[str, ...]:
    """The options by their letters: an object {A: …, B: …}, or a list."""
    held = row.get("Options")
    if not isinstance(held, dict):
        return row.texts("Options")
    return Row({"Options": [f"{key}. {held[key]}" for key in sorted(held) if held[key] is not None]}, row.origin).texts(
        "Options"
    )


BENCHMARKS = (VideoHolmes(),)
