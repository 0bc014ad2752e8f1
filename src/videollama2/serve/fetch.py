"""Downloads media by URL, for a server that allows it: the only code that fetches URLs sent by clients.

    url ─► read_url ─► public_addresses, every address public ─► connect to that address ─► headers ─► bytes, counted
             ▲                                                                        │
             └───────────────────────── a redirect's target is checked like the URL ◄─┘

The host is looked up once; the connection goes to the address that was checked, and the name appears only in the Host
header and in TLS. One deadline covers the whole download (bounded_http.py).
"""

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urljoin

from ..bounded_http import Exchange, connect_to_address, seconds_left, start_tls
from ..errors import MediaTooLarge, UnreadableMedia, UsageError
from .addresses import Lookup, Target, public_addresses, read_url
from .settings import RequestLimits

_CHUNK_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 17  # of one response, including interim ones
_MAX_ADDRESSES = 3  # tried per host
_REDIRECTS = (301, 302, 303, 307, 308)

Connect = Callable[[str, int, float], socket.socket]
"""An IP address, a port and seconds, to a connected socket."""


class Fetcher:
    """Downloads media from the hosts that the server's settings list. Thread-safe."""

    def __init__(
        self,
        limits: RequestLimits,
        *,
        lookup: Lookup | None = None,
        connect: Connect | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """No connection is opened yet.

        Args:
            lookup, connect: replace name lookup and connecting; the tests have their own.
            tls: which certificates to trust; None: the system's.
        """
        self.limits = limits
        self._lookup, self._connect, self._tls = lookup, connect or connect_to_address, tls
        self._slots = threading.BoundedSemaphore(limits.url_concurrency)

    def check(self, url: str) -> Target:
        """Parse and check a URL without fetching anything.

        Raises:
            UsageError: it is not allowed.
        """
        if not self.limits.url_hosts:
            raise UsageError("this server does not allow media by URL; upload the file, or send it as a data URL.")
        return read_url(url, schemes=self.limits.url_schemes, ports=self.limits.url_ports, hosts=self.limits.url_hosts)

    def fetch(self, url: str, max_bytes: int | None = None) -> bytes:
        """The content at a URL.

        Args:
            max_bytes: size limit; only lowers the server's own.

        Raises:
            UsageError: the URL, or one that it redirects to, is not allowed.
            UnreadableMedia: no content, or too slow. MediaTooLarge: more than allowed.
        """
        limit = min(self.limits.url_max_bytes, self.limits.url_max_bytes if max_bytes is None else max_bytes)
        deadline = time.monotonic() + self.limits.url_seconds
        target = self.check(url)
        if not self._slots.acquire(timeout=self.limits.url_seconds):
            raise UnreadableMedia("too many downloads at once; try again later, or upload the file.")
        try:
            for _ in range(self.limits.url_redirects + 1):
                found = self._once(target, deadline, limit)
                if isinstance(found, bytes):
                    return found
                target = self._redirected(target, found)
        finally:
            self._slots.release()
        raise UnreadableMedia(f"{target.host} redirects more than {self.limits.url_redirects} times; upload the file.")

    def _redirected(self, target: Target, location: str) -> Target:
        """A redirect's target, checked like the original URL."""
        try:
            following = self.check(urljoin(f"{target.scheme}://{target.authority}{target.path}", location))
        except ValueError as error:  # UsageError is one
            raise UsageError(f"the redirect of {target.host} is not followed: {error}") from error
        if target.scheme == "https" and following.scheme != "https":
            raise UsageError(f"the redirect of {target.host} from https to http is not followed.")
        return following

    def _once(self, target: Target, deadline: float, limit: int) -> bytes | str:
        """The content at an address, or the location it redirects to."""
        try:
            with closing(self._socket(target, deadline)) as sock:
                exchange = Exchange(
                    sock, scheme=target.scheme, host=target.host, port=target.port, deadline=deadline,
                    max_bytes=_MAX_HEADER_BYTES,
                )  # fmt: skip
                exchange.request("GET", target.path, headers={"Accept": "*/*", "Accept-Encoding": "identity"})
                return _content(target, exchange, exchange.getresponse(), limit)
        except TimeoutError as error:
            seconds = f"{self.limits.url_seconds:g} s"
            raise UnreadableMedia(f"{target.host} did not send the file within {seconds}; upload the file.") from error
        except ssl.SSLError as error:
            raise UnreadableMedia(f"the TLS certificate of {target.host} is not valid; upload the file.") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, UnreadableMedia | MediaTooLarge | UsageError):
                raise
            raise UnreadableMedia(f"{target.host} did not send a valid HTTP response; upload the file.") from error

    def _socket(self, target: Target, deadline: float) -> socket.socket:
        """A connection to an address of the host that has just been looked up and checked."""
        failure: OSError | None = None
        for address in public_addresses(target, deadline, self._lookup)[:_MAX_ADDRESSES]:
            try:
                sock = self._connect(address, target.port, seconds_left(deadline))
            except OSError as error:
                seconds_left(deadline)
                failure = error
                continue
            if target.scheme == "http":
                return sock
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return start_tls(sock, target.host, deadline, self._tls)
        raise UnreadableMedia(f"could not connect to {target.host}; check the URL, or upload the file.") from failure


def _content(target: Target, exchange: Exchange, response: http.client.HTTPResponse, limit: int) -> bytes | str:
    """The body, counted while it is read; for a redirect, its location."""
    if response.status in _REDIRECTS:
        location = response.getheader("Location")
        if not location:
            raise UnreadableMedia(f"{target.host} sent a redirect without a location; upload the file.")
        return location
    if response.status != 200:
        raise UnreadableMedia(f"{target.host} answered with HTTP status {response.status}; expected 200.")
    encoding = (response.getheader("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise UnreadableMedia(f"{target.host} sent compressed content, which was not requested; upload the file.")
    declared = response.length  # None: chunked, or until the connection ends
    if declared == 0:
        raise UnreadableMedia(f"{target.host} sent no content.")
    if declared is not None and declared > limit:
        raise _too_large(target, limit)
    exchange.max_bytes = 2 * limit + _MAX_HEADER_BYTES  # the content, and as much again for its chunks
    content = io.BytesIO()
    while chunk := response.read(_CHUNK_BYTES):
        if content.tell() + len(chunk) > limit:
            raise _too_large(target, limit)
        content.write(chunk)
    if declared is not None and content.tell() != declared:
        sent = f"{content.tell():,} of {declared:,} bytes"
        raise UnreadableMedia(f"{target.host} sent only {sent}; try again, or upload the file.")
    if not content.tell():
        raise UnreadableMedia(f"{target.host} sent no content.")
    return content.getvalue()


def _too_large(target: Target, limit: int) -> MediaTooLarge:
    return MediaTooLarge(f"{target.host} sends more than the limit of {limit:,} bytes; upload the file.")
