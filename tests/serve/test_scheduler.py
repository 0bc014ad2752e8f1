"""Who waits, who is next, who is refused; what befalls one question, and what befalls all."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from videollama2.engine import Engine
from videollama2.errors import MediaLost, MediaTooLarge, NumericsError
from videollama2.generation.batch import Batch
from videollama2.generation.sampling import GenerateOptions
from videollama2.generation.sequence import ActiveSequence
from videollama2.media import open_clip
from videollama2.media_cache import EncodedMediaCache
from videollama2.receipt import Answer
from videollama2.serve.chat_job import ChatJob
from videollama2.serve.errors import ApiError, api_error
from videollama2.serve.metrics import ServerMetrics
from videollama2.serve.scheduler import Scheduler
from videollama2.serve.settings import RequestLimits, ServeSettings
from videollama2.text.media_parts import Media

from .test_chat import until

SETTINGS = ServeSettings(
    queue_size=6, queue_share=0.5, max_batch_size=2, preparing=1, limits=RequestLimits(media_workers=1)
)


class Asked:
    """A question that waits at a gate before its media are looked at, and what became of it."""

    def __init__(self, engine: Engine, client: str = "a", gate: threading.Event | None = None, **options: Any) -> None:
        self.events: queue.Queue[Any] = queue.Queue()

        def media() -> list[Any]:
            if gate is not None:
                gate.wait(20)
            return []

        self.job = ChatJob(
            client=client, messages=[{"role": "user", "content": f"Hello from {client}"}], media=media,
            options=GenerateOptions(**{"max_new_tokens": 4, **options}), protocol=engine.protocol, strict=False,
            send=self.events.put,
        )  # fmt: skip

    def last(self) -> Any:
        while True:
            event = self.events.get(timeout=20)
            if isinstance(event, Answer | Exception):
                return event


@pytest.fixture
def scheduler(engine: Engine) -> Iterator[Scheduler]:
    made = Scheduler(engine, SETTINGS, ServerMetrics(), open_clip, EncodedMediaCache(1 << 20))
    yield made
    made.stop()
    assert made.join(10)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def test_clients_take_turns(engine: Engine, scheduler: Scheduler, gate: threading.Event) -> None:
    order: list[str] = []
    asked = [Asked(engine, client, gate) for client in ("a", "a", "a", "b", "c")]
    for one in asked:
        before = one.job.media

        def media(one: Asked = one, before: Callable[[], Any] = before) -> Any:
            order.append(one.job.client)
            return before()

        one.job.media = media
        scheduler.submit(one.job)
        until(lambda: order == ["a"])
    gate.set()
    assert all(isinstance(one.last(), Answer) for one in asked)
    assert order == ["a", "a", "b", "c", "a"]  # the first was at work already; then each client in turn


def test_a_full_queue_refuses_at_once_and_says_when(
    engine: Engine, scheduler: Scheduler, gate: threading.Event
) -> None:
    first = Asked(engine, "a", gate)
    scheduler.submit(first.job)
    until(lambda: not scheduler._waiting)
    own = [Asked(engine, "a") for _ in range(3)]
    for one in own:
        scheduler.submit(one.job)
    with pytest.raises(ApiError, match="your requests") as caught:
        scheduler.submit(Asked(engine, "a").job)
    assert caught.value.status == 429 and 1 <= (caught.value.retry_after or 0) <= 60
    others = [Asked(engine, "b"), Asked(engine, "c")]
    for one in others:
        scheduler.submit(one.job)
    with pytest.raises(ApiError, match="too many requests are queued"):
        scheduler.submit(Asked(engine, "d").job)
    scheduler.cancel(own.pop().job)  # whoever leaves makes room
    late = Asked(engine, "d")
    scheduler.submit(late.job)
    gate.set()
    assert all(isinstance(one.last(), Answer) for one in (first, *own, *others, late))
    assert scheduler.waiting == scheduler.running == 0


def test_questions_about_one_clip_join_together_and_share_it(
    engine: Engine, media: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three questions about a clip that was asked about before: only their own words are computed."""
    passes: list[tuple[int, int]] = []
    trunk = engine.model.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return trunk(*args, **kwargs)

    def about(question: str, wait: threading.Event | None = None) -> Asked:
        asked = Asked(engine, gate=wait, max_new_tokens=6)
        parts = [{"type": "video"}, {"type": "text", "text": question}]
        asked.job.messages = [{"role": "user", "content": parts}]
        ready = asked.job.media
        asked.job.media = lambda: [*ready(), Media(source=media / "clip.mp4")]
        return asked

    settings = replace(SETTINGS, max_batch_size=4, preparing=3)
    made = Scheduler(engine, settings, ServerMetrics(), open_clip, EncodedMediaCache(1 << 20))
    try:
        first = about("What is it?")
        made.submit(first.job)
        assert isinstance(first.last(), Answer)
        monkeypatch.setattr(engine.model.model, "forward", counted)
        asked = [about(f"Which {word}?") for word in ("one", "of these", "sound is it that is heard")]
        with engine.lock:  # the model thread waits, so that all three are ready before any joins
            for one in asked:
                made.submit(one.job)
            until(lambda: made.waiting + made.running == 3 and not made._waiting and not made._preparing)
        answers = [one.last() for one in asked]
        prompts = [shape for shape in passes if shape[1] > 1]
    finally:
        made.stop()
        assert made.join(10)
    assert [a.text for a in answers] == [
        engine.answer(media / "clip.mp4", f"Which {word}?", max_new_tokens=6).text
        for word in ("one", "of these", "sound is it that is heard")
    ]
    tokens = answers[0].receipt.video.tokens + answers[0].receipt.audio.tokens
    assert max(positions for _, positions in prompts) < tokens, "the clip's own positions are not computed again"


