"""Chat requests as jobs for the scheduler, and answers in OpenAI's format."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ..engine import Engine
from ..generation.sampling import GenerateOptions
from ..protocols import protocol
from ..receipt import Answer, TokenLogprob
from ..text.tokenization import TokenBytes
from . import schema
from .chat_job import ChatJob, Event, TextChunk
from .errors import ApiError
from .intake import MediaIntake
from .response_format import requested_schema
from .scheduler import Scheduler
from .settings import ServeSettings

_KINDS = {"video_url": "video", "image_url": "image", "audio_url": "audio", "input_audio": "audio", "file": "video"}


class PendingAnswer:
    """An answer being generated: receives its events in the server's event loop."""

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        """Starts the time limit of `seconds`."""
        self._scheduler, self._seconds = scheduler, seconds
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + seconds
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._job: ChatJob | None = None

    def send(self, event: Event) -> None:
        """Deliver an event; may be called from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed: there is no one to receive the answer
            self.cancel()

    def submit(self, job: ChatJob) -> None:
        """Queue the job; raises like `Scheduler.submit`."""
        self._scheduler.submit(job)
        self._job = job

    def cancel(self) -> None:
        """Cancel the job; does nothing if it has ended."""
        if self._job is not None:
            self._scheduler.cancel(self._job)

    async def event(self, seconds: float | None = None) -> Event | None:
        """The next event; None if none arrives within `seconds`.

        Raises:
            ApiError: 504, the time limit was reached. Exception: the job failed.
        """
        until = self._deadline if seconds is None else min(self._deadline, self._loop.time() + seconds)
        try:
            async with asyncio.timeout_at(until):
                event = await self._events.get()
        except TimeoutError:
            if self._loop.time() < self._deadline:
                return None
            self.cancel()
            raise ApiError(504, "timeout", f"the answer was not complete within {self._seconds:g} s") from None
        if isinstance(event, Exception):
            raise event
        return event

    async def events(self) -> AsyncIterator[TextChunk | Answer]:
        """All events, the answer last; raises like `event`."""
        while True:
            event = await self.event()
            if isinstance(event, TextChunk | Answer):
                yield event
            if isinstance(event, Answer):
                return


def job_for(
    body: schema.ChatRequest, *, engine: Engine, settings: ServeSettings, intake: MediaIntake, client: str, send: Any
) -> ChatJob:
    """The job for a request.

    Raises:
        ApiError, UsageError: an invalid request.
    """
    if body.model not in (engine.name, "default"):
        raise ApiError(404, "model_not_found", f"this server serves {engine.name}, also called default", param="model")
    parts = [
        part.model_dump(exclude_none=True)
        for message in body.messages
        if not isinstance(message.content, str)
        for part in message.content or ()
        if not isinstance(part, schema.TextPart)
    ]
    limit = settings.limits.max_media
    if len(parts) > limit:
        raise ApiError(
            400,
            "too_many_media",
            f"the request has {len(parts)} media items; expected at most {limit}",
            param="messages",
        )
    return ChatJob(
        client=client,
        messages=[_message(message) for message in body.messages],
        media=lambda: intake.all(parts),
        options=_options(body, settings),
        protocol=protocol(body.protocol or engine.protocol),
        strict=bool(body.strict),
        send=send,
    )


def _message(message: schema.SystemMessage | schema.UserMessage | schema.AssistantMessage) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    if message.content is None or isinstance(message.content, str):
        return {"role": role, "content": message.content or ""}
    content = [
        {"type": "text", "text": part.text} if isinstance(part, schema.TextPart) else {"type": _KINDS[part.type]}
        for part in message.content
    ]
    return {"role": role, "content": content}


def _options(body: schema.ChatRequest, settings: ServeSettings) -> GenerateOptions:
    if None not in (lengths := (body.max_tokens, body.max_completion_tokens)) and lengths[0] != lengths[1]:
        raise ApiError(
            400,
            "invalid_value",
            "max_tokens and max_completion_tokens mean the same, but differ; send only one of them",
            param="max_tokens",
        )
    if body.stream_options is not None and body.stream_options.include_usage and not body.stream:
        raise ApiError(400, "invalid_value", "stream_options requires stream: true", param="stream_options")
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "invalid_value", "top_logprobs requires logprobs: true", param="top_logprobs")
    tokens = body.max_tokens or body.max_completion_tokens or settings.default_tokens
    temperature = body.temperature or 0.0
    return GenerateOptions(
        max_new_tokens=min(tokens, settings.max_tokens),
        temperature=temperature if temperature >= 1e-3 else 0.0,  # below that, sampling equals greedy decoding
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        schema=requested_schema(body.response_format),
    )


def completion(id: str, answer: Answer, engine: Engine) -> dict[str, Any]:
    """The response body of a whole answer."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    logprobs = None if answer.logprobs is None else logprobs_of(answer.logprobs, engine)
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": logprobs}
    return {
        "id": id, "object": "chat.completion", "created": int(time.time()), "model": engine.name, "choices": [choice],
        "usage": usage(answer), **extensions(answer),
    }  # fmt: skip


def extensions(answer: Answer) -> dict[str, Any]:
    """Fields beyond OpenAI's: the receipt, and seconds per stage."""
    plain = answer.to_dict()
    return {"receipt": plain["receipt"], "timings": {k: round(v, 6) for k, v in answer.timings.items()}}


def usage(answer: Answer) -> dict[str, Any]:
    """Token counts, by modality."""
    receipt = answer.receipt
    by_kind = {"image_tokens": 0, "video_tokens": 0, "audio_tokens": 0}
    for entry in receipt.media:
        by_kind[f"{getattr(entry, 'kind', 'audio')}_tokens"] += entry.tokens
    text = receipt.prompt_tokens - sum(by_kind.values())
    return {
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.generated_tokens,
        "total_tokens": receipt.prompt_tokens + receipt.generated_tokens,
        "prompt_tokens_details": {"text_tokens": text, **by_kind, "cached_tokens": 0},
    }


def logprobs_of(tokens: Sequence[TokenLogprob], engine: Engine) -> dict[str, Any]:
    """Log-probabilities in OpenAI's format."""

    bytes_of = TokenBytes(engine.processor.tokenizer)

    def entry(token: int, logprob: float) -> dict[str, Any]:
        content = bytes_of(token)  # of part of a character, too, whose text is written with escapes
        text = content.decode(errors="backslashreplace")
        return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(content)}

    content = [{**entry(t.token, t.logprob), "top_logprobs": [entry(*pair) for pair in t.top]} for t in tokens]
    return {"content": content, "refusal": None}
