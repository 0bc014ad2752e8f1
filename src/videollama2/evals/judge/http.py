"""One POST of JSON to a judge's endpoint, with a deadline and a size limit (bounded_http.py).

No redirect is followed and no proxy used, so the API key goes to the host that was named and to no other.
"""

import http.client
import json
import math
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ...bounded_http import DEFAULT_PORTS, Exchange, TooManyBytes, connect, start_tls
from ...errors import UsageError

MAX_BYTES = 1 << 20  # size limit of a reply with its headers; a verdict takes a few hundred
_PATH = "/chat/completions"


class Unanswered(Exception):
    """No usable reply to a request.

    The text may be long and may quote the server; the client hides our secrets in it, then shortens it.

    Attributes:
        again: whether a retry may help.
        sent: whether the request may have cost tokens.
        wait: seconds that the server asks to wait.
    """

    def __init__(self, why: str, *, again: bool, sent: bool = True, wait: float | None = None) -> None:
        super().__init__(why)
        self.again, self.sent, self.wait = again, sent, wait


class Refused(Unanswered):
    """The server rejects this key, address or model, whatever the question."""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go."""

    scheme: str
    host: str
    port: int | None
    path: str
    query: str = field(repr=False)

    @property
    def public(self) -> str:
        """The URL without its query, which may hold a secret: safe to write down."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}{self.path}"

    @property
    def is_near(self) -> bool:
        """Whether the host is this machine."""
        return self.host in ("localhost", "127.0.0.1", "::1")


def read_endpoint(url: str) -> Endpoint:
    """The chat completions of an endpoint, from a base URL ("http://localhost:8000/v1") or the full URL.

    Raises:
        UsageError: not http or https, no host, or a password in the URL (process lists would show it).
    """
    expected = "expected http://HOST:PORT/v1 or https://HOST/v1"
    try:
        parts: SplitResult = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as connecting does; UnicodeError is a ValueError
    except ValueError as error:
        raise UsageError(f"the judge's endpoint is not a URL; {expected}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"the judge's endpoint is not an http URL; {expected}.")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the judge's endpoint has a user name or password; put the key in an environment variable.")
    if not url.strip().isascii() or not url.strip().isprintable() or " " in url.strip():
        raise UsageError(f"the judge's endpoint has characters that are not allowed in URLs; {expected}.")
    path = parts.path.rstrip("/")
    return Endpoint(parts.scheme, host, port, path if path.endswith(_PATH) else path + _PATH, parts.query)


def post(to: Endpoint, body: Mapping[str, Any], headers: Mapping[str, str], timeout_s: float) -> Any:
    """Send `body` and return the JSON object of the reply.

    Args:
        timeout_s: for the whole exchange, from connecting to the last byte.

    Raises:
        Unanswered: no JSON object; it says why, in words without secrets of ours.
        Refused: and no other body would get one.
    """
    deadline = time.monotonic() + timeout_s
    data = json.dumps(body).encode("ascii")
    port = DEFAULT_PORTS[to.scheme] if to.port is None else to.port
    sent = False
    try:
        with closing(_socket(to, port, deadline, timeout_s)) as sock:
            sent = True
            exchange = Exchange(sock, scheme=to.scheme, host=to.host, port=port, deadline=deadline, max_bytes=MAX_BYTES)
            path = to.path + (f"?{to.query}" if to.query else "")
            exchange.request("POST", path, data, {"Content-Type": "application/json", **headers})
            response = exchange.getresponse()
            content = response.read()
    except TooManyBytes as error:
        raise Unanswered(f"the reply is longer than {MAX_BYTES} bytes; it was not read", again=False) from error
    except TimeoutError as error:
        raise Unanswered(f"no complete reply within {timeout_s:g} s", again=True, sent=sent) from error
    except ssl.SSLCertVerificationError as error:
        why = f"the server's certificate is not trusted ({error.verify_message})"
        raise Refused(why, again=False, sent=False) from error
    except (OSError, http.client.HTTPException) as error:
        why = f"the connection failed ({type(error).__name__}: {error})"
        raise Unanswered(why, again=True, sent=sent) from error
    return _checked(response, content)


def _socket(to: Endpoint, port: int, deadline: float, timeout_s: float) -> socket.socket:
    sock = connect(to.host, port, timeout_s)
    return start_tls(sock, to.host, deadline) if to.scheme == "https" else sock


def _checked(response: http.client.HTTPResponse, content: bytes) -> Any:
    status, text = response.status, _text(content)
    if 300 <= status < 400:
        why = f"HTTP {status}: redirects are not followed; give the final URL"
        raise Refused(why, again=False, sent=False)
    if status in (401, 402, 404) or (status == 429 and b"insufficient_quota" in content):
        raise Refused(f"HTTP {status}{text}", again=False, sent=False)
    if status in (408, 409, 425, 429) or status >= 500:
        raise Unanswered(f"HTTP {status}{text}", again=True, sent=False, wait=_wait(response))
    if status != 200:
        raise Unanswered(f"HTTP {status}{text}", again=False, sent=False)
    kind = response.headers.get_content_type()
    if not kind.endswith("json"):
        raise Unanswered(f"the reply is {kind!r}, not JSON{text}", again=False)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unanswered(f"the reply is not complete JSON ({type(error).__name__})", again=True) from error
    if not isinstance(value, dict):
        raise Unanswered(f"the reply is a JSON {type(value).__name__}; expected an object", again=False)
    return value


def _text(content: bytes) -> str:
    """The body of an error, on one line."""
    text = " ".join(content.decode("utf-8", "replace").split())
    return f": {text}" if text else ""


def _wait(response: http.client.HTTPResponse) -> float | None:
    """Seconds of Retry-After, a number or a date (RFC 9110, 10.2.3)."""
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
