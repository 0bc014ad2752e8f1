"""A Clip as plain data and raw bytes, and back: how it goes from one process to another."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clip import Clip, Wave
from .framing import BadMessage, Blob

_SAMPLES = {"float32": np.float32, "float64": np.float64}
_ARRAYS, _TUPLES = ("frames", "times", "wave"), ("frame_indices", "notes", "losses")


def pack(clip: Clip) -> tuple[dict[str, Any], list[Blob]]:
    """What JSON holds of a clip, and the bytes of its frames, times and samples, in this order."""
    told = {f.name: getattr(clip, f.name) for f in fields(Clip) if f.name not in _ARRAYS}
    told["frame_indices"] = [int(i) for i in clip.frame_indices]
    told["shapes"] = [list(frame.shape) for frame in clip.frames]
    blobs: list[Blob] = []
    blobs += [_bytes(frame) for frame in clip.frames]
    blobs.append(_bytes(np.asarray(clip.times, np.float64)))
    wave = clip.wave
    told["wave"] = None
    if wave is not None:
        told["wave"] = {f.name: getattr(wave, f.name) for f in fields(Wave) if f.name != "samples"}
        told["wave"]["dtype"] = str(wave.samples.dtype)
        blobs.append(_bytes(wave.samples))
    return told, blobs


def unpack(told: Any, blobs: Sequence[bytearray]) -> Clip:
    """The clip that was packed.

    Raises:
        BadMessage: it is none; whoever sent it is not to be trusted.
    """
    try:
        rest = dict(told)
        shapes, wave = rest.pop("shapes"), rest.pop("wave")
        frames = tuple(_frame(shape, blob) for shape, blob in zip(shapes, blobs, strict=False))
        if len(blobs) != len(shapes) + 1 + (wave is not None):
            raise ValueError(f"{len(blobs)} blobs of {len(shapes)} frames")
        for name in _TUPLES:
            rest[name] = tuple(rest[name])
        if rest["range_seconds"] is not None:
            rest["range_seconds"] = tuple(rest["range_seconds"])
        if wave is not None:
            kind = _SAMPLES[wave.pop("dtype")]
            wave = Wave(samples=np.frombuffer(blobs[-1], kind), **wave)
        times = np.frombuffer(blobs[len(shapes)], np.float64)
        return Clip(frames=frames, times=times, wave=wave, **rest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadMessage(f"a clip that is none ({type(error).__name__}: {error})") from error


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).data.cast("B") if array.size else memoryview(b"")


def _frame(shape: Any, blob: bytearray) -> NDArray[np.uint8]:
    height, width, channels = shape
    if channels != 3:
        raise ValueError(f"a frame of {channels} channels")
    return np.frombuffer(blob, np.uint8).reshape(height, width, 3)
