"""A Scheduler whose answers vLLM generates: the same queue, media workers, limits and receipts.

submit ─► waiting ─► decoded on threads ─► ready ─► vLLM, up to max_batch_size at once ─► text, receipt
"""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from ..backends.vllm.generator import Generation
from ..backends.vllm.items import ServedMedia
from ..backends.vllm.weightless import DecodedMediaCache, RemoteEngine
from ..encoded_media import DecodedMedia
from ..errors import NumericsError, UsageError
from ..generation.output import OutputStream
from ..generation.prompt import PromptAccount
from ..receipt import TokenLogprob
from ..text.tokenization import SLOT_IDS
from .chat_job import ChatJob
from .errors import ApiError
from .scheduler import Scheduler, Scheduling, stopping
from .settings import ServeSettings


class RemoteSequence:
    """One answer that is generated elsewhere; what Runner.answer needs of a sequence.

    Attributes:
        account, options, context_is_short, output, error, seconds: as of ActiveSequence.
        number: of the generator's request.
    """

    def __init__(self, account: PromptAccount, output: OutputStream, *, context_is_short: bool) -> None:
        self.account, self.output, self.context_is_short = account, output, context_is_short
        self.error: Exception | None = None
        self.seconds: list[float] = []
        self.number: int | None = None
        self.since = time.perf_counter()

    @property
    def done(self) -> bool:
        """Whether it has finished."""
        return self.output.finish is not None or self.error is not None

    def push(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> str:
        """Take new ids; return the text that is now final."""
        now = time.perf_counter()
        self.seconds.append(now - self.since)
        self.since = now
        text = ""
        for k, token in enumerate(ids):
            if self.output.finish is not None:
                break
            text += self.output.push(token, None if logprobs is None else logprobs[k])
        return text


class RemoteScheduler(Scheduler):
    """Queues requests and answers them with vLLM, which batches them itself."""

    engine: RemoteEngine

    @property
    def alive(self) -> bool:
        """Whether its threads are running, and vLLM."""
        return super().alive and self.engine.generator.alive

    def submit(self, job: ChatJob) -> None:
        """As of a Scheduler; raises ApiError (503) as well once vLLM has ended."""
        if not self.engine.generator.alive:
            raise _ended()
        super().submit(job)

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end, and end vLLM."""
        ended = super().join(seconds)
        self.engine.generator.close()
        return ended

    def _compute(self) -> None:
        while True:
            with self._changed:
                while not (self._stopped or self._room or self._cancelled):
                    self._changed.wait()
                if self._stopped:
                    running, ready = list(self._running), list(self._ready)
                    self._ready.clear()
                    break
                new = [self._ready.popleft() for _ in range(self._room)]
                self._running += new
                gone = self._cancelled
                self._changed.notify_all()
            for job in gone:
                self._end(job, "cancelled")
            for job in new:
                self._begin(job)
        for job in running:
            self._end(job, stopping())
        for job in ready:
            self._finish_with_error(job, stopping())

    @property
    def _room(self) -> int:
        """How many ready requests can start."""
        return min(len(self._ready), max(0, self.settings.max_batch_size - len(self._running)))

    @property
    def _cancelled(self) -> list[ChatJob]:
        return [job for job in self._running if job.cancelled]

    def _begin(self, job: ChatJob) -> None:
        try:
            sequence, generation = self._generation(job)
            job.remote = sequence
            sequence.number = self.engine.generator.begin(generation)
        except Exception as error:  # caused by this request; the others continue
            self._end(job, error)

    def _generation(self, job: ChatJob) -> tuple[RemoteSequence, Generation]:
        engine, encoded = self.engine, job.encoded
        assert encoded is not None
        for item in job.decoded:
            self.metrics.cache.labels("yes" if item.encoded is not None else "no").inc()
        account = PromptAccount(
            input_ids=encoded.input_ids,
            spans=encoded.spans,
            media=tuple(item.receipt for item in job.decoded),
            protocol=job.protocol.name,
            reused=tuple(item.receipt.source for item in job.decoded if item.encoded is not None),
            notes=encoded.notes,
        )
        options, short = engine.runner.fitted(job.options, len(encoded.input_ids))
        if options.schema is not None:
            engine.runner.grammars.start(options.schema)  # raises what our own engine would
        output = OutputStream(engine.processor.decode, options, engine.runner.stop_ids)
        sequence = RemoteSequence(account, output, context_is_short=short)
        generation = Generation(
            ids=slot_ids(account, job.decoded),
            media=[_served(item, job) for item in job.decoded],
            options=options,
            stop_ids=engine.runner.stop_ids,
            on_ids=lambda ids, logprobs: self._take(job, ids, logprobs),
            on_end=lambda error: self._ended(job, error),
        )
        return sequence, generation

    # ── on the generator's thread ──────────────────────────────────────────────────────────────────────────────

    def _take(self, job: ChatJob, ids: list[int], logprobs: list[TokenLogprob] | None) -> None:
        sequence = job.remote
        if sequence is None or sequence.done:
            return
        if logprobs and any(one.logprob != one.logprob for one in logprobs):
            sequence.error = NumericsError("the model's log probabilities are NaN.")
        first = not sequence.output.generated
        self._send_text(job, sequence.push(ids, logprobs), sequence.output.logprobs)
        if first:
            self.metrics.first_token.observe(time.perf_counter() - job.arrived)
        if sequence.output.finish is not None:  # a stop text, which vLLM does not know
            self._ended(job, None)

    def _ended(self, job: ChatJob, error: Exception | None) -> None:
        sequence = job.remote
        if sequence is None:
            return
        if error is not None or sequence.error is not None:
            self._end(job, error or sequence.error or stopping())
            return
        if sequence.output.finish is None:
            sequence.output.finish = "length"
        if piece := sequence.output.flush():
            self._send_text(job, piece, sequence.output.logprobs)
        seconds = {"decode_seconds": job.decode_seconds, "encode_seconds": 0.0}
        answer = self.engine.runner.answer(sequence, seconds)
        self._count(sequence, answer)
        self._end(job, answer)

    def _end(self, job: ChatJob, last: Any) -> None:
        """The last event of a request; the generator's work on it ends."""
        with self._changed:
            if job not in self._running:  # ended meanwhile, by the other thread
                return
            self._running.remove(job)
            sequence, job.remote = job.remote, None
        if sequence is not None and sequence.number is not None:
            self.engine.generator.cancel(sequence.number)
        self._finish(job, _public(last))


def slot_ids(account: PromptAccount, media: Sequence[DecodedMedia]) -> list[int]:
    """The prompt with one negative id in the place of each item's placeholders."""
    ids: list[int] = []
    at, spans = 0, iter(account.spans)
    for item in media:
        own = [next(spans) for _ in item.receipt.tokens]
        ids += [*account.input_ids[at : own[0].start], SLOT_IDS[item.receipt.modality]]
        at = own[-1].start + own[-1].length
    return [*ids, *account.input_ids[at:]]


def _served(item: DecodedMedia, job: ChatJob) -> ServedMedia:
    assert item.inputs is not None
    decoded, key = (item.inputs, item.receipt), item.key or secrets.token_hex(16)
    return ServedMedia(item.receipt.modality, None, job.protocol, decoded=decoded, key=key)


def _public(last: Any) -> Any:
    """An error of vLLM's as one of ours; it could name paths of this machine."""
    if isinstance(last, Exception) and type(last).__name__ == "EngineDeadError":
        return _ended()
    return last


def _ended() -> ApiError:
    """The error of requests once vLLM's process has ended, which it does not survive."""
    return ApiError(503, "engine_dead", "vLLM's engine process ended; this server answers again once it is restarted")


def _decoded_media(engine: Any, settings: ServeSettings) -> DecodedMediaCache:
    if settings.cache_folder is not None:
        raise UsageError(
            "--cache-folder stores what our own encoders computed, and vLLM has its own cache; drop --cache-folder."
        )
    return DecodedMediaCache(settings.cache_bytes, engine.name)


ON_VLLM = Scheduling(cache=_decoded_media, scheduler=RemoteScheduler)
