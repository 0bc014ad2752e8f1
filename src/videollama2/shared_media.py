"""Media of several requests: each distinct item is decoded once, ahead on threads, and encoded once."""

import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from typing import Any

from .encoded_media import DecodedMedia, EncodedMedia, MediaSet
from .protocols import Protocol
from .text.media_parts import Media

_THREADS = 2
_AHEAD = 4  # items decoded and not yet encoded: their pixels are held in memory


class SharedMedia:
    """First `add` the media of each request, then `take` them in the same order. A context manager."""

    def __init__(
        self,
        decode: Callable[[Media, Protocol], DecodedMedia],
        encode: Callable[[DecodedMedia], EncodedMedia],
        check: Callable[..., None],
    ) -> None:
        """`decode`, `encode` and `check_losses` of the engine."""
        self._decode, self._encode, self._check = decode, encode, check
        self._requests: deque[tuple[list[Hashable], Protocol]] = deque()
        self._waiting: dict[Hashable, tuple[Media, Protocol]] = {}  # in the order of their first use
        self._decoding: dict[Hashable, Future[DecodedMedia]] = {}
        self._encoded: dict[Hashable, EncodedMedia] = {}
        self._pool = ThreadPoolExecutor(_THREADS, "decode")

    def __enter__(self) -> "SharedMedia":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, media: Sequence[Media], protocol: Protocol) -> None:
        """The next request's media, which may begin to be decoded."""
        keys = [_key(item, protocol) for item in media]
        self._requests.append((keys, protocol))
        for key, item in zip(keys, media, strict=True):
            if key not in self._decoding:
                self._waiting.setdefault(key, (item, protocol))
        self._decode_ahead()

    def take(self, *, strict: bool) -> MediaSet:
        """The media of the next request, encoded.

        Raises:
            MediaError, UnsupportedModality, MediaLost: as `Engine.prepare`.
        """
        keys, protocol = self._requests.popleft()
        started = time.perf_counter()
        decoded = {key: self._decoded(key) for key in keys}
        self._check(list(decoded.values()), strict=strict)
        decode_seconds = time.perf_counter() - started
        for key, item in decoded.items():
            if key not in self._encoded:
                self._encoded[key] = self._encode(item)
                del self._decoding[key]  # and its pixels
                self._decode_ahead()
        encode_seconds = time.perf_counter() - started - decode_seconds
        return MediaSet([self._encoded[key] for key in keys], protocol.name, decode_seconds, encode_seconds)

    def _decoded(self, key: Hashable) -> DecodedMedia:
        if key in self._encoded:
            return DecodedMedia(receipt=self._encoded[key].receipt, encoded=self._encoded[key])
        while key not in self._decoding:  # a request with more items than are decoded ahead
            self._submit()
        return self._decoding[key].result()

    def _decode_ahead(self) -> None:
        while self._waiting and len(self._decoding) < _AHEAD:
            self._submit()

    def _submit(self) -> None:
        key = next(iter(self._waiting))
        self._decoding[key] = self._pool.submit(self._decode, *self._waiting.pop(key))


def _key(media: Media, protocol: Protocol) -> Hashable:
    """Equal for the same use of the same source: a path, the same bytes, or the same object."""
    source: Hashable = id(media.source)
    if isinstance(media.source, bytes | str | os.PathLike):
        source = media.source if isinstance(media.source, bytes) else os.fspath(media.source)
    rest = (getattr(media, f.name) for f in fields(media) if f.name != "source")
    return (source, *map(_hashable, rest), protocol)


def _hashable(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
