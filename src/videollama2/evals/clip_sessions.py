"""A clip that several items ask about is decoded, encoded and prefilled once.

    items ── by_clip ──► batches ── shares ──► this process's batches ── taking_turns ──► the loop
    request ── ClipSessions.answer ──► the clip's Session, whose cache ends after the media ──► Answer

Which items share a clip depends on the benchmark alone, and every question continues from the same cached positions.
So answers depend neither on their order, nor on where a run was interrupted, nor on the number of processes.
"""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..encoded_media import MediaSet
from ..generation.request import Request
from ..generation.sampling import GenerateOptions
from ..generation.session import Session
from ..receipt import Answer
from ..text.media_parts import Media
from .items import Item
from .loop import MediaOptions, Trial, request_of

_PRIMER = GenerateOptions(max_new_tokens=1)


class ClipSessions:
    """An Engine that keeps the clips open about which more questions will follow. Thread-safe.

    A clip about which there is a single question, or none, is asked about by the engine itself.
    """

    def __init__(self, engine: Any, trials: Iterable[Trial], options: MediaOptions, *, most_open: int) -> None:
        """
        Args:
            trials: all of the benchmark, whether they have been answered or not.
            most_open: clips that are open at once; the least recently used is closed.
        """
        self._engine, self._most_open = engine, most_open
        self._questions = Counter(map(_key, (request_of(trial, options) for trial in trials)))
        self._open: OrderedDict[Hashable, _OpenClip] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        """As `Engine.answer`."""
        key = _key(request)
        if key is None or self._questions[key] < 2:
            answer: Answer = self._engine.answer(request)
            return answer
        clip = self._clip(key)
        try:
            with clip.lock:
                return clip.answer(self._engine, request)
        except BaseException:
            self._close(key, clip)
            raise

    def batch(self, requests: Sequence[Request], **kwargs: Any) -> list[Answer]:
        """As `Engine.batch`, which computes once what its requests share."""
        answers: list[Answer] = self._engine.batch(requests, **kwargs)
        return answers

    def _clip(self, key: Hashable) -> "_OpenClip":
        with self._lock:
            clip = self._open.setdefault(key, _OpenClip())
            self._open.move_to_end(key)
            while len(self._open) > self._most_open:
                self._open.popitem(last=False)
            return clip

    def _close(self, key: Hashable, clip: "_OpenClip") -> None:
        with self._lock:
            if self._open.get(key) is clip:
                del self._open[key]


@dataclass
class _OpenClip:
    """A clip's session, opened by the first question. `shared`: positions of the prompt up to the end of the media."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    session: Session | None = None
    shared: int = 0

    def answer(self, engine: Any, request: Request) -> Answer:
        if self.session is not None:
            return self._ask(self.session, request, request.options)
        session = engine.open(request)
        spans = session.runner.tokenise(_messages(session.media, request), session.media.receipts).spans
        self.shared = max((span.start + span.length for span in spans), default=0)
        # the positions of the media are computed by a question that is the same for every item
        primer = self._ask(session, replace(request, question=""), _PRIMER)
        self.session = session
        return _with_seconds_of(primer, self._ask(session, request, request.options))

    def _ask(self, session: Session, request: Request, options: GenerateOptions) -> Answer:
        answer = session.run(_messages(session.media, request), options).finish()
        # of the media alone, so that the next question is computed as if it were the first
        session.prefix.ids = session.prefix.ids[: self.shared]
        return answer


def _messages(media: MediaSet, request: Request) -> Any:
    return request.conversation(media.modalities)


def _with_seconds_of(primer: Answer, answer: Answer) -> Answer:
    """The answer, to whose timings decoding, encoding and prefilling of its clip are added."""
    names = ("decode_seconds", "encode_seconds", "prefill_seconds", "total_seconds")
    return replace(answer, timings={**answer.timings, **{n: answer.timings[n] + primer.timings[n] for n in names}})


def _key(request: Request) -> Hashable:
    """Equal if the beginning of the prompt is equal up to the end of the media; None without media."""
    items = request.media_items()
    if not items:
        return None
    return (*(_media_key(media) for media in items), request.system, str(request.protocol))


def _media_key(media: Media) -> Hashable:
    return tuple(_plain(getattr(media, f.name)) for f in fields(media))


def _plain(value: Any) -> Hashable:
    """A path as text; anything unhashable by its identity."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if value.__hash__ is not None else id(value)


# ── order ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def clip_of(item: Item) -> Hashable:
    """Equal for items that ask about the same clip; the item's id without media."""
    return item.id if item.media is None else _media_key(item.media)


def by_clip(items: Sequence[Item]) -> list[Item]:
    """The items, those about a clip one after the other, clips in the order of their first item."""
    clips: dict[Hashable, list[Item]] = {}
    for item in items:
        clips.setdefault(clip_of(item), []).append(item)
    return [item for clip in clips.values() for item in clip]


def shares(batches: Sequence[tuple[Trial, ...]], world: int) -> list[list[tuple[Trial, ...]]]:
    """The batches of each of `world` processes: neighbours about one clip together, else each to the least busy."""
    found: list[list[tuple[Trial, ...]]] = [[] for _ in range(world)]
    counts = [0] * world
    rank, last = 0, None
    for batch in batches:
        if last is None or clip_of(batch[0].item) != last:
            rank = min(range(world), key=lambda each: (counts[each], each))
        last = clip_of(batch[-1].item)
        found[rank].append(batch)
        counts[rank] += len(batch)
    return found


def taking_turns(batches: Sequence[tuple[Trial, ...]], threads: int) -> list[tuple[Trial, ...]]:
    """An order in which threads in progress at once ask about different clips, as far as possible."""
    clips: dict[Hashable, list[tuple[Trial, ...]]] = {}
    for batch in batches:
        clips.setdefault((batch[0].ablation, clip_of(batch[0].item)), []).append(batch)
    if threads == 1:
        return [batch for clip in clips.values() for batch in clip]
    waiting = iter(clips.values())
    lanes: list[list[tuple[Trial, ...]]] = []
    found: list[tuple[Trial, ...]] = []
    while True:
        while len(lanes) < threads and (clip := next(waiting, None)) is not None:
            lanes.append(list(clip))
        if not lanes:
            return found
        for lane in lanes:
            found.append(lane.pop(0))
        lanes = [lane for lane in lanes if lane]
