"""The FastAPI application: routes over one scheduler, behind one guard."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from .. import __version__
from ..engine import Engine
from ..errors import UsageError, VideoLlama2Error
from ..media_cache import EncodedMediaCache
from ..receipt import Answer
from ..ui import add_page
from . import metrics as figures
from . import schema
from .completions import PendingAnswer, job_for
from .decoding import Decoding
from .errors import ApiError, api_error, validation_error
from .fetch import Fetcher
from .files import FileStore, StoredFile, display_name, no_room
from .guard import RequestGuard
from .intake import MediaIntake
from .scheduler import Scheduler, Scheduling
from .settings import ServeSettings
from .streaming import streamed_response, whole_response

logger = logging.getLogger(__name__)
_SWEEP_SECONDS = 60.0
_CODES = {404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "request_too_large", 503: "busy"}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.ErrorBody, "description": text}
    for status, text in {
        400: "Invalid request, or unusable media",
        401: "Missing or wrong API key",
        403: "Web page from another origin",
        404: "Not found",
        408: "The body did not arrive in time",
        413: "Too large",
        415: "Compressed body",
        421: "Host header not accepted",
        429: "The queue is full; see Retry-After",
        500: "Internal error",
        503: "Stopping or out of memory; see Retry-After",
        504: "The answer took too long",
        507: "No storage left for files",
    }.items()
}


class ServerState:
    """Shared by the routes: engine, scheduler, files, cache and metrics."""

    def __init__(self, engine: Engine, settings: ServeSettings, scheduling: Scheduling) -> None:
        self.engine, self.settings = engine, settings
        self.metrics = figures.ServerMetrics()
        self.files = FileStore(settings)
        self.cache = scheduling.cache(engine, settings)
        fetcher = Fetcher(settings.limits) if settings.limits.url_hosts else None
        self.intake = MediaIntake(settings.limits, self.files, fetcher)
        self.decoding = Decoding(settings.limits)
        self.scheduler = scheduling.scheduler(engine, settings, self.metrics, self.decoding.open_clip, self.cache)
        gauge = self.metrics.gauge
        gauge("waiting", "Requests waiting", lambda: self.scheduler.waiting)
        gauge("running", "Requests being answered", lambda: self.scheduler.running)
        gauge("media_cache_bytes", "Encoded media in memory", lambda: self.cache.nbytes)
        gauge("files_bytes", "Uploaded files", lambda: self.files.bytes)
        self.started = int(time.time())

    def close(self) -> None:
        """Stop the scheduler and the media workers, and delete temporary files."""
        self.scheduler.stop()
        self.decoding.close()
        if not self.scheduler.join(self.settings.shutdown_seconds + 5):
            logger.warning("a decoding step did not end in time")
        self.files.close()


def _encoded_media(engine: Engine, settings: ServeSettings) -> EncodedMediaCache:
    return EncodedMediaCache(
        settings.cache_bytes, settings.cache_folder, settings.cache_folder_bytes, model=fingerprint(engine, settings)
    )


HERE = Scheduling(cache=_encoded_media, scheduler=Scheduler)


def fingerprint(engine: Engine, settings: ServeSettings) -> str:
    """Identifies the model in a cache. Only a cache on disk needs its weights hashed, which takes a while."""
    if settings.cache_folder is None:
        return engine.name
    from ..weights.digest import weights_sha256

    return f"{engine.name} {engine.model.dtype} {weights_sha256(engine.model) or secrets.token_hex(16)}"


def create_app(engine: Engine, settings: ServeSettings | None = None, scheduling: Scheduling = HERE) -> FastAPI:
    """The server's application; its state is `app.state.server`, closed at the end of its lifespan.

    Args:
        scheduling: how requests are answered; default: by the engine's own model.

    Raises:
        UsageError: invalid settings. OSError: its folders can't be created.
    """
    settings = settings or ServeSettings()
    server = ServerState(engine, settings, scheduling)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(server.files))
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.to_thread(server.close)

    app = FastAPI(
        title="VideoLLaMA 2", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json" if settings.docs else None,
        description="Questions about video, audio and images over OpenAI's chat API; every answer has a receipt.",
    )  # fmt: skip
    app.state.server = server
    _add_error_handlers(app)
    _model_routes(app, server)
    _chat_routes(app, server)
    _file_routes(app, server)
    if settings.page:
        add_page(app)
    app.add_middleware(RequestGuard, settings=settings, metrics=server.metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )  # fmt: skip
    return app


async def _sweep(files: FileStore) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        await asyncio.to_thread(files.sweep)


def _add_error_handlers(app: FastAPI) -> None:
    async def ours(request: Request, error: Exception) -> Response:
        problem = api_error(error, request.state.request_id)
        return JSONResponse(problem.body(), problem.status, problem.headers)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, OSError):  # a form is spooled to disk while it arrives
            problem = no_room(error.__cause__)
            return JSONResponse(problem.body(), problem.status)
        words = {404: "no such route", 405: "this route does not accept that method"}
        message = words.get(error.status_code, str(error.detail))
        problem = ApiError(error.status_code, _CODES.get(error.status_code, "invalid_request"), message)
        return JSONResponse(problem.body(), problem.status, {**problem.headers, **(error.headers or {})})

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problem = validation_error(error.errors())
        return JSONResponse(problem.body(), problem.status)

    app.add_exception_handler(VideoLlama2Error, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)


def _model_routes(app: FastAPI, server: ServerState) -> None:
    engine = server.engine
    config = engine.model.config
    described = schema.Model(
        id=engine.name, created=server.started, sees=config.vision_config is not None,
        hears=config.audio_config is not None, protocol=engine.protocol.name, context=config.max_positions,
    )  # fmt: skip

    @app.get("/v1/models", response_model=schema.ModelList, responses=_ERRORS)
    async def models() -> Any:
        """The model."""
        return schema.ModelList(data=[described])

    @app.get("/v1/models/{model:path}", response_model=schema.Model, responses=_ERRORS)
    async def model(model: str) -> Any:
        """The model, by its name."""
        if model not in (engine.name, "default"):
            raise ApiError(404, "model_not_found", f"this server serves {engine.name}", param="model")
        return described

    @app.get("/health", response_model=schema.Health, responses={503: {"model": schema.Health}})
    async def health() -> Any:
        """Whether the server is alive; responds while the model computes."""
        if not server.scheduler.alive:
            return JSONResponse({"status": "broken"}, 503)
        return {"status": "ok" if server.scheduler.open else "stopping"}

    @app.get("/ready", response_model=schema.Health, responses={503: {"model": schema.Health}})
    async def ready() -> Any:
        """Whether the server accepts requests."""
        if server.scheduler.alive and server.scheduler.open:
            return {"status": "ok"}
        return JSONResponse({"status": "stopping" if server.scheduler.alive else "broken"}, 503)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(server.metrics.text(), headers={"Content-Type": figures.CONTENT_TYPE})


def _chat_routes(app: FastAPI, server: ServerState) -> None:
    engine, settings = server.engine, server.settings

    @app.post("/v1/chat/completions", response_model=schema.Completion, responses=_ERRORS)
    async def chat(body: schema.ChatRequest, request: Request) -> Response:
        """An answer to a conversation, whole or with `stream: true` as server-sent events."""
        id = f"chatcmpl-{secrets.token_hex(12)}"
        seconds = min(settings.request_seconds, body.timeout or settings.request_seconds)
        pending = PendingAnswer(server.scheduler, seconds)
        job = await asyncio.to_thread(
            job_for,
            body,
            engine=engine,
            settings=settings,
            intake=server.intake,
            client=request.state.client,
            send=pending.send,
        )
        log = _logger_of(body, request, id, settings.log_content)
        pending.submit(job)
        if body.stream:
            with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
            return await streamed_response(request, id, pending, engine, with_usage, log)
        return await whole_response(request, id, pending, engine, log)


def _logger_of(body: schema.ChatRequest, request: Request, id: str, content: bool) -> Callable[[Answer], None]:
    def log(answer: Answer) -> None:
        line: dict[str, Any] = {
            "request_id": request.state.request_id, "id": id, "stream": bool(body.stream), 
            "finish": answer.finish_reason,
            "prompt_tokens": answer.receipt.prompt_tokens, "generated_tokens": answer.receipt.generated_tokens,
            "media": len(answer.receipt.media), "reused": len(answer.receipt.reused),
            **{name: round(value, 4) for name, value in answer.timings.items()},
        }  # fmt: skip
        if content:
            line |= {"asked": list(_texts(body)), "answer": answer.text}
        logger.info("answer", extra={"fields": line})

    return log


def _texts(body: schema.ChatRequest) -> Iterator[str]:
    for message in body.messages:
        if isinstance(message.content, str):
            yield message.content
        else:
            yield from (part.text for part in message.content or () if isinstance(part, schema.TextPart))


def _file_routes(app: FastAPI, server: ServerState) -> None:
    files = server.files

    @app.post("/v1/files", response_model=schema.File, responses=_ERRORS)
    async def upload(
        request: Request,
        file: UploadFile,
        purpose: Annotated[Literal["user_data", "vision", "assistants"], Form()] = "user_data",
        anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
        seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=1)] = None,
    ) -> Any:
        """Store a file; requests refer to it by its id until it expires."""
        known = {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"}
        given = [name for name, _ in (await request.form()).multi_items()]
        if unknown := sorted(set(given) - known):
            wrong = ascii(unknown[0])[1:-1][:60]
            raise ApiError(400, "unknown_parameter", f"{wrong} is not a field of an upload", param=wrong)
        if len(given) > len(set(given)):
            raise ApiError(400, "invalid_value", "a form field is repeated; send files one by one", param="file")
        if anchor is None and seconds is not None:
            raise UsageError("expires_after requires the anchor created_at.")
        name = display_name(file.filename)
        stored = await asyncio.to_thread(files.add, file.file, file.size or 0, name, purpose, seconds)
        return _file(stored)

    @app.get("/v1/files", response_model=schema.FileList, responses=_ERRORS)
    async def listed(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        after: Annotated[str | None, Query(max_length=100)] = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Any:
        """The files."""
        found = [file for file in files.list() if purpose in (None, file.purpose)]
        found = found if order == "desc" else found[::-1]
        if after is not None:
            found = found[[file.id for file in found].index(files.get(after).id) + 1 :]
        page = found[:limit]
        return schema.FileList(
            data=[_file(file) for file in page], has_more=len(found) > limit,
            first_id=page[0].id if page else None, last_id=page[-1].id if page else None,
        )  # fmt: skip

    @app.get("/v1/files/{file_id}", response_model=schema.File, responses=_ERRORS)
    async def one(file_id: str) -> Any:
        """A file."""
        return _file(files.get(file_id))

    @app.delete("/v1/files/{file_id}", response_model=schema.Deleted, responses=_ERRORS)
    async def delete(file_id: str) -> Any:
        """Delete a file."""
        await asyncio.to_thread(files.delete, file_id)
        return schema.Deleted(id=file_id)


def _file(stored: StoredFile) -> schema.File:
    return schema.File(**vars(stored))
