"""One Engine, many requests: the queue, whose turn it is, and which requests are decoded in one batch.

    submit ─► waiting (bounded; clients take turns) ─► decoded on threads ─► ready ─► joins the model thread's batch
                 full: ApiError 429                       in worker processes          newcomers, then a step

Only the model thread computes. An error of one request is reported to that request alone.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..encoded_media import MediaSet
from ..engine import Engine, check_losses
from ..generation.decoder import DecodingBatch
from ..generation.prefill import BeginningsCache
from ..generation.sequence import ActiveSequence
from ..media import Opener
from ..media_cache import EncodedMediaCache, MediaCache
from ..receipt import Answer, TokenLogprob, source_name
from ..text.media_parts import Media
from .chat_job import ChatJob, TextChunk
from .errors import ApiError
from .metrics import ServerMetrics
from .settings import ServeSettings

logger = logging.getLogger(__name__)


class Scheduler:
    """Queues requests and answers them on one model thread."""

    def __init__(
        self, engine: Engine, settings: ServeSettings, metrics: ServerMetrics, opener: Opener, cache: MediaCache
    ) -> None:
        """Starts its threads.

        Args:
            opener: opens media, in worker processes.
        """
        self.engine, self.settings, self.metrics, self.cache = engine, settings, metrics, cache
        self._opener = opener
        self._changed = threading.Condition()
        self._tokenizer_lock = threading.Lock()  # tokenizers are not safe to use from several threads
        self._waiting: OrderedDict[str, deque[ChatJob]] = OrderedDict()  # the client who is next comes first
        self._ready: deque[ChatJob] = deque()
        self._preparing = 0
        self._running: list[ChatJob] = []
        self._draining = self._stopped = False
        self._seconds = 1.0  # of computing one answer, smoothed
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
        """Requests that are not being answered yet."""
        return sum(map(len, self._waiting.values())) + self._preparing + len(self._ready)

    @property
    def running(self) -> int:
        """Requests that are being answered."""
        return len(self._running)

    @property
    def alive(self) -> bool:
        """Whether all of its threads are running."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def open(self) -> bool:
        """Whether it accepts requests."""
        return not self._draining and not self._stopped

    def submit(self, job: ChatJob) -> None:
        """Queue a request.

        Raises:
            ApiError: 429, too many requests are queued, by this client or in total; 503, the server is stopping.
        """
        with self._changed:
            if not self.open:
                self.metrics.refused.labels("stopping").inc()
                raise ApiError(503, "stopping", "the server is stopping; try again soon", retry_after=5)
            own = self._waiting.get(job.client, deque())
            share = max(1, int(self.settings.queue_size * self.settings.queue_share))
            full = self.waiting >= self.settings.queue_size
            if full or len(own) >= share:
                self.metrics.refused.labels("queue" if full else "client").inc()
                who = "too many requests are queued" if full else "too many of your requests are queued"
                raise ApiError(429, "queue_full", f"{who}; try again later", retry_after=self._retry_after())
            self._waiting.setdefault(job.client, own).append(job)
            self._changed.notify_all()

    def cancel(self, job: ChatJob) -> None:
        """The client disconnected: a waiting request leaves the queue at once, a running one stops after its step."""
        with self._changed:
            job.cancelled = True
            own = self._waiting.get(job.client, deque())
            for queue in (own, self._ready):
                if job in queue:
                    queue.remove(job)
                    self._record_end(job, "cancelled")
            if not own:
                self._waiting.pop(job.client, None)
            self._changed.notify_all()

    def drain(self) -> None:
        """Accept no more requests; finish the accepted ones."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop now; every open request gets an error."""
        with self._changed:
            self._draining = self._stopped = True
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            self._finish_with_error(job, stopping())

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end, after `stop`; False if some have not."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _retry_after(self) -> int:
        return int(min(60, max(1, self._seconds * self.waiting / self.settings.max_batch_size)))

    # ── preparing: threads that wait for media and worker processes ────────────────────────────────────────────

    def _next(self) -> ChatJob | None:
        """The first request of the client whose turn it is; None once the scheduler stops."""
        with self._changed:
            while not self._stopped:
                # preparing far ahead would only use memory
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
            failure: Exception | None = None
            try:
                self.metrics.waited.observe(time.perf_counter() - job.arrived)
                self._prepare(job)
            except Exception as error:  # caused by this request's media
                failure = error
            with self._changed:
                self._preparing -= 1
                if self._stopped:
                    failure = failure or stopping()  # the model thread has ended, so end it here
                if job.cancelled:
                    self._record_end(job, "cancelled")
                elif failure is None:
                    self._ready.append(job)
                self._changed.notify_all()
            if failure is not None and not job.cancelled:
                self._finish_with_error(job, failure)

    def _prepare(self, job: ChatJob) -> None:
        started = time.perf_counter()
        given = job.media()
        for number, media in enumerate(given, 1):
            if job.cancelled:
                return
            name = _public_name(media, number if len(given) > 1 else None)
            job.decoded.append(
                self.engine.decode(media, job.protocol, cache=self.cache, opener=self._opener, name=name)
            )
        check_losses(job.decoded, strict=job.strict)
        receipts = [item.receipt for item in job.decoded]
        with self._tokenizer_lock:
            job.encoded = self.engine.runner.tokenise(job.messages, receipts)
            if job.options.schema is not None:
                self.engine.runner.grammars.read_tokenizer()  # the first time takes seconds
        job.decode_seconds = time.perf_counter() - started
        self.metrics.stage.labels("decode").observe(job.decode_seconds)

    # ── computing: one thread ──────────────────────────────────────────────────────────────────────────────────

    def _compute(self) -> None:
        batch = self.engine.runner.batch(BeginningsCache(self.settings.prompt_cache_bytes))
        while True:
            with self._changed:
                while not (self._stopped or self._ready or self._running):
                    self._changed.wait()
                if self._stopped:
                    left = [*self._running, *self._ready]
                    self._running, self._ready = [], deque()
                    break
                newcomers = self._newcomers() if batch.can_join else []
                self._running += newcomers
                self._changed.notify_all()
            if newcomers:
                self._admit(batch, newcomers)
            self._step(batch)
        for job in left:
            self._finish_with_error(job, stopping())

    def _newcomers(self) -> list[ChatJob]:
        """Ready requests that join together: as many as there is room for, up to the first with media to encode."""
        room = self.settings.max_batch_size - len(self._running)
        chosen: list[ChatJob] = []
        while self._ready and len(chosen) < room:
            chosen.append(self._ready.popleft())
            if any(item.encoded is None for item in chosen[-1].decoded):
                break  # running answers wait for the encoders: a step comes in between
        return chosen

    def _admit(self, batch: DecodingBatch, jobs: Sequence[ChatJob]) -> None:
        """Encode what is not encoded yet, compute the prompts, and send the first tokens."""
        started: list[ChatJob] = []
        for job in jobs:
            if job.cancelled:
                self._finish(job, "cancelled")
                continue
            try:
                job.sequence = self._start(job)
                started.append(job)
            except Exception as error:  # caused by this request; the others continue
                self._finish(job, error)
        if not started:
            return
        try:
            self._join(batch, started)
        except Exception as error:
            for job in started:
                if len(started) == 1 or job.sequence is None or job.sequence.output.generated:
                    self._give_up(job, error)
                else:  # it may be another one's fault: each joins alone
                    self._join_alone(batch, job)

    def _join_alone(self, batch: DecodingBatch, job: ChatJob) -> None:
        try:
            self._join(batch, [job])
        except Exception as error:
            self._give_up(job, error)

    def _join(self, batch: DecodingBatch, jobs: Sequence[ChatJob]) -> None:
        pieces = batch.join(*(job.sequence for job in jobs if job.sequence is not None))
        for job, piece in zip(jobs, pieces, strict=True):
            assert job.sequence is not None
            if job.sequence.error is None:
                self._send(job, piece)
                self.metrics.first_token.observe(time.perf_counter() - job.arrived)
            self._finish_if_done(job)

    def _give_up(self, job: ChatJob, error: Exception) -> None:
        if job.sequence is not None:
            job.sequence.cancel()
        self._finish(job, error)

    def _start(self, job: ChatJob) -> ActiveSequence:
        started = time.perf_counter()
        items = [self.engine.encode_media(item, self.cache) for item in job.decoded]
        job.encode_seconds = time.perf_counter() - started
        if items:
            self.metrics.stage.labels("encode").observe(job.encode_seconds)
        for item in items:
            self.metrics.cache.labels("yes" if item.reused else "no").inc()
        job.decoded.clear()
        assert job.encoded is not None
        prompt = self.engine.runner.embed(job.encoded, MediaSet(items, job.protocol.name))
        return self.engine.runner.start(prompt, job.options)

    def _step(self, batch: DecodingBatch) -> None:
        jobs = {job.sequence: job for job in self._running if job.sequence is not None}
        for sequence, job in jobs.items():
            if job.cancelled:
                sequence.cancel()
        if batch.sequences:
            self.metrics.rows.observe(len(batch.sequences))
        try:
            for sequence, piece in batch.step():
                self._send(jobs[sequence], piece)
        except Exception as error:  # an error of the model itself: all sequences are lost
            logger.exception("a step failed; its answers end")
            batch.clear()
            for job in jobs.values():
                self._finish(job, error)
            return
        for job in jobs.values():
            self._finish_if_done(job)

    def _finish_if_done(self, job: ChatJob) -> None:
        """End a request whose sequence is done."""
        sequence = job.sequence
        if sequence is None or not sequence.done:
            return
        if sequence.error is not None or job.cancelled:
            self._finish(job, sequence.error or "cancelled")
            return
        if piece := sequence.output.flush():
            self._send(job, piece)
        seconds = {"decode_seconds": job.decode_seconds, "encode_seconds": job.encode_seconds}
        answer = self.engine.runner.answer(sequence, seconds)
        self._count(sequence, answer)
        self._seconds += 0.1 * (answer.timings["total_seconds"] - self._seconds)
        self._finish(job, answer)

    def _send(self, job: ChatJob, text: str) -> None:
        assert job.sequence is not None
        self._send_text(job, text, job.sequence.output.logprobs)

    @staticmethod
    def _send_text(job: ChatJob, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        """Send new text, and the log probabilities since the last."""
        new = tuple(logprobs[job.sent_logprobs :])
        job.sent_logprobs += len(new)
        if text or new:
            job.send(TextChunk(text, new))

    def _count(self, sequence: ActiveSequence, answer: Answer) -> None:
        tokens, spans = self.metrics.tokens, sequence.account.spans
        for span in spans:
            tokens.labels(span.modality).inc(span.length)
        tokens.labels("text").inc(answer.receipt.prompt_tokens - sum(span.length for span in spans))
        tokens.labels("generated").inc(answer.receipt.generated_tokens)
        self.metrics.stage.labels("prefill").observe(answer.timings["prefill_seconds"])
        self.metrics.stage.labels("generate").observe(answer.timings["generate_seconds"])

    def _finish(self, job: ChatJob, last: Answer | Exception | str) -> None:
        with self._changed:
            if job in self._running:
                self._running.remove(job)
            self._changed.notify_all()
        if isinstance(last, Exception):
            self._finish_with_error(job, last)
        elif isinstance(last, Answer):
            self._record_end(job, last.finish_reason)
            job.send(last)
        else:
            self._record_end(job, last)

    def _finish_with_error(self, job: ChatJob, error: Exception) -> None:
        self._record_end(job, "error")
        job.send(error)

    def _record_end(self, job: ChatJob, reason: str) -> None:
        job.sequence = None
        self.metrics.ended.labels(reason).inc()


@dataclass(frozen=True)
class Scheduling:
    """Where requests are answered: the cache of their media, and what makes the scheduler of a server."""

    cache: Callable[[Engine, ServeSettings], EncodedMediaCache]
    scheduler: Callable[[Engine, ServeSettings, ServerMetrics, Opener, EncodedMediaCache], Scheduler]


def stopping() -> ApiError:
    """The error of requests that the end of the server cuts off."""
    return ApiError(503, "stopping", "the server stopped before the answer was complete; try again", retry_after=5)


def _public_name(media: Media, number: int | None = None) -> str:
    """What a media item is called in receipts: an upload by its id, others by number if there are several."""
    if not isinstance(media.source, bytes):
        return source_name(media.source)
    return "the media item" if number is None else f"media item {number}"
