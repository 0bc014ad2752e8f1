"""One HTTP/1.1 request over a connected socket, with a deadline and a size limit for the whole exchange.

    connect ─► start_tls ─► Exchange(sock).request ─► getresponse ─► read
                                                     └─ every byte passes a BoundedReader

Built on http.client because of what it does not do: read proxy settings from the environment, follow redirects, keep
cookies or decompress content. It lacks a deadline and a size limit for a whole exchange; `BoundedReader` adds both
underneath, so they also stop a server that sends its status line one byte a minute.
"""

import http.client
import io
import socket
import ssl
import time
from functools import partial
from typing import Any

DEFAULT_PORTS = {"http": 80, "https": 443}


class TooManyBytes(http.client.HTTPException):
    """The server sent more bytes than allowed."""


def seconds_left(deadline: float) -> float:
    """Seconds until a deadline of time.monotonic.

    Raises:
        TimeoutError: it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """A connected socket; `host` is looked up.

    Raises:
        OSError: no connection.
    """
    return socket.create_connection((host, port), seconds)


def connect_to_address(address: str, port: int, seconds: float) -> socket.socket:
    """A connected socket; `address` is an IP address and is not looked up.

    Raises:
        OSError: no connection.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def start_tls(sock: socket.socket, host: str, deadline: float, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """The socket with TLS, its certificate verified for `host`; closes the socket if that fails.

    Raises:
        ssl.SSLError, OSError: no TLS connection. TimeoutError: the deadline has passed.
    """
    try:
        sock.settimeout(seconds_left(deadline))
        return (context or ssl.create_default_context()).wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


class Exchange(http.client.HTTPConnection):
    """One request and its response over a connected socket, which the caller closes.

    Attributes:
        max_bytes: how many more bytes the server may send; may be raised after the headers.
    """

    def __init__(
        self, sock: socket.socket, *, scheme: str, host: str, port: int, deadline: float, max_bytes: int
    ) -> None:
        super().__init__(host, port)
        self.default_port = DEFAULT_PORTS[scheme]  # left out of the Host header
        self.auto_open = 0  # never connect
        self.sock: Any = sock
        self.deadline, self.max_bytes = deadline, max_bytes
        self.response_class = partial(_response, exchange=self)  # type: ignore[assignment]

    def send(self, data: Any) -> None:
        """Send like http.client, within the deadline."""
        self.sock.settimeout(seconds_left(self.deadline))
        super().send(data)

    def close(self) -> None:
        """Do nothing: http.client calls this before the content is read."""


def _response(sock: socket.socket, *, exchange: Exchange, method: str | None = None) -> http.client.HTTPResponse:
    reader: Any = BoundedReader(sock, exchange)
    return http.client.HTTPResponse(reader, method=method)


class BoundedReader(io.RawIOBase):
    """Reads from a socket, within the exchange's deadline and byte limit, however much http.client requests.

    (For a chunk that claims -1 bytes, http.client would read until the connection ends.)
    """

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock, self._exchange = sock, exchange

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(seconds_left(self._exchange.deadline))
        count = self._sock.recv_into(buffer)
        self._exchange.max_bytes -= count
        if self._exchange.max_bytes < 0:
            raise TooManyBytes("more bytes than allowed")
        return count
