"""Runs the application in uvicorn, and shuts it down without losing running answers."""

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..engine import Engine
from ..errors import UsageError
from .app import create_app
from .settings import ServeSettings

logger = logging.getLogger(__name__)
_DRAIN_SECONDS = 5.0  # to send the last events, once the answers have ended
_MAX_CONNECTIONS = 1024
_HEADER_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """Where a server listens; over TLS if it has a certificate and key."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS requires a certificate and its key; pass both or neither.")


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's protocol, which also closes a connection whose headers take longer than the keep-alive timeout."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        super().connection_lost(exc)
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the timer once the headers are complete."""
        super().data_received(data)
        if not self._idle:
            self._stop_timer()
        elif self._timer is None:  # part of the headers, on a reused connection
            self._start_timer()

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self._idle and not self.transport.is_closing():
            self.transport.close()


class GracefulServer(uvicorn.Server):
    """uvicorn's server, which on a signal rejects new requests and gives running answers a limited time to finish."""

    def __init__(self, app: Any, settings: ServeSettings, address: ServerAddress) -> None:
        proxies = address.trusted_proxies
        config = uvicorn.Config(
            app, host=address.host, port=address.port, log_config=None, access_log=False, server_header=False,
            ssl_certfile=address.certificate, ssl_keyfile=address.key, lifespan="on", ws="none",
            proxy_headers=proxies is not None, forwarded_allow_ips=proxies,
            limit_concurrency=_MAX_CONNECTIONS, http=HeaderTimeoutProtocol,
            timeout_keep_alive=max(1, int(min(_HEADER_SECONDS, settings.body_seconds))),
            timeout_graceful_shutdown=int(settings.shutdown_seconds + 2 * _DRAIN_SECONDS),
        )  # fmt: skip
        super().__init__(config)
        self._scheduler, self._settings = app.state.server.scheduler, settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops gracefully, the second at once."""
        again = self.should_exit
        super().handle_exit(sig, frame)
        if again:
            self._scheduler.stop()

    async def shutdown(self, sockets: Any = None) -> None:
        """Let running answers finish; after the time limit, end each with an error event."""
        self._scheduler.drain()
        ending = asyncio.create_task(self._stop_later())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _stop_later(self) -> None:
        await asyncio.sleep(self._settings.shutdown_seconds)
        logger.warning("shutdown time limit reached; ending running answers")
        self._scheduler.stop()


def serve(engine: Engine, settings: ServeSettings, address: ServerAddress, app: Any = None) -> None:
    """Serve until a signal arrives.

    Args:
        app: default: `create_app(engine, settings)`.

    Raises:
        OSError: the address can't be used.
        WorkerError: media workers can't start on this machine.
    """
    app = app or create_app(engine, settings)
    app.state.server.decoding.start()  # fail now, not at the first request
    GracefulServer(app, settings, address).run()


@contextlib.contextmanager
def in_thread(app: Any, settings: ServeSettings) -> Any:
    """A server on a free local port for the duration of the block; yields its URL and the server."""
    server = GracefulServer(app, settings, ServerAddress(port=0))
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise UsageError("the server did not start; see its log.")
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(settings.shutdown_seconds + 4 * _DRAIN_SECONDS)
