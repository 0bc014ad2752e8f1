"""Messages between a worker and its parent: a JSON header and raw bytes, also for a Clip.

8 bytes   length of the header, big-endian
header    JSON: {"blobs": [sizes], "body": …}
blobs     raw bytes, one after the other

Reading a message runs no code of the sender and allocates no more than the reader's limit.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import fields
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip, Wave

MAX_HEADER = 64 << 20  # bytes

Blob = bytes | bytearray | memoryview

_SAMPLE_DTYPES = {"float32": np.float32, "float64": np.float64}
_ARRAY_FIELDS, _TUPLE_FIELDS = ("frames", "times", "wave"), ("frame_indices", "notes", "losses")


class BadMessage(ValueError):
    """The other side sent something malformed, or more than the limit."""


def write_message(stream: IO[bytes], body: Any, blobs: Sequence[Blob] = ()) -> None:
    """Send one message and flush."""
    header = json.dumps({"blobs": [len(blob) for blob in blobs], "body": body}).encode()
    stream.write(struct.pack(">Q", len(header)) + header)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def read_message(stream: IO[bytes], max_bytes: int) -> tuple[Any, list[bytearray]] | None:
    """Body and blobs of the next message; None if the stream ends before it is complete.

    Args:
        max_bytes: limit on all blobs together.

    Raises:
        BadMessage: malformed or too large.
    """
    length = _read_exactly(stream, 8)
    if length is None:
        return None
    size = int.from_bytes(length)
    if size > MAX_HEADER:
        raise BadMessage(f"a header of {size:,} bytes (limit {MAX_HEADER:,})")
    header = _read_exactly(stream, size)
    if header is None:
        return None
    try:
        content = json.loads(header)
        body, sizes = content["body"], [int(n) for n in content["blobs"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadMessage(f"a malformed header ({type(error).__name__})") from error
    if sum(sizes) > max_bytes or min(sizes, default=0) < 0:
        raise BadMessage(f"{sum(sizes):,} bytes (limit {max_bytes:,})")
    blobs = [_read_exactly(stream, n) for n in sizes]
    return None if any(blob is None for blob in blobs) else (body, [blob for blob in blobs if blob is not None])


def clip_to_message(clip: Clip) -> tuple[dict[str, Any], list[Blob]]:
    """Body and blobs of a clip; the blobs are its frames, times and audio samples, in this order."""
    body = {f.name: getattr(clip, f.name) for f in fields(Clip) if f.name not in _ARRAY_FIELDS}
    body["frame_indices"] = [int(i) for i in clip.frame_indices]
    body["shapes"] = [list(frame.shape) for frame in clip.frames]
    blobs: list[Blob] = []
    blobs += [_raw(frame) for frame in clip.frames]
    blobs.append(_raw(np.asarray(clip.times, np.float64)))
    wave = clip.wave
    body["wave"] = None
    if wave is not None:
        body["wave"] = {f.name: getattr(wave, f.name) for f in fields(Wave) if f.name != "samples"}
        body["wave"]["dtype"] = str(wave.samples.dtype)
        blobs.append(_raw(wave.samples))
    return body, blobs


def clip_from_message(body: Any, blobs: Sequence[bytearray]) -> Clip:
    """The clip of a message.

    Raises:
        BadMessage: not a valid clip; stop trusting the sender.
    """
    try:
        rest = dict(body)
        shapes, wave = rest.pop("shapes"), rest.pop("wave")
        frames = tuple(_frame(shape, blob) for shape, blob in zip(shapes, blobs, strict=False))
        if len(blobs) != len(shapes) + 1 + (wave is not None):
            raise ValueError(f"{len(blobs)} blobs for {len(shapes)} frames")
        for name in _TUPLE_FIELDS:
            rest[name] = tuple(rest[name])
        if rest["range_seconds"] is not None:
            rest["range_seconds"] = tuple(rest["range_seconds"])
        if wave is not None:
            dtype = _SAMPLE_DTYPES[wave.pop("dtype")]
            wave["notes"] = tuple(wave["notes"])
            wave = Wave(samples=np.frombuffer(blobs[-1], dtype), **wave)
        times = np.frombuffer(blobs[len(shapes)], np.float64)
        return Clip(frames=frames, times=times, wave=wave, **rest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadMessage(f"a malformed clip ({type(error).__name__}: {error})") from error


def _read_exactly(stream: IO[bytes], size: int) -> bytearray | None:
    """`size` bytes; None if the stream ends first."""
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]  # IO lacks it, every stream has it
        if not count:
            return None
        done += count
    return data


def _raw(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).data.cast("B") if array.size else memoryview(b"")


def _frame(shape: Any, blob: bytearray) -> NDArray[np.uint8]:
    height, width, channels = shape
    if channels != 3:
        raise ValueError(f"a frame of {channels} channels")
    return np.frombuffer(blob, np.uint8).reshape(height, width, 3)
