"""A server process: uvicorn over the application, and an end that loses no answer on its way."""

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
_LEAVE_SECONDS = 5.0  # for last events, once the answers have ended
_MOST_CONNECTIONS = 1024
_HEADER_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """Where a server listens; with a certificate and its key, over TLS."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS needs both a certificate and its key; expected both or neither")


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's protocol; a connection whose headers don't come within the keep-alive time is closed."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """As asyncio has it."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio has it."""
        super().connection_lost(exc)
        self._forget()

    def data_received(self, data: bytes) -> None:
        """As asyncio has it."""
        super().data_received(data)
        if not self._idle:
            self._forget()
        elif self._late is None:  # a part of the headers, on a connection that was used before
            self._watch()

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        self._late = self.loop.call_later(self.timeout_keep_alive, self._expire)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _expire(self) -> None:
        self._late = None
        if self._idle and not self.transport.is_closing():
            self.transport.close()


class GracefulServer(uvicorn.Server):
    """uvicorn's server; told to stop, it takes no more questions, and ends what takes longer than the settings say."""

    def __init__(self, app: Any, settings: ServeSettings, address: ServerAddress) -> None:
        proxies = address.trusted_proxies
        config = uvicorn.Config(
            app, host=address.host, port=address.port, log_config=None, access_log=False, server_header=False,
            ssl_certfile=address.certificate, ssl_keyfile=address.key, lifespan="on", ws="none",
            proxy_headers=proxies is not None, forwarded_allow_ips=proxies,
            limit_concurrency=_MOST_CONNECTIONS, http=HeaderTimeoutProtocol,
            timeout_keep_alive=max(1, int(min(_HEADER_SECONDS, settings.body_seconds))),
            timeout_graceful_shutdown=int(settings.shutdown_seconds + 2 * _LEAVE_SECONDS),
        )  # fmt: skip
        super().__init__(config)
        self._scheduler, self._settings = app.state.server.scheduler, settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first one stops with grace, the second at once."""
        again = self.should_exit
        super().handle_exit(sig, frame)
        if again:
            self._scheduler.stop()

    async def shutdown(self, sockets: Any = None) -> None:
        """As uvicorn's; the answers on their way have their time, and then are ended by a last event each."""
        self._scheduler.drain()
        ending = asyncio.create_task(self._end())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end(self) -> None:
        await asyncio.sleep(self._settings.shutdown_seconds)
        logger.warning("answers that are not complete are ended")
        self._scheduler.stop()


def serve(engine: Engine, settings: ServeSettings, address: ServerAddress, app: Any = None) -> None:
    """Serve until a signal comes.

    Args:
        app: another application than `create_app(engine, settings)`, made of it.

    Raises:
        OSError: the address can't be used.
        WorkerError: media can't be opened on this machine.
    """
    app = app or create_app(engine, settings)
    app.state.server.decoding.start()  # what can't start is said now, and not to whoever asks first
    GracefulServer(app, settings, address).run()


@contextlib.contextmanager
def in_thread(app: Any, settings: ServeSettings) -> Any:
    """A server on a free port of this machine, for as long as the block: yields its URL and itself."""
    server = GracefulServer(app, settings, ServerAddress(port=0))
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise UsageError("the server did not start; its log says why")
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(settings.shutdown_seconds + 4 * _LEAVE_SECONDS)
