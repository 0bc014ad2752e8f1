"""A clip that several items ask about is decoded, encoded and prefilled once.

    items ── by_clip ── batches ── shares ──► this process's batches ── taking_turns ──► the loop
    requests ── ClipSessions.batch ──► the clip's encoded media and the beginning of its prompts ──► Answers

Which items share a clip depends on the benchmark alone, and every question continues from the same computed positions.
So answers depend neither on their order, nor on where a run was interrupted, nor on the number of processes.
"""

import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from typing import Any

from transformers import DynamicCache

from ..encoded_media import MediaSet
from ..generation.decoder import TorchDecoder
from ..generation.prefill import Beginning, beginning, slides
from ..generation.request import Request
from ..protocols import protocol
from ..receipt import Answer
from ..text.media_parts import Media
from .items import Ablation, Item
from .loop import MediaOptions, Trial, request_of

OF_A_CLIP = 8
"""Questions about one clip that are answered together by default."""


def questions_about(trials: Iterable[Trial], options: MediaOptions) -> Counter[Hashable]:
    """How many questions there are about each clip.

    Args:
        trials: all of the benchmark, whether they have been answered or not.
    """
    return Counter(map(_key, (request_of(trial, options) for trial in trials)))


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
        self._questions: Mapping[Hashable, int] = questions_about(trials, options)
        self._open: OrderedDict[Hashable, _OpenClip] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def counted(cls, engine: Any, questions: Mapping[Hashable, int], *, most_open: int) -> "ClipSessions":
        """As the constructor, in a process that gets the counts (`questions_about`) instead of the benchmark."""
        made = cls(engine, (), MediaOptions(), most_open=most_open)
        made._questions = questions
        return made

    def answer(self, request: Request) -> Answer:
        """As `Engine.answer`."""
        if self._shared([request]):
            return self.batch([request])[0]
        answer: Answer = self._engine.answer(request)
        return answer

    def batch(self, requests: Sequence[Request], **kwargs: Any) -> list[Answer]:
        """As `Engine.batch`; requests about one clip continue from what is known of it."""
        if not self._shared(requests):
            answers: list[Answer] = self._engine.batch(requests, **kwargs)
            return answers
        key = _key(requests[0])
        clip = self._clip(key)
        try:
            with clip.lock:
                return clip.answers(self._engine, requests)
        except BaseException:
            self._close(key, clip)
            raise

    def _shared(self, requests: Sequence[Request]) -> bool:
        """Whether all are about one clip, about which there are several questions."""
        keys = set(map(_key, requests))
        return len(keys) == 1 and None not in keys and self._questions[next(iter(keys))] > 1

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
    """A clip's encoded media, and the beginning of every prompt about it; both made by the first question."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    media: MediaSet | None = None
    beginning: Beginning | None = None

    def answers(self, engine: Any, requests: Sequence[Request]) -> list[Answer]:
        runner, first = engine.runner, requests[0]
        if self.media is None:
            chosen = protocol(first.protocol or engine.protocol)
            self.media = engine.prepare(first.media_items(), protocol=chosen, strict=first.strict)
        media = self.media
        encoded = [runner.tokenise(r.conversation(media.modalities), media.receipts) for r in requests]
        prompts = [runner.embed(each, media) for each in encoded]
        sequences = [runner.start(prompt, r.options) for prompt, r in zip(prompts, requests, strict=True)]
        started, cache = time.perf_counter(), None
        end = max((span.start + span.length for span in encoded[0].spans), default=0)
        ours = isinstance(runner.decoder, TorchDecoder)  # others share beginnings of a batch themselves
        if end and ours and not slides(DynamicCache(config=runner.model.config.text_config)):
            # computed apart, so that no answer depends on which question was the first
            with runner.lock:
                self.beginning = self.beginning or beginning(runner.model, sequences[0], end)
            cache = self.beginning.cache(runner.model, len(sequences))
            for sequence in sequences:
                sequence.skip(self.beginning.positions)
        seconds = time.perf_counter() - started
        steps = runner.finish(sequences, cache)
        steps[0] += seconds
        return [runner.answer(sequence, media.take_seconds(), steps) for sequence in sequences]


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


def batches(items: Sequence[Item], ablations: Sequence[Ablation], size: int | None) -> list[tuple[Trial, ...]]:
    """Trials that are answered together: neighbours with equal options.

    Batches depend on the benchmark alone, so any number of processes, and a resumed run, form the same ones.

    Args:
        size: at most so many, of whole clips where they fit; None: those about one clip, at most `OF_A_CLIP`.
    """
    found: list[list[Trial]] = []
    alone, size = size is None, size or OF_A_CLIP
    for ablation in ablations:
        for _, alike in groupby(items, key=lambda item: item.max_new_tokens):
            found.append([])
            for _, clip in groupby(alike, key=clip_of):
                trials = [Trial(item, ablation) for item in clip]
                if len(trials) > size:
                    found += [*(trials[i : i + size] for i in range(0, len(trials), size)), []]
                elif alone or len(found[-1]) + len(trials) > size:
                    found.append(trials)
                else:
                    found[-1] += trials
    return [tuple(batch) for batch in found if batch]


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
