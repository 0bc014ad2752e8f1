"""The one loop of all benchmarks: items are asked, each reply is read, and whatever happens to an item is its result.

    items × ablations ── turns ──► those that are asked together ── answer_turn ──► Results

An item that can't be asked, or whose asking fails, is Failed, with the reason; no other item notices. Only what would
befall every item (a full disk, a missing package, an interrupt) ends the run.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from ..errors import MissingExtra, StorageError, VideoLlama2Error, WorkerError
from ..generation.request import Request
from ..receipt import Answer
from .ablate import Wishes, request_of
from .items import Ablation, Benchmark, Item, Outcome, Result, Setting, Verdict

logger = logging.getLogger(__name__)

UNEXPECTED = "unexpected "  # how the error of an item begins that is none of errors.py
MISSING = "MediaNotFound: "  # and of one whose medium could not even be named to the model


class Answering(Protocol):
    """What the loop asks: `videollama2.Engine`, or anything with its two methods."""

    def answer(self, media: Any = None, question: str | None = None, **kwargs: Any) -> Answer: ...

    def batch(self, requests: Sequence[Request | tuple[Any, str]], **kwargs: Any) -> list[Answer]: ...


@dataclass(frozen=True)
class Task:
    """An item, and what is taken away when it is asked."""

    item: Item
    ablation: Ablation

    @property
    def key(self) -> tuple[str, str]:
        """By which its result is known."""
        return self.ablation, self.item.id


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Who is asked what, and how it is read."""

    engine: Answering
    benchmark: Benchmark
    setting: Setting
    wishes: Wishes


def turns(items: Sequence[Item], ablations: Sequence[Ablation], batch: int) -> list[tuple[Task, ...]]:
    """Tasks that are asked together: up to `batch` of equal options, one after the other in the benchmark.

    They depend on nothing else, so that any number of processes, and a run that goes on, ask the same ones together.
    """
    found: list[tuple[Task, ...]] = []
    for ablation in ablations:
        for _, alike in groupby(items, key=lambda item: item.max_new_tokens):
            tasks = [Task(item, ablation) for item in alike]
            found += [tuple(tasks[i : i + batch]) for i in range(0, len(tasks), batch)]
    return found


def ask_all(asker: Asker, asked: Sequence[Sequence[Task]], threads: int = 1) -> Iterator[list[Result]]:
    """The results of each turn, as they come.

    Args:
        threads: turns that are on their way at once; while one is generated, the media of others are decoded.

    Raises:
        StorageError, MissingExtra, WorkerError: they would befall every item.
    """
    if threads == 1:
        for turn in asked:
            yield answer_turn(asker, turn)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        for done in as_completed([pool.submit(answer_turn, asker, turn) for turn in asked]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def answer_turn(asker: Asker, turn: Sequence[Task]) -> list[Result]:
    """The result of each task, in their order; raises as `ask_all`."""
    open_tasks = [task for task in turn if task.item.missing is None]
    replies: dict[tuple[str, str], Answer | Exception]
    replies = dict(zip((task.key for task in open_tasks), _answers(asker, open_tasks), strict=True))
    return [_result(asker, task, replies.get(task.key), len(open_tasks)) for task in turn]


def _answers(asker: Asker, tasks: Sequence[Task]) -> list[Answer | Exception]:
    """What each task brings. A batch in which one can't be answered is asked one by one."""
    requests = [request_of(task.item, task.ablation, asker.wishes) for task in tasks]
    if len(requests) > 1:
        try:
            return list(asker.engine.batch(requests))
        except (StorageError, MissingExtra, WorkerError):
            raise
        except Exception as error:  # of one of them; which one, asking them alone will show
            logger.info("a batch of %d is asked one by one: %s", len(requests), error)
    return [_one(asker, request) for request in requests]


def _one(asker: Asker, request: Request) -> Answer | Exception:
    try:
        return asker.engine.answer(request)
    except (StorageError, MissingExtra, WorkerError):
        raise
    except Exception as error:  # whatever an item does to the model or a library, it does to itself alone
        return error


def _result(asker: Asker, task: Task, reply: Answer | Exception | None, together: int) -> Result:
    item, answer = task.item, reply if isinstance(reply, Answer) else None
    error = told(reply) if isinstance(reply, Exception) else None
    verdict = Verdict(outcome=Outcome.FAILED, read=None)
    if answer is not None:
        try:
            verdict = asker.benchmark.read(item, answer.text, asker.setting)
        except Exception as failure:  # a reply too odd for the rules is no reason to lose the others
            error = f"reading the reply: {told(failure)}"
    elif reply is None:
        error = f"{MISSING}{item.missing}"
    media = item.media
    return Result(
        benchmark=asker.benchmark.name,
        id=item.id,
        ablation=task.ablation,
        question=item.question,
        truth=item.truth,
        choices=item.choices,
        categories=item.categories,
        media=None if media is None else _name(media.source),
        range_seconds=(None, None) if media is None else (media.start, media.end),
        reply=None if answer is None else answer.text,
        outcome=verdict.outcome,
        read=verdict.read,
        rule=verdict.rule,
        scores=verdict.scores,
        error=error,
        losses=() if answer is None else _losses(answer),
        seconds={} if answer is None else _seconds(answer, together),
    )


def told(error: Exception) -> str:
    """An error in one line: its class, its words and its notes."""
    words = " ".join([str(error), *getattr(error, "__notes__", ())]).replace("\n", " ")
    return f"{'' if isinstance(error, VideoLlama2Error) else UNEXPECTED}{type(error).__name__}: {words}"


def _name(source: Any) -> str:
    if isinstance(source, list | tuple):
        return _name(source[0]) if source else ""
    return (
        f"<{type(source).__name__}>"
        if not hasattr(source, "__fspath__") and not isinstance(source, str)
        else str(source)
    )


def _losses(answer: Answer) -> tuple[str, ...]:
    """What the receipt says was not used, padded or odd."""
    receipt = answer.receipt
    notes = [note for entry in receipt.media for note in entry.notes]
    return tuple(dict.fromkeys([*notes, *receipt.notes]))


def _seconds(answer: Answer, together: int) -> dict[str, float]:
    """Of each stage; the seconds of a batch are divided among its rows, so that sums are true."""
    timings = answer.timings
    generate = timings.get("prefill_seconds", 0.0) + timings.get("generate_seconds", 0.0)
    return {
        "decode": timings.get("decode_seconds", 0.0),
        "encode": timings.get("encode_seconds", 0.0),
        "generate": generate / max(together, 1),
    }
