"""Video-MME: three questions about each of 900 videos from half a minute to an hour, with and without subtitles.

Files: lmms-lab/Video-MME on the hub (Parquet); the authors' template (github.com/BradyFU/Video-MME), a JSON list of
videos with their questions; or VLMEvalKit's Video-MME.tsv, with the columns video and candidates.
"""

from collections.abc import Iterator
from pathlib import Path

from ...data.annotations import Row, rows
from .. import paper_rules
from ..choices import LETTER, ChoiceBenchmark, categories_of, letter_of, lettered_lines, unlettered
from ..frame_subtitles import FrameSubtitles
from ..items import Loaded, Needed, Setting
from ..sources import Items, youtube_names

_QUESTION = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
    f"{{question}}\n{{options}}\n{LETTER} The best answer is: "
)
_WITH_SUBTITLES = f"This video's subtitles are listed below:\n{{subtitles}}\n{_QUESTION}"
_FILES = ("videomme/test-*.parquet", "test-*.parquet", "video_mme*.json", "videomme*.json", "Video-MME*.json",
          "*template*.json", "Video-MME*.tsv", "*.parquet", "*.json")  # fmt: skip


class VideoMme(ChoiceBenchmark):
    """Four options. Figures are published for all questions and for each duration."""

    source, published = "Fu et al., CVPR 2025", 2700
    official = "The authors' scorer takes the first capital letter from A to D, and drops replies without one."
    paper_rule = staticmethod(paper_rules.video_mme)
    published_over_answered = True

    def __init__(self, *, subtitles: bool, frames: int = 16) -> None:
        """`frames`: subtitles are those at the times of so many frames; the loop sets the model's own number."""
        self._subtitles, self._frames = subtitles, frames
        self.name = "video-mme-subtitles" if subtitles else "video-mme"
        self.title = "Video-MME, with subtitles" if subtitles else "Video-MME"
        srt = Needed(path="subtitles/<videoID>.srt", what="subtitles of 744 videos; also in subtitle/", required=False)
        self.needs = (
            Needed(
                path="videomme/test-00000-of-00001.parquet",
                what="a row per question {videoID, duration, domain, sub_category, question_id, task_type, question, "
                "options, answer}; or the official template, a JSON list of videos with their questions",
            ),
            Needed(path="Video-MME.tsv", what="or VLMEvalKit's table", required=False),
            Needed(path="videos/<videoID>.mp4", what="the videos; also in data/", required=False, media=True),
            *((srt,) if subtitles else ()),
        )

    def with_frames(self, frames: int) -> "VideoMme":
        """The benchmark with subtitles at the times of so many frames."""
        return VideoMme(subtitles=self._subtitles, frames=frames)

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Without a subtitle file, `strict` asks as without subtitles, and notes it."""
        items = Items(folder, setting)
        path = items.file(*_FILES, keys=("task_type", "question", "answer"))
        media = items.media("videos", "data", "video", "", audio=setting == "strict")
        subtitles = FrameSubtitles(items, ("subtitles/", "subtitle/", ""), self._frames) if self._subtitles else None
        for video in rows(path):
            with items.record(video):
                names, shared = youtube_names(video), categories_of(
                    video, duration="duration", domain="domain", sub_category="sub_category"
                )  # fmt: skip
                found = media.find(*names)
                for row in _questions(video):
                    with items.record(row):
                        said = None if subtitles is None else subtitles.of(names, found[0])
                        options = row.texts("options", "choices", "candidates")
                        choices = unlettered(row, options)
                        items.add(
                            self.choice(
                                setting, row, found, id=row.text("question_id", "index"), question=row.text("question"),
                                choices=choices, letter=letter_of(row, "answer", choices),
                                categories={**shared, **categories_of(row, task="task_type")},
                                template=_QUESTION if said is None else _WITH_SUBTITLES,
                                options=lettered_lines(options, choices), subtitles=said or "",
                            )
                        )  # fmt: skip
        items.notes += [] if subtitles is None else subtitles.notes()
        return items.loaded(published=self.published)


def _questions(video: Row) -> Iterator[Row]:
    """The questions of a record: a list of them, or the record itself."""
    yield from video.rows("questions") if video.has("questions") else [video]


BENCHMARKS = (VideoMme(subtitles=False), VideoMme(subtitles=True))
