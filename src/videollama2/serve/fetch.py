"""The one place of the package that fetches what a stranger named: media by URL, for a server that allows it.

    url ─► read_url ─► resolve, every address public ─► connect to that address ─► headers ─► bytes, counted
             ▲                                                                        │
             └───────────────────────── a redirect is an address like the first ◄─────┘

The standard library's http.client below, because what matters here is what it does not do: it asks no environment
variable for a proxy, follows nothing, keeps no cookies and unpacks nothing. The host is looked up once, the connection
goes to the address that was checked, and the name stands in the Host header and in TLS only. One deadline holds for
the whole fetch, below http.client, where also a server that sends a byte a minute meets it.
"""

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import urljoin

from ..errors import MediaTooLarge, UnreadableMedia, UsageError
from .addresses import Lookup, Target, read_url, resolve
from .settings import RequestLimits

_PIECE = 1 << 16
_MOST_HEADERS = 1 << 17  # bytes of the headers of one answer, interim ones included
_MOST_ADDRESSES = 3  # of a host that are tried
_REDIRECTS = (301, 302, 303, 307, 308)

Connect = Callable[[str, int, float], socket.socket]
"""An IP address, a port and seconds, to a connected socket."""


class Fetcher:
    """Fetches media from the hosts that a server's settings list. Safe to use from several threads."""

    def __init__(
        self,
        limits: RequestLimits,
        *,
        lookup: Lookup | None = None,
        connect: Connect | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            lookup, connect: how hosts are looked up and addresses connected to; tests have a world of their own.
            tls: whose certificates are trusted; None: what the system trusts.
        """
        self.limits = limits
        self._lookup, self._connect, self._tls = lookup, connect or _connected, tls
        self._turn = threading.BoundedSemaphore(limits.url_concurrency)

    def check(self, url: str) -> Target:
        """Read an address without fetching anything.

        Raises:
            UsageError: it may not be fetched.
        """
        if not self.limits.url_hosts:
            raise UsageError("media by URL are turned off on this server; upload the file, or send it as a data URL")
        return read_url(url, schemes=self.limits.url_schemes, ports=self.limits.url_ports, hosts=self.limits.url_hosts)

    def fetch(self, url: str, most_bytes: int | None = None) -> bytes:
        """What is there.

        Args:
            most_bytes: of the content; only lowers the server's own limit.

        Raises:
            UsageError: the address, or one that it points to, may not be fetched.
            UnreadableMedia: nothing comes, not in time, or no content. MediaTooLarge: more than allowed.
        """
        most = min(self.limits.url_max_bytes, self.limits.url_max_bytes if most_bytes is None else most_bytes)
        deadline = time.monotonic() + self.limits.url_seconds
        target = self.check(url)
        if not self._turn.acquire(timeout=self.limits.url_seconds):
            raise UnreadableMedia("too many media are being fetched at once; try again later, or upload the file")
        try:
            for _ in range(self.limits.url_redirects + 1):
                found = self._once(target, deadline, most)
                if isinstance(found, bytes):
                    return found
                target = self._next(target, found)
        finally:
            self._turn.release()
        raise UnreadableMedia(
            f"{target.host} points on and on; at most {self.limits.url_redirects} redirects are followed"
        )

    def _next(self, target: Target, location: str) -> Target:
        """Where a redirect leads, checked as if the caller had named it."""
        try:
            following = self.check(urljoin(f"{target.scheme}://{target.authority}{target.path}", location))
        except ValueError as error:  # UsageError is one
            raise UsageError(f"{target.host} points elsewhere, which is not followed: {error}") from error
        if target.scheme == "https" and following.scheme != "https":
            raise UsageError(f"{target.host} points from https to http, which is not followed")
        return following

    def _once(self, target: Target, deadline: float, most: int) -> bytes | str:
        """The content at an address, or the address it points to."""
        try:
            with closing(self._socket(target, deadline)) as sock:
                to = _Connection(target, sock, deadline)
                to.request("GET", target.path, headers={"Accept": "*/*", "Accept-Encoding": "identity"})
                response = to.getresponse()
                return _content(target, response, most)
        except (TimeoutError, _TooSlow) as error:
            limit = f"{self.limits.url_seconds:g} s"
            raise UnreadableMedia(f"{target.host} did not send the medium within {limit}; upload the file") from error
        except ssl.SSLError as error:
            raise UnreadableMedia(f"{target.host} can't be reached safely: its TLS certificate is not good") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, UnreadableMedia | MediaTooLarge | UsageError):
                raise
            raise UnreadableMedia(f"{target.host} did not answer as a web server does; upload the file") from error

    def _socket(self, target: Target, deadline: float) -> socket.socket:
        """A connection to an address of the host that was looked up and checked just now."""
        failure: OSError | None = None
        for address in resolve(target, deadline, self._lookup)[:_MOST_ADDRESSES]:
            try:
                sock = self._connect(address, target.port, _left(deadline))
            except OSError as error:
                failure = error
                continue
            if target.scheme == "http":
                return sock
            try:
                sock.settimeout(_left(deadline))
                return self._trust().wrap_socket(sock, server_hostname=target.host)
            except BaseException:
                sock.close()
                raise
        raise UnreadableMedia(f"no connection to {target.host}; check the address, or upload the file") from failure

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def _connected(address: str, port: int, seconds: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TooSlow
    return left


class _TooSlow(Exception):
    pass


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already. It never makes one, and leaves closing it to whoever made it."""

    def __init__(self, target: Target, sock: socket.socket, deadline: float) -> None:
        super().__init__(target.host, target.port)
        self.default_port = 443 if target.scheme == "https" else 80  # for the Host header
        self.sock: Any = sock
        self.auto_open = 0
        self.response_class = partial(_response, deadline=deadline)  # type: ignore[assignment]

    def close(self) -> None:
        """Nothing: http.client calls this before the content is read."""


def _response(sock: socket.socket, *, deadline: float, method: str | None = None) -> http.client.HTTPResponse:
    bounded: Any = _Bounded(sock, deadline)
    return http.client.HTTPResponse(bounded, method=method)


class _Bounded(io.RawIOBase):
    """What a socket receives, up to a deadline and a number of bytes, whatever http.client asks for.

    (Of a chunk that claims -1 bytes it would ask for all there is.)
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline, self._left = sock, deadline, _MOST_HEADERS

    def allow(self, most: int) -> None:
        """From here on it is content: so many bytes, and as much again for its chunks."""
        self._left = 2 * most + _MOST_HEADERS

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._deadline))
        count = self._sock.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise http.client.HTTPException("more bytes than were agreed to")
        return count


def _content(target: Target, response: http.client.HTTPResponse, most: int) -> bytes | str:
    """The body, counted while it is read; of a redirect, where it points."""
    if response.status in _REDIRECTS:
        location = response.getheader("Location")
        if not location:
            raise UnreadableMedia(f"{target.host} points elsewhere without saying where")
        return location
    if response.status != 200:
        raise UnreadableMedia(f"{target.host} answered with HTTP status {response.status}; expected 200")
    packed = (response.getheader("Content-Encoding") or "identity").strip().lower()
    if packed != "identity":
        raise UnreadableMedia(f"{target.host} sent the medium packed, though it was asked not to; it was not read")
    told = response.length  # None: chunked, or until the connection ends
    if told == 0:
        raise UnreadableMedia(f"{target.host} sent no content")
    if told is not None and told > most:
        raise _too_large(target, most)
    reader: Any = response.fp
    reader.raw.allow(most)
    content = io.BytesIO()
    while piece := response.read(_PIECE):
        if content.tell() + len(piece) > most:
            raise _too_large(target, most)
        content.write(piece)
    if told is not None and content.tell() != told:
        raise UnreadableMedia(f"{target.host} sent {content.tell():,} of {told:,} bytes; try again, or upload the file")
    if not content.tell():
        raise UnreadableMedia(f"{target.host} sent no content")
    return content.getvalue()


def _too_large(target: Target, most: int) -> MediaTooLarge:
    return MediaTooLarge(f"{target.host} sends more than {most:,} bytes; it was not read further")
