"""One POST of JSON to one host, with a deadline and a limit on what may come back.

The standard library's http.client, and no further package: what a judge needs of HTTP is one request and one reply,
and http.client follows no redirect, asks no environment variable for a proxy and keeps no cookies, so the key goes to
the host that was named and to no other. It has no deadline for a whole exchange and no limit on its size; `_Bounded`
adds both below it, where also a server that sends its status line one byte a minute meets them.
"""

import http.client
import io
import json
import math
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ...errors import UsageError

MOST_BYTES = 1 << 20  # of a reply with its headers; a judge's verdict takes a few hundred
_PATH = "/chat/completions"


class Unanswered(Exception):
    """No usable reply to one request. `again`: whether asking once more may help; `sent`: it may have cost tokens.

    The text may be long and hold what the server echoed; the client hides our secrets in it before it cuts it.
    """

    def __init__(self, why: str, *, again: bool, sent: bool = True, wait: float | None = None) -> None:
        super().__init__(why)
        self.again, self.sent, self.wait = again, sent, wait


class Refused(Unanswered):
    """The server will not answer anybody with this key, address or model; asking other things won't help either."""


@dataclass(frozen=True)
class Address:
    """Where requests go. `public` is how it is written down: without a query, which may hold a secret."""

    scheme: str
    host: str
    port: int | None
    path: str
    query: str = field(repr=False)

    @property
    def public(self) -> str:
        """The address in words, with nothing in it that may be secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}{self.path}"

    @property
    def is_near(self) -> bool:
        """Whether the host is this machine by its name."""
        return self.host in ("localhost", "127.0.0.1", "::1")


def address(url: str) -> Address:
    """Where chat completions of an endpoint are: a base URL ("http://localhost:8000/v1"), or the whole address.

    Raises:
        UsageError: not http or https, no host, or a password in the URL (it would be seen in lists of processes).
    """
    expected = "expected http://HOST:PORT/v1 or https://HOST/v1"
    try:
        parts: SplitResult = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as connecting does; UnicodeError is a ValueError
    except ValueError as error:
        raise UsageError(f"the judge's endpoint is no URL; {expected}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"the judge's endpoint is no web address; {expected}")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the judge's endpoint holds a name or password; put the key into an environment variable")
    if not url.strip().isascii() or not url.strip().isprintable() or " " in url.strip():
        raise UsageError(f"the judge's endpoint holds characters that no URL has; {expected}")
    path = parts.path.rstrip("/")
    return Address(parts.scheme, host, port, path if path.endswith(_PATH) else path + _PATH, parts.query)


def post(to: Address, body: Mapping[str, Any], headers: Mapping[str, str], timeout_s: float) -> Any:
    """Send `body` and return the JSON object of the reply.

    Args:
        timeout_s: for the whole exchange, from connecting to the last byte.

    Raises:
        Unanswered: there is no such object; it says why, in words without secrets of ours.
        Refused: nor will there be for any other body.
    """
    deadline = time.monotonic() + timeout_s
    data = json.dumps(body).encode("ascii")
    with closing(_connection(to, timeout_s)) as connection:
        connection.response_class = partial(_response, deadline=deadline)  # type: ignore[assignment]
        sent = False
        try:
            connection.connect()
            sent = True
            path = to.path + (f"?{to.query}" if to.query else "")
            connection.request("POST", path, data, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            content = response.read()
        except _TooMuch as error:
            raise Unanswered(f"the reply is longer than {MOST_BYTES} bytes; it was not read", again=False) from error
        except TimeoutError as error:
            raise Unanswered(f"no whole reply within {timeout_s:g} s", again=True, sent=sent) from error
        except ssl.SSLCertVerificationError as error:
            why = f"the server's certificate is not trusted ({error.verify_message})"
            raise Refused(why, again=False, sent=False) from error
        except (OSError, http.client.HTTPException) as error:
            why = f"the connection failed ({type(error).__name__}: {error})"
            raise Unanswered(why, again=True, sent=sent) from error
    return _checked(response, content)


def _connection(to: Address, timeout_s: float) -> http.client.HTTPConnection:
    if to.scheme == "https":
        return http.client.HTTPSConnection(to.host, to.port, timeout=timeout_s, context=ssl.create_default_context())
    return http.client.HTTPConnection(to.host, to.port, timeout=timeout_s)


class _TooMuch(Exception):
    pass


class _Bounded(io.RawIOBase):
    """What a socket receives, up to a deadline and a number of bytes; http.client reads through it."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline, self._left = sock, deadline, MOST_BYTES
        self._raw = sock.makefile("rb", buffering=0)  # it keeps the socket open after the connection lets go of it

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise _TooMuch
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _response(sock: socket.socket, *, deadline: float, method: str | None = None) -> http.client.HTTPResponse:
    bounded: Any = _Bounded(sock, deadline)
    return http.client.HTTPResponse(bounded, method=method)


def _checked(response: http.client.HTTPResponse, content: bytes) -> Any:
    status, said = response.status, _said(content)
    if 300 <= status < 400:
        why = f"HTTP {status}: the server points elsewhere, which is not followed; give the final address"
        raise Refused(why, again=False, sent=False)
    if status in (401, 402, 404) or (status == 429 and b"insufficient_quota" in content):
        raise Refused(f"HTTP {status}{said}", again=False, sent=False)
    if status in (408, 409, 425, 429) or status >= 500:
        raise Unanswered(f"HTTP {status}{said}", again=True, sent=False, wait=_wait(response))
    if status != 200:
        raise Unanswered(f"HTTP {status}{said}", again=False, sent=False)
    kind = response.headers.get_content_type()
    if not kind.endswith("json"):
        raise Unanswered(f"the reply is {kind!r}, not JSON{said}", again=False)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unanswered(f"the reply is no whole JSON ({type(error).__name__})", again=True) from error
    if not isinstance(value, dict):
        raise Unanswered(f"the reply is JSON of a {type(value).__name__}; expected an object", again=False)
    return value


def _said(content: bytes) -> str:
    """An error's text, as data on one line."""
    text = " ".join(content.decode("utf-8", "replace").split())
    return f": {text}" if text else ""


def _wait(response: http.client.HTTPResponse) -> float | None:
    """Seconds that the server asks to wait: a number or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        import email.utils

        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
