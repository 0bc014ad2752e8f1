"""Video-MME: three questions about each of 900 videos from half a minute to an hour, with and without subtitles."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import MediaError
from ...subtitles import Line, picked, read_subtitles
from .. import paper_rules, prompts
from ..annotations import Row, first_existing, media, rows
from ..benchmark import Benchmark
from ..choices import Choices, also_of_answered, columns, letter_of_text, unlettered
from ..extract import Read
from ..items import Item, Loaded, Needed, Result, Setting
from ..sources import Shelf, loaded, reply_limit
from ..subtitles import moments

_FILES = (
    "videomme/test-*.parquet",
    "test-*.parquet",
    "*/test-*.parquet",
    "video_mme*.json",
    "videomme*.json",
    "Video-MME*.json",
    "*template*.json",
    "*.parquet",
    "*.json",
)
_PUBLISHED = 2700  # questions
_IN_URL = re.compile(r"(?:watch\?v=|youtu\.be/)([\w-]+)")


class VideoMme(Choices):
    """Four options. The published figures stand for all questions and for each duration.

    The published scorer leaves out what has no reply: `accuracy_of_answered`.
    """

    source = "Fu et al., CVPR 2025"

    def __init__(self, *, subtitles: bool, frames: int = 16) -> None:
        """`frames`: how many moments subtitles are picked at; the loop sets what the model sees."""
        self._subtitles, self._moments = subtitles, frames
        self.name = "video-mme-subtitles" if subtitles else "video-mme"
        self.title = "Video-MME, with subtitles" if subtitles else "Video-MME"
        said = Needed(path="subtitles/<videoID>.srt", what="subtitles of 744 videos; also in subtitle/", required=False)
        self.needs: tuple[Needed, ...] = (
            Needed(
                path="videomme/test-00000-of-00001.parquet",
                what="a row per question {videoID, duration, domain, sub_category, question_id, task_type, question, "
                "options, answer}; or the official template, a JSON list of videos with their questions",
            ),
            Needed(path="videos/<videoID>.mp4", what="the videos; also in data/", required=False),
            *((said,) if subtitles else ()),
        )

    def with_frames(self, frames: int) -> "VideoMme":
        """The same, with subtitles at the moments of so many frames."""
        return VideoMme(subtitles=self._subtitles, frames=frames)

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per question. Without a file of subtitles `strict` asks as without subtitles, and says so."""
        path = first_existing(folder, *_FILES)
        shelf = Shelf(folder, ("videos", "data", "video", ""), sound=setting == "strict")
        said = _Said(folder, self._moments, setting)
        items = []
        for video, row in _questions(path):
            names = _names(video)
            medium, missing = shelf.find(*names)
            file = None if medium is None else Path(medium.source)
            template = prompts.VIDEO_MME_SUBTITLES if self._subtitles else prompts.VIDEO_MME
            subtitles = said.of(names, file) if self._subtitles else None
            if self._subtitles and subtitles is None:
                template = prompts.VIDEO_MME
            options = row.texts("options", "choices")
            choices = unlettered(row, options)
            lines = "\n".join(options) if choices != options else prompts.dotted(choices)
            items.append(
                Item(
                    id=row.text("question_id"),
                    origin=row.origin,
                    question=prompts.filled(
                        template, question=row.text("question"), options=lines, subtitles=subtitles or ""
                    ),
                    media=medium,
                    missing=missing,
                    truth=(letter_of_text(row, row.text("answer"), choices),),
                    choices=choices,
                    categories={
                        **columns(video, duration="duration", domain="domain", sub_category="sub_category"),
                        **columns(row, task="task_type"),
                    },
                    max_new_tokens=reply_limit(setting, 64),
                )
            )
        return loaded(items, path, *said.notes(), published=_PUBLISHED)

    def as_published(self, reply: str, choices: Sequence[str]) -> Read:
        """See paper_rules.video_mme."""
        return paper_rules.video_mme(reply, choices)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy, and accuracy_of_answered."""
        return also_of_answered(results)


def _questions(path: Path) -> Iterator[tuple[Row, Row]]:
    """Each question, and the record that says which video it is of: its own, or one around it."""
    for row in rows(path):
        if row.has("questions"):
            yield from ((row, question) for question in row.rows("questions"))
        else:
            yield row, row


def _names(video: Row) -> tuple[str, ...]:
    """What the video's file may be called: by its YouTube id, which files give in three ways, else by its number."""
    in_url = _IN_URL.search(str(video.get("url") or ""))
    names = [video.text(key) for key in ("videoID", "youtube_id") if video.has(key)]
    names += [in_url[1]] if in_url else []
    return tuple(dict.fromkeys([*names, video.text("video_id", "videoID", "youtube_id")]))


class _Said:
    """What is said at the sampled moments of each video, and what was noticed."""

    def __init__(self, folder: Path, frames: int, setting: Setting) -> None:
        self._folder, self._frames, self._published = folder, frames, setting == "paper"
        self._known: dict[tuple[str, ...], str | None] = {}
        self._silent, self._closed = 0, 0

    def of(self, names: tuple[str, ...], video: Path | None) -> str | None:
        """The lines, or None where there are none to show."""
        if names not in self._known:
            self._known[names] = self._find(names, video)
        return self._known[names]

    def _find(self, names: tuple[str, ...], video: Path | None) -> str | None:
        places = [f"{start}{name}.srt" for start in ("subtitles/", "subtitle/", "") for name in names]
        path, _ = media(self._folder, places)
        lines: tuple[Line, ...] = () if path is None else read_subtitles(path)
        self._silent += path is None
        found: tuple[str, ...] = ()
        if lines and video is not None:
            try:
                found = picked(lines, moments(video, self._frames), published=self._published)
            except MediaError:
                self._closed += 1  # asking about it will say why
        # the original shows the heading in any case
        return "\n".join(found) if found or self._published else None

    def notes(self) -> tuple[str, ...]:
        """For the manifest."""
        silent = [f"{self._silent} of {len(self._known)} videos have no subtitles"] if self._silent else []
        closed = [f"no subtitles for {self._closed} videos that can't be opened"] if self._closed else []
        return (*silent, *closed)


BENCHMARKS: tuple[Benchmark, ...] = (VideoMme(subtitles=False), VideoMme(subtitles=True))
