"""Responses, whole or as server-sent events; a client that disconnects cancels its request.

data: {"object": "chat.completion.chunk", …}      text
data: {…, "finish_reason": …, "receipt": …}       the last chunk with a choice
data: {…, "usage": …}                             if requested
data: {"error": {…}}                              if the answer fails after the stream has started
data: [DONE]                                      always
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ..engine import Engine
from ..errors import VideoLlama2Error
from ..json_lines import dumps_line
from ..receipt import Answer
from .chat_job import Event, TextChunk
from .completions import PendingAnswer, completion, extensions, logprobs_of, usage
from .errors import api_error

logger = logging.getLogger(__name__)
_FIRST_SECONDS = 15.0  # wait for the first event, so that an error until then has its own HTTP status
_KEEP_ALIVE_SECONDS = 10.0  # without an event, after which a comment is sent
_SEND_SECONDS = 30.0  # for a client to take a chunk


async def whole_response(
    request: Request, id: str, pending: PendingAnswer, engine: Engine, log: Callable[[Answer], None]
) -> Response:
    """The response once the answer is complete.

    Raises:
        ApiError, VideoLlama2Error: no answer.
    """

    async def last() -> Answer:
        answer: Answer | None = None
        async for event in pending.events():
            answer = event if isinstance(event, Answer) else None
        assert answer is not None
        return answer

    answer = await _unless_disconnected(request.receive, last(), pending)
    if answer is None:
        return Response(status_code=499)  # only for the log
    log(answer)
    return JSONResponse(completion(id, answer, engine))


async def _unless_disconnected(receive: Receive, work: Awaitable[Any], pending: PendingAnswer) -> Any:
    """The result of the work; None if the client disconnects first, which cancels the request."""
    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return None
    finally:
        for task in (working, watching):
            task.cancel()
        pending.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def streamed_response(
    request: Request,
    id: str,
    pending: PendingAnswer,
    engine: Engine,
    include_usage: bool,
    log: Callable[[Answer], None],
) -> Response:
    """The stream, once its first event has arrived or `_FIRST_SECONDS` have passed.

    Raises:
        ApiError, VideoLlama2Error: the request failed before.
    """
    watching = asyncio.ensure_future(_disconnected(request.receive))
    first = asyncio.ensure_future(pending.event(_FIRST_SECONDS))
    try:
        await asyncio.wait((first, watching), return_when=asyncio.FIRST_COMPLETED)
        event = first.result() if first.done() else None
    except BaseException:
        watching.cancel()
        pending.cancel()
        raise
    finally:
        first.cancel()
    return EventStream(_events(id, pending, event, engine, include_usage, log), watching, pending)


class EventStream(Response):
    """Sends events until they end or the client disconnects."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], watching: "asyncio.Future[None]", pending: PendingAnswer) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._watching, self._ticket = events, watching, pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        sending = asyncio.ensure_future(self._send(send))
        try:
            await asyncio.wait((sending, self._watching), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            self._watching.cancel()
            self._ticket.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, TimeoutError):
                await sending

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for text in self._events:
            async with asyncio.timeout(_SEND_SECONDS):  # a client that stops reading has gone
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _events(
    id: str,
    pending: PendingAnswer,
    event: Event | None,
    engine: Engine,
    include_usage: bool,
    log: Callable[[Answer], None],
) -> AsyncIterator[str]:
    head = {"id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": engine.name}

    def chunk(delta: dict[str, Any], **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None} | more.pop("choice", {})
        return _data({**head, "choices": [choice], **({"usage": None} if include_usage else {}), **more})

    yield chunk({"role": "assistant", "content": ""})
    try:
        while True:
            if isinstance(event, TextChunk):
                logprobs = {"logprobs": logprobs_of(event.logprobs, engine)} if event.logprobs else {}
                yield chunk({"content": event.text}, choice=logprobs)
            elif isinstance(event, Answer):
                log(event)
                yield chunk({}, choice={"finish_reason": event.finish_reason}, **extensions(event))
                if include_usage:
                    yield _data({**head, "choices": [], "usage": usage(event)})
                break
            elif event is None:
                yield ": the answer is on its way\n\n"
            event = await pending.event(_KEEP_ALIVE_SECONDS)
    except Exception as error:  # too late for an HTTP status
        problem = api_error(error, id)
        if not isinstance(error, VideoLlama2Error):
            logger.exception("answer failed", extra={"fields": {"id": id}})
        yield _data({"error": {**problem.body()["error"], "status": problem.status}})
    yield "data: [DONE]\n\n"


def _data(value: dict[str, Any]) -> str:
    return f"data: {dumps_line(value, ascii_only=False, compact=True)}\n\n"
