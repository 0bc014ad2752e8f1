"""One Engine, many requests: who waits, who is next, and what is computed together.

    submit ─► waiting (bounded; clients take turns) ─► decoded on threads ─► ready ─► joins the model's thread's rows
                 full: ApiError 429                       in child processes            one newcomer, then a step

The model's thread is the only one that computes. Whatever befalls one request is told to that request alone.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..engine import Engine
from ..generation.sampling import GenerateOptions
from ..generation.session import Opened
from ..generation.together import Row, Together
from ..media import Opener
from ..processing import Encoded, Prepared
from ..protocols import Protocol
from ..receipt import Answer, TokenLogprob, refuse_losses
from ..text.conversations import Media
from .cache import EncodedMedia, Kept, kept, key_of, name_of, renamed
from .errors import ApiError
from .metrics import ServerMetrics
from .settings import ServeSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """Text that became certain, and the tokens since the piece before."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


Event = Piece | Answer | Exception


@dataclass(eq=False, kw_only=True)
class Job:
    """One question.

    Attributes:
        client: whose turn it takes.
        messages: as the processor takes them; the k-th media part stands for the k-th of `media`.
        media: gives the media; called on a thread that may wait for them.
        tell: told every event, from any thread; an Answer or an Exception is the last one.
    """

    client: str
    messages: Sequence[Mapping[str, Any]]
    media: Callable[[], Sequence[Media]]
    options: GenerateOptions
    protocol: Protocol
    strict: bool
    tell: Callable[[Event], None]
    arrived: float = field(default_factory=time.perf_counter)
    cancelled: bool = False
    prepared: list[Prepared] = field(default_factory=list)
    found: list[Kept | None] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    encoded: Encoded | None = None
    decode_seconds: float = 0.0
    row: Row | None = None
    told_logprobs: int = 0


