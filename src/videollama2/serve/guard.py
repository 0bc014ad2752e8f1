"""Checks every request before its route (key, host, origin, size, speed), then logs and counts it.

One layer around the whole application, so that no route can bypass it.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import re
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, api_error
from .metrics import ServerMetrics
from .settings import ServeSettings

access = logging.getLogger("videollama2.serve.access")
_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_FORM_BYTES = 64 * 1024  # size of the form around a file
_MIN_RATE = 1 << 20  # bytes per second of a long body
UPLOADS = "/v1/files"


class RequestGuard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: ServerMetrics) -> None:
        self.app, self._settings, self._metrics = app, settings, metrics
        self._keys = [_digest(key) for key in settings.api_keys]
        self._held = {True: 0, False: 0}  # bytes of running requests: of uploads, and of other bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # not supported
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        await _GuardedRequest(self, scope, receive, send).run()

    def check(self, scope: Scope, headers: Headers) -> str:
        """The client's name for the scheduler.

        Raises:
            ApiError: the request is rejected.
        """
        host = headers.get("host", "")
        if self._settings.hosts and _name(host) not in self._settings.hosts:
            raise ApiError(
                421, "unknown_host", "this server does not accept that Host header; its operator can allow it"
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._settings.cors_origins and _site(origin) != host:
            raise ApiError(403, "cross_origin", "web pages from other origins may not call this server")
        client = (scope.get("client") or ("?",))[0]
        if not self._keys:
            return str(client)
        given = _digest(_key(headers.get("authorization", "")))
        matches = [
            hmac.compare_digest(given, key) for key in self._keys
        ]  # compare all keys, so that timing reveals nothing
        if not any(matches):
            raise ApiError(401, "invalid_api_key", "missing or wrong API key; expected Authorization: Bearer KEY")
        return f"key {matches.index(True)}"

    def max_bytes(self, scope: Scope, headers: Headers) -> int:
        """Size limit of the body.

        Raises:
            ApiError: the headers declare a larger or compressed body, or two lengths.
        """
        if "transfer-encoding" in headers and "content-length" in headers:  # a proxy may trust the other header
            raise ApiError(
                400, "two_lengths", "the request has Transfer-Encoding and Content-Length; expected one of them"
            )
        upload = scope["path"] == UPLOADS
        limit = self._settings.max_upload_bytes + _FORM_BYTES if upload else self._settings.max_body_bytes
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "packed_body", "compressed bodies are not accepted; send it without Content-Encoding")
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > limit:
            raise ApiError(413, "file_too_large" if upload else "request_too_large", _too_large(limit))
        return limit

    def hold(self, scope: Scope, size: int) -> bool:
        """Count bytes of a body as held (negative: released); False if all bodies together exceed the limit."""
        upload = scope["path"] == UPLOADS
        self._held[upload] += size
        return self._held[upload] <= (self._settings.files_bytes if upload else self._settings.bodies_bytes)

    def record(self, scope: Scope, headers: Headers, status: int, seconds: float) -> None:
        """Count and log a finished request."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        line: dict[str, Any] = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        access.info("request", extra={"fields": {"request_id": scope["state"]["request_id"], **line}})


class _GuardedRequest:
    """One request on its way through the guard."""

    def __init__(self, guard: RequestGuard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._headers = Headers(scope=scope)
        given = self._headers.get("x-request-id", "")
        self._id = given if _ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
        self._started, self._status = time.perf_counter(), 0
        self._max = self._read = 0
        self._complete = False

    async def run(self) -> None:
        state = self._scope.setdefault("state", {})
        state["request_id"] = self._id
        try:
            try:
                state["client"] = self._guard.check(self._scope, self._headers)
                self._max = self._guard.max_bytes(self._scope, self._headers)
            except ApiError as problem:
                await self._reject(problem)
                return
            await self._guard.app(self._scope, self._received, self._sent)
        except Exception as error:  # a bug of ours
            access.exception("failed", extra={"fields": {"request_id": self._id}})
            if not self._status:
                await self._reject(api_error(error, self._id))
        finally:
            self._guard.hold(self._scope, -self._read)
            seconds = time.perf_counter() - self._started
            self._guard.record(self._scope, self._headers, self._status or 499, seconds)

    async def _reject(self, problem: ApiError) -> None:
        # the unread rest of a chunked body must not be mistaken for the next request
        ends = {"Connection": "close"} if "transfer-encoding" in self._headers else {}
        response = JSONResponse(problem.body(), problem.status, problem.headers | ends)
        await response(self._scope, self._receive, self._sent)

    async def _received(self) -> Message:
        """The next part of the body, counted; after the body, any further message."""
        if self._complete:
            return await self._receive()
        allowed = self._guard._settings.body_seconds + self._read / _MIN_RATE
        try:
            async with asyncio.timeout(max(0.0, self._started + allowed - time.perf_counter())):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the request's body did not arrive in time") from None
        size = len(message.get("body", b""))
        self._read += size
        room = self._guard.hold(self._scope, size)
        if self._read > self._max:
            raise HTTPException(413, _too_large(self._max))
        if not room:
            raise HTTPException(503, "too many large requests at once; try again later", {"Retry-After": "5"})
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            added = [(b"x-request-id", self._id.encode()), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await self._send(message)


def _too_large(limit: int) -> str:
    return f"the request is larger than {limit:,} bytes; upload large media as files"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _key(authorization: str) -> str:
    """The key of a Bearer header, or the password of a Basic one, for which browsers prompt."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def _site(origin: str) -> str | None:
    """Host and port of an Origin header; None if it is invalid."""
    try:
        return urlsplit(origin).netloc
    except ValueError:  # invalid IPv6 address
        return None


def _name(host: str) -> str:
    """A Host header without the port."""
    return re.sub(r":\d*$", "", host).lower()
