"""The loop that all benchmarks share: ask every item, read every reply, and turn every outcome into a Result.

    batches of trials ── answer_batch ──► Results

An item that can't be asked, or whose answer fails, is Failed, with the reason, and one whose record has no question is
Malformed; other items are not affected. Only what would hit every item (a full disk, a missing package, an interrupt)
ends the run.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import UsageError, VideoLlama2Error
from ..generation.request import Request
from ..generation.sampling import GenerateOptions
from ..jobs import STOPS_THE_JOB, error_text, in_threads
from ..receipt import Answer, source_name
from .benchmark import Benchmark
from .items import ABLATIONS, Ablation, Item, Outcome, Result, Setting, Verdict

logger = logging.getLogger(__name__)

UNEXPECTED = "unexpected "  # prefix of an item's error whose class is not in errors.py
MISSING = "MediaNotFound: "  # prefix of an item's error whose media file was missing before it was asked


class Answering(Protocol):
    """What the loop needs of an engine: `videollama2.Engine`, or anything with these two methods."""

    def answer(self, media: Any = None, question: str | None = None, **kwargs: Any) -> Answer: ...

    def batch(self, requests: Sequence[Request | tuple[Any, str]], **kwargs: Any) -> list[Answer]: ...


@dataclass(frozen=True, kw_only=True)
class MediaOptions:
    """How media are prepared.

    Attributes:
        protocol: name of a protocol (protocols.py); None: the model's own.
        frames: of a video; None: the model's own number.
    """

    protocol: str | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Trial:
    """An item, and the modality that is removed when it is asked."""

    item: Item
    ablation: Ablation

    @property
    def key(self) -> tuple[str, str]:
        """Identifies its result."""
        return self.ablation, self.item.id


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Who answers, and how replies are read."""

    engine: Answering
    benchmark: Benchmark
    setting: Setting
    media_options: MediaOptions


def ablations_of(names: Iterable[str]) -> tuple[Ablation, ...]:
    """The ablations of these names, each once, in the order of a report's columns.

    Raises:
        UsageError: a name is unknown, or there are no names.
    """
    requested = list(names)
    unknown = [name for name in requested if name not in ABLATIONS]
    if unknown or not requested:
        found = f"unknown ablation {', '.join(unknown)}" if unknown else "no ablation given"
        raise UsageError(f"{found}; expected some of {', '.join(ABLATIONS)}.")
    return tuple(ablation for ablation in ABLATIONS if ablation in requested)


def request_of(trial: Trial, options: MediaOptions) -> Request:
    """The request of a trial: the same question for every ablation. A media item with no modality left is dropped."""
    item, ablation = trial.item, trial.ablation
    media = None if ablation == "text-only" else item.media
    if media is not None:
        video, audio = media.video and ablation != "video", media.audio and ablation != "audio"
        frames = options.frames if media.num_frames is None else media.num_frames
        if media.audio_source is not None and not video:
            media = replace(media, source=media.audio_source, audio_source=None)
        media = replace(media, video=video, audio=audio, num_frames=frames) if video or audio else None
    return Request(
        media=None if media is None else [media],
        question=item.question,
        system=item.system,
        protocol=options.protocol,
        options=GenerateOptions(max_new_tokens=item.max_new_tokens),
    )


def answer_all(conditions: Conditions, batches: Sequence[Sequence[Trial]], threads: int = 1) -> Iterator[list[Result]]:
    """The results of each batch, in the order of completion.

    Args:
        threads: batches in progress at once; while one generates, the media of others are decoded.

    Raises:
        StorageError, MissingExtra, WorkerError: they would hit every item.
    """
    return in_threads(lambda batch: answer_batch(conditions, batch), batches, threads)


def answer_batch(conditions: Conditions, batch: Sequence[Trial]) -> list[Result]:
    """The result of each trial, in their order; raises as `answer_all`."""
    asked = requests_of(conditions, batch)
    return results_of(conditions, batch, replies(conditions.engine, asked))


