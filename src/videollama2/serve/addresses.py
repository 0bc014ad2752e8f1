"""Which URLs media may be downloaded from: one parser, and one table of networks that are never contacted.

text ── read_url ──► Target (scheme, host, port, path)      a strict grammar that all parsers agree on
host ── public_addresses ──► IP addresses, all public        connected to directly, never looked up again
"""

import ipaddress
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ..bounded_http import DEFAULT_PORTS
from ..errors import UnreadableMedia, UsageError

MAX_URL = 4096  # characters
Lookup = Callable[[str, int], list[tuple[Any, ...]]]
"""(host, port) → the result of socket.getaddrinfo."""

_URL = re.compile(
    r"(?P<scheme>[A-Za-z]{1,16})://(?P<host>[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(#.*)?"
)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# a last label that makes a host an IPv4 address (WHATWG URL, "ends in a number")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# IANA's special-purpose registries: addresses that are not hosts of the public Internet. Our own table, because the
# standard library's differs between versions of Python.
_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(net)
    for net in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
        "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
        "203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
    ).split()
]
# In IPv6 only global unicast is public, except ranges that embed or stand for other addresses: Teredo and its
# neighbours, documentation, 6to4, AS112. NAT64 (64:ff9b::/96), mapped, local and multicast are outside 2000::/3.
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(net)
    for net in "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3ffe::/16 3fff::/20".split()
]


@dataclass(frozen=True)
class Target:
    """Where a request goes. `path` begins with a slash and includes the query; it is sent verbatim."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host, and port unless it is the default: the Host header."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


def read_url(text: str, *, schemes: Collection[str], ports: Collection[int], hosts: Collection[str]) -> Target:
    """Parse a URL whose scheme, port and host are allowed.

    User names, passwords, brackets, backslashes, spaces, non-ASCII characters and numeric hosts in other notations than
    1.2.3.4 are rejected: anything that two parsers could read as different hosts.

    Raises:
        UsageError: an invalid URL, or its scheme, port or host is not allowed.
    """
    if len(text) > MAX_URL:
        raise UsageError(f"the media URL has {len(text):,} characters; expected at most {MAX_URL:,}")
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise UsageError("the media URL has characters that are not allowed in URLs; percent-encode them.")
    parts = _URL.fullmatch(text)
    if parts is None:
        raise UsageError(
            "the media URL is not valid; expected https://HOST/PATH, without user name, password or brackets."
        )
    scheme, host = parts["scheme"].lower(), parts["host"].lower()
    if scheme not in schemes:
        raise UsageError(f"the media URL has the scheme {scheme}; expected {' or '.join(schemes)}.")
    _check_host(host)
    port = int(parts["port"]) if parts["port"] else DEFAULT_PORTS[scheme]
    if port not in ports:
        raise UsageError(f"the media URL has port {port}; expected {' or '.join(map(str, sorted(ports)))}.")
    if not any(host == one or (one.startswith(".") and host.endswith(one)) for one in hosts):
        raise UsageError(
            f"this server does not allow media URLs from {host}; upload the file, or send it as a data URL."
        )
    return Target(scheme, host, port, (parts["path"] or "/") + (parts["query"] or ""))


def _check_host(host: str) -> None:
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise UsageError("the media URL has an invalid host name.")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            ipaddress.IPv4Address(host)  # four decimal numbers without leading zeros, nothing else
        except ValueError as error:
            raise UsageError("the media URL has a numeric host; expected a name, or four decimal numbers.") from error


def is_public(address: str) -> bool:
    """Whether an IP address, as getaddrinfo writes it, is on the public Internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in net for net in _NOT_PUBLIC_4)
    return found.scope_id is None and found in _PUBLIC_6 and not any(found in net for net in _NOT_PUBLIC_6)


def public_addresses(target: Target, deadline: float, lookup: Lookup | None = None) -> list[str]:
    """A host's addresses, in the order to try them. If any is not public, all are rejected.

    Args:
        deadline: on time.monotonic's clock.
        lookup: default: socket.getaddrinfo.

    Raises:
        UnreadableMedia: no address, a non-public one, or the lookup takes too long.
    """
    answers = _look_up(target, deadline, lookup or _system_lookup)
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    if not addresses:
        raise UnreadableMedia(f"{target.host} has no IP address; check the name, or upload the file.")
    if not all(is_public(address) for address in addresses):
        raise UnreadableMedia(f"{target.host} has an IP address outside the public Internet; upload the file.")
    return addresses


def _system_lookup(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _look_up(target: Target, deadline: float, lookup: Lookup) -> list[tuple[Any, ...]]:
    """Run `lookup` on a thread, because the system's has no deadline."""
    found: queue.SimpleQueue[list[tuple[Any, ...]] | Exception] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(lookup(target.host, target.port))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=look, daemon=True).start()
    try:
        answer = found.get(timeout=max(deadline - time.monotonic(), 0.001))
    except queue.Empty as error:
        raise UnreadableMedia(f"looking up {target.host} took too long; try again, or upload the file.") from error
    if isinstance(answer, Exception):
        raise UnreadableMedia(f"{target.host} was not found; check the name, or upload the file.") from answer
    return answer
