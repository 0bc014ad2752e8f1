"""Video-MME: three questions about each of 900 videos from half a minute to an hour, with and without subtitles."""

import re
from collections.abc import Iterator
from pathlib import Path

from ...data.annotations import Row, first_existing, media, rows
from ...errors import DataError, MediaError
from ...media.limits import DEFAULT_LIMITS
from ...media.source import MediaSource
from ...subtitles import read_subtitles, shown_at
from .. import paper_rules
from ..choices import LETTER, ChoiceBenchmark, categories_of, filled, letter_of_text, unlettered
from ..extract import LETTERS
from ..items import Loaded, Needed, Setting
from ..sources import MediaFinder, loaded

_QUESTION = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
    f"{{question}}\n{{options}}\n{LETTER} The best answer is: "
)
_WITH_SUBTITLES = f"This video's subtitles are listed below:\n{{subtitles}}\n{_QUESTION}"
_FILES = (
    "videomme/test-*.parquet", "test-*.parquet", "*/test-*.parquet", "video_mme*.json", "videomme*.json",
    "Video-MME*.json", "*template*.json", "*.parquet", "*.json",
)  # fmt: skip
_IN_URL = re.compile(r"(?:watch\?v=|youtu\.be/)([\w-]+)")


class VideoMme(ChoiceBenchmark):
    """Four options. Figures are published for all questions and for each duration.

    The published scorer leaves out what has no reply: `accuracy_of_answered`.
    """

    source = "Fu et al., CVPR 2025"
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
            Needed(path="videos/<videoID>.mp4", what="the videos; also in data/", required=False),
            *((srt,) if subtitles else ()),
        )

    def with_frames(self, frames: int) -> "VideoMme":
        """The benchmark with subtitles at the times of so many frames."""
        return VideoMme(subtitles=self._subtitles, frames=frames)

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Without a subtitle file `strict` asks as without subtitles, and notes it."""
        path = first_existing(folder, *_FILES)
        finder = MediaFinder(folder, ("videos", "data", "video", ""), audio=setting == "strict")
        subtitles = _VideoSubtitles(folder, self._frames, setting)
        items = []
        for video, row in _questions(path):
            names = _names(video)
            found = finder.find(*names)
            said = subtitles.of(names, None if found[0] is None else Path(found[0].source)) if self._subtitles else None
            options = row.texts("options", "choices")
            choices = unlettered(row, options)
            lines = options if choices != options else [f"{a}. {b}" for a, b in zip(LETTERS, choices, strict=False)]
            template = _QUESTION if said is None else _WITH_SUBTITLES
            question = filled(template, question=row.text("question"), options="\n".join(lines), subtitles=said or "")
            categories = categories_of(video, duration="duration", domain="domain", sub_category="sub_category")
            items.append(
                self.item(
                    setting, row.origin, found, id=row.text("question_id"), question=question, choices=choices,
                    truth=(letter_of_text(row, row.text("answer"), choices),),
                    categories={**categories, **categories_of(row, task="task_type")},
                )
            )  # fmt: skip
        return loaded(items, path, *subtitles.notes(), published=2700)


def _questions(path: Path) -> Iterator[tuple[Row, Row]]:
    """Each question, with the record of its video: the same one, or one around it."""
    for row in rows(path):
        yield from ((row, question) for question in (row.rows("questions") if row.has("questions") else [row]))


def _names(video: Row) -> tuple[str, ...]:
    """Names of the video's file: its YouTube id, which files give in three ways, else its number."""
    in_url = _IN_URL.search(str(video.get("url") or ""))
    names = [video.text(key) for key in ("videoID", "youtube_id") if video.has(key)]
    names += [in_url[1]] if in_url else []
    return tuple(dict.fromkeys([*names, video.text("video_id", "videoID", "youtube_id")]))


class _VideoSubtitles:
    """The subtitles at the sampled frames of each video."""

    def __init__(self, folder: Path, frames: int, setting: Setting) -> None:
        self._folder, self._frames, self._published = folder, frames, setting == "paper"
        self._known: dict[tuple[str, ...], str | None] = {}
        self._without, self._unreadable = 0, 0

    def of(self, names: tuple[str, ...], video: Path | None) -> str | None:
        """The lines, or None without any."""
        if names not in self._known:
            self._known[names] = self._find(names, video)
        return self._known[names]

    def _find(self, names: tuple[str, ...], video: Path | None) -> str | None:
        path, _ = media(
            self._folder, [f"{place}{name}.srt" for place in ("subtitles/", "subtitle/", "") for name in names]
        )
        lines = () if path is None else read_subtitles(path)
        self._without += path is None
        found: tuple[str, ...] = ()
        if lines and video is not None:
            try:
                found = shown_at(lines, moments(video, self._frames), published=self._published)
            except MediaError:
                self._unreadable += 1  # the item's own failure will say why
        # the original shows the heading in any case
        return "\n".join(found) if found or self._published else None

    def notes(self) -> tuple[str, ...]:
        """For the manifest."""
        without = [f"{self._without} of {len(self._known)} videos have no subtitles"] if self._without else []
        unreadable = [f"no subtitles for {self._unreadable} videos that can't be opened"] if self._unreadable else []
        return (*without, *unreadable)


def moments(path: Path, frames: int) -> tuple[float, ...]:
    """Milliseconds of the frames that an evaluation samples: the middles of equal segments, in whole frames (spec §7).

    Only the header is read: number of frames, and frames per second.

    Raises:
        MediaError: the file can't be opened, or has no video.
    """
    with MediaSource.of(path, DEFAULT_LIMITS).container() as container:
        stream = next(iter(container.streams.video), None)
        rate = 0.0 if stream is None else float(stream.average_rate or 0)
        if stream is None or not rate:
            raise DataError(f"{path}: the header has no video frame rate")
        seconds = float((container.duration or 0) / 1_000_000)
        count = stream.frames or int(seconds * rate + 0.5)
    size = (count - 1) / frames
    places = [(round(size * i) + round(size * (i + 1))) // 2 for i in range(frames)]
    return tuple(1000 * place / rate for place in places)


BENCHMARKS = (VideoMme(subtitles=False), VideoMme(subtitles=True))