def requests_of(conditions: Conditions, batch: Sequence[Trial]) -> list[Request]:
    """The requests of the trials that can be asked."""
    return [request_of(trial, conditions.media_options) for trial in batch if _can_be_asked(trial)]


def results_of(conditions: Conditions, batch: Sequence[Trial], found: Sequence[Answer | str]) -> list[Result]:
    """The result of each trial, from the replies to `requests_of` them."""
    possible = [trial for trial in batch if _can_be_asked(trial)]
    by_key = dict(zip((trial.key for trial in possible), found, strict=True))
    return [_result(conditions, trial, by_key.get(trial.key), len(possible)) for trial in batch]


def _can_be_asked(trial: Trial) -> bool:
    return trial.item.missing is None and trial.item.malformed is None


def replies(engine: Answering, requests: Sequence[Request]) -> list[Answer | str]:
    """The answer to each request, or its error. If a batch fails, its requests are retried one by one."""
    if len(requests) > 1:
        try:
            return list(engine.batch(requests))
        except STOPS_THE_JOB:
            raise
        except Exception as error:  # one of them caused it; retrying them one by one shows which
            logger.info("a batch of %d failed and is retried item by item: %s", len(requests), error)
    return [_reply(engine, request) for request in requests]


def _reply(engine: Answering, request: Request) -> Answer | str:
    try:
        return engine.answer(request)
    except STOPS_THE_JOB:
        raise
    except Exception as error:  # whatever an item does to the model or a library concerns that item alone
        return described(error)


def _result(conditions: Conditions, trial: Trial, reply: Answer | str | None, batch_size: int) -> Result:
    item, answer = trial.item, reply if isinstance(reply, Answer) else None
    error = reply if isinstance(reply, str) else None
    verdict = Verdict(outcome=Outcome.FAILED, read=None)
    if answer is not None:
        try:
            verdict = conditions.benchmark.read(item, answer.text, conditions.setting)
        except Exception as failure:  # a reply too odd for the rules must not lose the others
            error = f"reading the reply: {described(failure)}"
    elif item.malformed is not None:
        verdict, error = Verdict(outcome=Outcome.MALFORMED, read=None), item.malformed
    elif reply is None:
        error = f"{MISSING}{item.missing}"
    media = item.media
    return Result(
        benchmark=conditions.benchmark.name,
        id=item.id,
        ablation=trial.ablation,
        question=item.question,
        truth=item.truth,
        choices=item.choices,
        categories=item.categories,
        media=None if media is None else source_name(media.source),
        range_seconds=(None, None) if media is None else (media.start, media.end),
        reply=None if answer is None else answer.text,
        outcome=verdict.outcome,
        read=verdict.read,
        rule=verdict.rule,
        scores=verdict.scores,
        error=error,
        losses=() if answer is None else _losses(answer),
        seconds={} if answer is None else _seconds(answer, batch_size),
        audio_media=None if media is None or media.audio_source is None else source_name(media.audio_source),
    )


def described(error: Exception) -> str:
    """An error on one line: class, message and notes."""
    expected = isinstance(error, VideoLlama2Error)
    return f"{'' if expected else UNEXPECTED}{type(error).__name__}: {error_text(error)}"


def _losses(answer: Answer) -> tuple[str, ...]:
    """Everything that the receipt notes as not used, padded or odd."""
    receipt = answer.receipt
    notes = [note for entry in receipt.media for note in entry.notes]
    return tuple(dict.fromkeys([*notes, *receipt.notes]))


def _seconds(answer: Answer, batch_size: int) -> dict[str, float]:
    """Seconds of each stage; those of a batch are divided among its items, so that sums are correct."""
    timings = answer.timings
    generate = timings.get("prefill_seconds", 0.0) + timings.get("generate_seconds", 0.0)
    return {
        "decode": timings.get("decode_seconds", 0.0),
        "encode": timings.get("encode_seconds", 0.0),
        "generate": generate / max(batch_size, 1),
    }