def test_errors_stay_with_their_question(engine: Engine, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large() -> Any:
        raise MediaTooLarge("it is too large")

    bad, good = Asked(engine), Asked(engine)
    bad.job.media = too_large
    for one in (bad, good):
        scheduler.submit(one.job)
    assert isinstance(bad.last(), MediaTooLarge) and isinstance(good.last(), Answer)
    join = Batch.join

    def no_memory(self: Batch, *new: ActiveSequence) -> list[str]:
        if new[0].options.max_new_tokens == 3:
            raise torch.OutOfMemoryError("CUDA out of memory at 0x7f")
        return join(self, *new)

    monkeypatch.setattr(Batch, "join", no_memory)
    bad, good = Asked(engine, max_new_tokens=3), Asked(engine)
    for one in (bad, good):
        scheduler.submit(one.job)
    problem = api_error(bad.last())
    assert (problem.status, problem.code) == (503, "out_of_memory") and "0x" not in str(problem)
    assert isinstance(good.last(), Answer)


def test_a_step_that_fails_ends_its_answers_and_no_others(
    engine: Engine, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, fail = Batch.step, threading.Event()

    def failing(self: Batch) -> Any:
        if fail.is_set() and self.sequences:
            fail.clear()
            raise RuntimeError("a kernel failed at 0x1234")
        return step(self)

    monkeypatch.setattr(Batch, "step", failing)
    fail.set()
    broken = Asked(engine, max_new_tokens=8)
    scheduler.submit(broken.job)
    problem = api_error(broken.last(), "id-1")
    assert (problem.status, problem.code) == (500, "internal_error") and "id-1" in str(problem)
    good = Asked(engine)
    scheduler.submit(good.job)
    assert isinstance(good.last(), Answer) and scheduler.alive


def test_numbers_that_are_not_finite_are_told(
    engine: Engine, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = engine.model.lm_head.forward
    monkeypatch.setattr(engine.model.lm_head, "forward", lambda hidden: head(hidden) * float("nan"))
    asked = Asked(engine)
    scheduler.submit(asked.job)
    error = asked.last()
    assert isinstance(error, NumericsError) and api_error(error).status == 500


def test_draining_answers_what_was_taken_and_stopping_ends_it(
    engine: Engine, scheduler: Scheduler, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.runner, "stop_ids", [])
    taken = Asked(engine)
    scheduler.submit(taken.job)
    until(lambda: not scheduler._waiting)
    endless, waits = Asked(engine, max_new_tokens=3000), Asked(engine, "b", gate)
    scheduler.submit(endless.job)
    scheduler.submit(waits.job)
    scheduler.drain()
    with pytest.raises(ApiError) as caught:
        scheduler.submit(Asked(engine).job)
    assert caught.value.status == 503
    assert isinstance(taken.last(), Answer)
    until(lambda: scheduler.running == 1)
    scheduler.stop()
    gate.set()
    for one in (endless, waits):
        assert api_error(one.last()).code == "stopping"


def ends(scheduler: Scheduler) -> dict[str, float]:
    (family,) = scheduler.metrics.ended.collect()
    return {s.labels["end"]: s.value for s in family.samples if s.name.endswith("_total")}


def test_leaving_while_the_only_item_is_decoded_is_counted(
    engine: Engine, scheduler: Scheduler, gate: threading.Event, media: Path
) -> None:
    decoding = threading.Event()

    def opener(item: Any, **options: Any) -> Any:
        decoding.set()
        gate.wait(20)
        return open_clip(item, **options)

    scheduler._opener = opener
    asked = Asked(engine)
    asked.job.messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    asked.job.media = lambda: [Media(source=media / "still.png")]
    scheduler.submit(asked.job)
    assert decoding.wait(20)
    scheduler.cancel(asked.job)
    gate.set()
    until(lambda: scheduler.waiting == scheduler.running == 0)
    until(lambda: ends(scheduler) == {"cancelled": 1})
    assert asked.events.empty()


def test_a_decoded_request_leaves_at_once(engine: Engine, scheduler: Scheduler, gate: threading.Event) -> None:
    """It doesn't keep its place while others are answered."""
    entered = threading.Event()
    step = scheduler._step

    def slow(batch: Batch) -> None:
        entered.set()
        gate.wait(20)
        step(batch)

    scheduler._step = slow  # type: ignore[method-assign]
    first, second = Asked(engine, "a"), Asked(engine, "b")
    scheduler.submit(first.job)
    assert entered.wait(20)
    scheduler.submit(second.job)
    until(lambda: len(scheduler._ready) == 1)
    scheduler.cancel(second.job)
    assert scheduler.waiting == 0 and ends(scheduler) == {"cancelled": 1}
    gate.set()
    assert isinstance(first.last(), Answer)
    until(lambda: scheduler.running == 0)
    assert second.events.empty() and ends(scheduler)["cancelled"] == 1


def test_losses_are_logged_and_errors_in_strict_mode(
    engine: Engine, scheduler: Scheduler, media: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for strict in (False, True):
        asked = Asked(engine)
        asked.job.messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what?"}]}]
        asked.job.media = lambda: [Media(source=media / "mute.mp4")]
        asked.job.strict = strict
        scheduler.submit(asked.job)
        assert isinstance(asked.last(), MediaLost if strict else Answer)
    (line,) = [r.getMessage() for r in caplog.records if "mute.mp4" in r.getMessage()]
    assert line.startswith(f"{media / 'mute.mp4'}: ")


def test_deadlines_and_leaving_while_waiting(engine: Engine, scheduler: Scheduler, gate: threading.Event) -> None:
    first, second = Asked(engine, "a", gate), Asked(engine, "b")
    scheduler.submit(first.job)
    until(lambda: not scheduler._waiting)
    scheduler.submit(second.job)
    scheduler.cancel(second.job)
    scheduler.cancel(first.job)
    gate.set()
    until(lambda: scheduler.waiting == scheduler.running == 0)
    time.sleep(0.05)
    assert first.events.empty() and second.events.empty()
