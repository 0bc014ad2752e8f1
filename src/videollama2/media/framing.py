"""Messages between processes: a JSON header and raw bytes. Reading one runs nothing and allocates what was agreed to.

8 bytes   length of the header, big-endian
header    JSON: {"blobs": [sizes], "body": anything}
blobs     the bytes, one after the other
"""

import json
import struct
from collections.abc import Sequence
from typing import IO, Any

MOST_HEADER = 64 << 20  # bytes

Blob = bytes | bytearray | memoryview


class BadMessage(ValueError):
    """What came is no message, or a larger one than was agreed to."""


def write_message(stream: IO[bytes], body: Any, blobs: Sequence[Blob] = ()) -> None:
    """Send one message, whole."""
    header = json.dumps({"blobs": [len(blob) for blob in blobs], "body": body}).encode()
    stream.write(struct.pack(">Q", len(header)) + header)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def read_message(stream: IO[bytes], most_bytes: int) -> tuple[Any, list[bytearray]] | None:
    """Body and blobs of the next message; None where the other side has ended.

    Args:
        most_bytes: of all blobs together.

    Raises:
        BadMessage: it is none, or too large.
    """
    length = _take(stream, 8)
    if length is None:
        return None
    size = int.from_bytes(length)
    if size > MOST_HEADER:
        raise BadMessage(f"a header of {size:,} bytes; at most {MOST_HEADER:,} are taken")
    header = _take(stream, size)
    if header is None:
        return None
    try:
        told = json.loads(header)
        body, sizes = told["body"], [int(n) for n in told["blobs"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadMessage(f"a header that is none ({type(error).__name__})") from error
    if sum(sizes) > most_bytes or min(sizes, default=0) < 0:
        raise BadMessage(f"{sum(sizes):,} bytes; at most {most_bytes:,} are taken")
    blobs = [_take(stream, n) for n in sizes]
    return None if any(blob is None for blob in blobs) else (body, [blob for blob in blobs if blob is not None])


def _take(stream: IO[bytes], size: int) -> bytearray | None:
    """Exactly so many bytes; None if there are fewer."""
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]  # IO lacks it, every stream has it
        if not got:
            return None
        done += got
    return found
