"""The items of a benchmark, asked by the engines of a pool. Replies are read by this process.

batches ── those about one clip are one task ──► pool ──► replies ── results_of ──► Results
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import VideoLlama2Error
from ..generation.request import Request
from ..jobs import EnginePool
from ..receipt import Answer
from ..text.media_parts import Media
from .clip_sessions import ClipSessions, clip_of
from .items import Result
from .loop import Conditions, Trial, described, replies, requests_of, results_of

Task = tuple[int, list[list[Request]]]
Replies = tuple[int, list[list[Answer | str]]]


@dataclass
class AskClip:
    """Work of a pool: the replies to all batches of requests about one clip.

    Attributes:
        questions: how many there are about each clip of the benchmark (`clip_sessions.questions_about`).
        threads: of an engine, which is how many clips it has in progress.
    """

    questions: Mapping[Hashable, int]
    threads: int
    _sessions: Any = field(default=None, repr=False)

    def __call__(self, engine: Any, task: Task, stopped: Callable[[], bool]) -> Replies:
        if self._sessions is None:  # in each process that has an engine
            self._sessions = ClipSessions.counted(engine, self.questions, most_open=self.threads + 1)
        number, batches = task
        return number, [replies(self._sessions, requests) for requests in batches]

    def lost(self, task: Task, error: VideoLlama2Error) -> Replies:
        """Every reply is the error."""
        number, batches = task
        return number, [[described(error)] * len(requests) for requests in batches]


def answer_elsewhere(
    pool: EnginePool, work: AskClip, conditions: Conditions, batches: Sequence[Sequence[Trial]]
) -> Iterator[list[Result]]:
    """As `loop.answer_all`; raises like `EnginePool.map`."""
    clips = [list(of_clip) for _, of_clip in groupby(batches, key=lambda batch: clip_of(batch[0].item))]
    tasks = [(i, [[_anywhere(r) for r in requests_of(conditions, b)] for b in clip]) for i, clip in enumerate(clips)]
    with closing(pool.map(work, tasks)) as found:
        for number, answered in found:
            if not clips[number]:
                continue  # asked again by mistake: its process was thought to be lost
            for batch, its in zip(clips[number], answered, strict=True):
                yield results_of(conditions, batch, its)
            clips[number] = []


def _anywhere(request: Request) -> Request:
    """The request for a process with another working folder."""
    media = [_located(item) for item in request.media_items()]
    return replace(request, media=media or None)


def _located(item: Media) -> Media:
    return replace(item, source=_absolute(item.source), audio_source=_absolute(item.audio_source))


def _absolute(source: Any) -> Any:
    if isinstance(source, list | tuple):
        return type(source)(map(_absolute, source))
    return str(Path(source).absolute()) if isinstance(source, str | Path) else source