class Scheduler:
    """Takes questions, and has them answered."""

    def __init__(
        self,
        engine: Engine,
        settings: ServeSettings,
        metrics: ServerMetrics,
        opener: Opener,
        cache: EncodedMedia,
        model: str,
    ) -> None:
        """Starts its threads.

        Args:
            opener: what opens media, in child processes.
            model: what tells this model's features from another's.
        """
        self.engine, self.settings, self.metrics, self.cache = engine, settings, metrics, cache
        self._opener, self._model = opener, model
        self._changed = threading.Condition()
        self._words = threading.Lock()  # a tokenizer is not made for several threads
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # the client who is next comes first
        self._ready: deque[Job] = deque()
        self._preparing = 0
        self._running: list[Job] = []
        self._draining = self._stopped = False
        self._seconds = 1.0  # of an answer at work, smoothed
        self._threads = [threading.Thread(target=self._compute, name="model", daemon=True)]
        self._threads += [
            threading.Thread(target=self._prepare_all, name=f"prepare-{i}", daemon=True)
            for i in range(settings.preparing)
        ]
        for thread in self._threads:
            thread.start()

    # ── from outside ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def waiting(self) -> int:
        """Questions that are not being answered yet."""
        return sum(map(len, self._waiting.values())) + self._preparing + len(self._ready)

    @property
    def running(self) -> int:
        """Questions that are being answered."""
        return len(self._running)

    @property
    def alive(self) -> bool:
        """Whether all of its threads are at work."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def open(self) -> bool:
        """Whether it takes questions."""
        return not self._draining and not self._stopped

    def submit(self, job: Job) -> None:
        """Take a question.

        Raises:
            ApiError: 429, too many wait, of this client or of all; 503, the server is stopping.
        """
        with self._changed:
            if not self.open:
                self.metrics.refused.labels("stopping").inc()
                raise ApiError(503, "stopping", "the server is stopping; ask again soon", retry_after=5)
            own = self._waiting.get(job.client, deque())
            share = max(1, int(self.settings.queue_size * self.settings.queue_share))
            full = self.waiting >= self.settings.queue_size
            if full or len(own) >= share:
                self.metrics.refused.labels("queue" if full else "client").inc()
                who = "too many questions wait" if full else "too many of your questions wait"
                raise ApiError(429, "queue_full", f"{who}; ask again later", retry_after=self._retry_after())
            self._waiting.setdefault(job.client, own).append(job)
            self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """Nobody wants the answer any more; what waits makes room at once, what runs stops after its step."""
        with self._changed:
            job.cancelled = True
            own = self._waiting.get(job.client)
            if own is not None and job in own:
                own.remove(job)
                if not own:
                    del self._waiting[job.client]
                self._end(job, "cancelled")
            self._changed.notify_all()

    def drain(self) -> None:
        """Take no more questions; those that were taken are answered."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End now: whoever still waits or listens is told so."""
        with self._changed:
            self._draining = self._stopped = True
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            self._fail(job, _stopping())

    def join(self, seconds: float) -> bool:
        """Wait until the threads have ended, after `stop`; False if some have not."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _retry_after(self) -> int:
        return int(min(60, max(1, self._seconds * self.waiting / self.settings.max_batch_size)))

    # ── preparing: threads that wait for media and child processes ─────────────────────────────────────────────

    def _next(self) -> Job | None:
        """The first question of the client whose turn it is; None once the scheduler stops."""
        with self._changed:
            while not self._stopped:
                # what is prepared long before its turn only takes memory
                if self._waiting and len(self._ready) < self.settings.max_batch_size:
                    client, own = self._waiting.popitem(last=False)
                    job = own.popleft()
                    if own:
                        self._waiting[client] = own  # behind the others
                    self._preparing += 1
                    return job
                self._changed.wait()
        return None

    def _prepare_all(self) -> None:
        while (job := self._next()) is not None:
            try:
                self.metrics.waited.observe(time.perf_counter() - job.arrived)
                self._prepare(job)
            except Exception as error:  # of this request's media
                self._fail(job, error)
                job.cancelled = True
            with self._changed:
                self._preparing -= 1
                late = self._stopped and not job.cancelled  # nobody computes any more, who would end it
                if not (job.cancelled or late):
                    self._ready.append(job)
                self._changed.notify_all()
            if late:
                self._fail(job, _stopping())

    def _prepare(self, job: Job) -> None:
        started = time.perf_counter()
        given = job.media()
        for number, media in enumerate(given, 1):
            if job.cancelled:
                self._end(job, "cancelled")
                return
            key = key_of(media, job.protocol, self._model)
            found = self.cache.get(key)
            prepared = found.prepared if found else self.engine.processor.prepare(media, job.protocol, self._opener)
            prepared = renamed(prepared, name_of(media, number if len(given) > 1 else None))
            job.keys.append(key)
            job.found.append(found)
            job.prepared.append(prepared)
        if job.strict:
            refuse_losses([loss for p in job.prepared for loss in p.losses])
        with self._words:
            job.encoded = self.engine.processor.encode(job.messages, job.prepared)
        job.decode_seconds = time.perf_counter() - started
        self.metrics.stage.labels("decode").observe(job.decode_seconds)

    # ── computing: one thread ──────────────────────────────────────────────────────────────────────────────────

    def _compute(self) -> None:
        together = Together(self.engine)
        while True:
            with self._changed:
                while not (self._stopped or self._ready or self._running):
                    self._changed.wait()
                if self._stopped:
                    left = [*self._running, *self._ready]
                    self._running, self._ready = [], deque()
                    break
                newcomer = None
                if self._ready and len(self._running) < self.settings.max_batch_size and not together.full:
                    newcomer = self._ready.popleft()
                    self._running.append(newcomer)
                    self._changed.notify_all()
            if newcomer is not None:
                self._admit(together, newcomer)
            self._step(together)
        for job in left:
            self._fail(job, _stopping())

    def _admit(self, together: Together, job: Job) -> None:
        """Encode what is not encoded yet, compute the prompt, and say the first token."""
        try:
            if job.cancelled:
                self._leave(job, "cancelled")
                return
            started = time.perf_counter()
            features = [self._features(job, i) for i in range(len(job.prepared))]
            encode_seconds = time.perf_counter() - started
            if job.prepared:
                self.metrics.stage.labels("encode").observe(encode_seconds)
            timings = {"decode_seconds": job.decode_seconds, "encode_seconds": encode_seconds}
            assert job.encoded is not None
            job.encoded.media.clear()
            opened = Opened(job.prepared, features, job.protocol, timings)
            job.row = Row(self.engine, opened, job.encoded, job.options)
            self._tell(job, together.join(job.row))
            self.metrics.first_token.observe(time.perf_counter() - job.arrived)
            opened.features = []  # they are in the row's cache now
            self._settle(job)
        except Exception as error:  # of this request; those beside it go on
            self._leave(job, error)

    @torch.inference_mode()
    def _features(self, job: Job, index: int) -> dict[str, torch.Tensor]:
        found = job.found[index] or self.cache.get(job.keys[index])  # perhaps encoded meanwhile, for another
        self.metrics.cache.labels("no" if found is None else "yes").inc()
        if found is not None:
            job.found[index] = found
            model = self.engine.model
            return {name: t.to(model.device, model.dtype) for name, t in found.features.items()}
        with self.engine.lock:
            features = self.engine.encode(job.prepared[index])
        value = kept(job.prepared[index], features)
        self.cache.put(job.keys[index], value)
        job.prepared[index] = value.prepared  # without its pixels
        return features

    def _step(self, together: Together) -> None:
        jobs = {job.row: job for job in self._running if job.row is not None}
        for row, job in jobs.items():
            if job.cancelled:
                row.said.cancel()
        together.leave()
        if together.rows:
            self.metrics.rows.observe(len(together.rows))
        try:
            for row, piece in together.step():
                self._tell(jobs[row], piece)
        except Exception as error:  # of the model itself: all that it held is gone
            logger.exception("a step failed; its answers end")
            together.clear()
            for job in jobs.values():
                self._leave(job, error)
            return
        for job in jobs.values():
            self._settle(job)

    def _settle(self, job: Job) -> None:
        """End a question whose row is done."""
        row = job.row
        if row is None or not row.done:
            return
        if row.error is not None or job.cancelled:
            self._leave(job, row.error or "cancelled")
            return
        if piece := row.said.end():
            self._tell(job, piece)
        reused = tuple(
            (p.video or p.audio).source  # type: ignore[union-attr]  # a medium has one of them
            for p, found in zip(job.prepared, job.found, strict=True)
            if found is not None
        )
        answer = row.answer(reused=reused)
        self._count(row, answer)
        self._seconds += 0.1 * (answer.timings["total_seconds"] - self._seconds)
        self._leave(job, answer)

    def _tell(self, job: Job, text: str) -> None:
        assert job.row is not None
        new = tuple(job.row.said.logprobs[job.told_logprobs :])
        job.told_logprobs += len(new)
        if text or new:
            job.tell(Piece(text, new))

    def _count(self, row: Row, answer: Answer) -> None:
        tokens = self.metrics.tokens
        for span in row.encoded.prompt.spans:
            tokens.labels(span.modality).inc(span.length)
        tokens.labels("text").inc(answer.receipt.prompt_tokens - sum(s.length for s in row.encoded.prompt.spans))
        tokens.labels("generated").inc(answer.receipt.generated_tokens)
        self.metrics.stage.labels("prefill").observe(answer.timings["prefill_seconds"])
        self.metrics.stage.labels("generate").observe(answer.timings["generate_seconds"])

    def _leave(self, job: Job, last: Answer | Exception | str) -> None:
        with self._changed:
            if job in self._running:
                self._running.remove(job)
            self._changed.notify_all()
        if isinstance(last, Exception):
            self._fail(job, last)
        elif isinstance(last, Answer):
            self._end(job, last.finish_reason)
            job.tell(last)
        else:
            self._end(job, last)

    def _fail(self, job: Job, error: Exception) -> None:
        self._end(job, "error")
        job.tell(error)

    def _end(self, job: Job, end: str) -> None:
        job.row = None
        self.metrics.ended.labels(end).inc()


def _stopping() -> ApiError:
    return ApiError(503, "stopping", "the server stopped before the answer was complete; ask again", retry_after=5)
