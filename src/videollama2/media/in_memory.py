"""Converts other libraries' media to what `open_clip` accepts: tensors, channels first, floats, waves, base64.

Nothing here decodes a file.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableMedia, UsageError
from .mixing import RATE
from .recording import Recording

_DATA_URL = re.compile(r"data:[^,]*?;base64,", re.IGNORECASE)
_PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def as_array(value: Any) -> Any:
    """A tensor as an array; anything else unchanged."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def is_picture(value: Any) -> bool:
    """Whether a value is one picture, and so can be a frame: a PIL image, an array of 2 or 3 axes, an image's path."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return len(shape) in (2, 3)
    if hasattr(value, "convert"):  # PIL
        return True
    return str(value).lower().endswith(_PICTURE_SUFFIXES) and not isinstance(value, bytes)


def is_frames(value: Any) -> bool:
    """Whether a value is a list of the frames of one video."""
    return isinstance(value, list | tuple) and bool(value) and all(map(is_picture, value))


def picture(value: Any) -> Any:
    """An image or video with channels last, in bytes: arrays and tensors u8[…, H, W, C]; anything else unchanged.

    Floats are read as 0…1, or, if one is larger, as 0…255.

    Raises:
        UsageError: floats outside 0…255, or that are not finite.
    """
    if isinstance(value, list | tuple):
        return [picture(one) for one in value]
    array = as_array(value)
    if not isinstance(array, np.ndarray):
        return array
    if array.ndim >= 3 and array.shape[-3] in (1, 3, 4) and array.shape[-1] not in (1, 3, 4):
        array = np.moveaxis(array, -3, -1)
    if array.dtype.kind == "f":
        least, most = float(array.min(initial=0)), float(array.max(initial=0))
        if not (least >= 0 and most <= 255):  # NaN fails, too
            raise UsageError(f"pixels from {least:g} to {most:g}; expected 0 to 1, or 0 to 255.")
        array = np.rint(array * (255 if most <= 1 else 1)).astype(np.uint8)
    return array


def recording(samples: Any, rate: int | None, name: str = "<samples>") -> Recording:
    """Audio samples as a Recording: mixed down and resampled to 16 kHz.

    Args:
        samples: [S], [channels, S] or [S, channels]; floats within ±1, or integers of 16 or 32 bits.
        rate: samples per second; None: 16,000.

    Raises:
        UsageError: another shape, or a rate that is not positive.
    """
    array = np.asarray(as_array(samples))
    if array.ndim == 2:
        array = array.mean(axis=int(array.shape[0] > array.shape[1]))
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise UsageError(f"the audio is {array.dtype}{list(array.shape)}; expected [samples] or [channels, samples].")
    if rate is not None and not rate > 0:
        raise UsageError(f"sampling_rate={rate!r}; expected samples per second.")
    integers = np.asarray(as_array(samples)).dtype
    wave: NDArray[np.float64] = array.astype(np.float64)
    if integers.kind in "iu":
        wave = wave / (np.iinfo(integers).max + 1)
    notes = () if rate is not None else (f"no sampling_rate was given for the audio: {RATE:,} per second is assumed",)
    return Recording(samples=_at_16k(wave, round(rate or RATE)), name=name, notes=notes)


def _at_16k(wave: NDArray[np.float64], rate: int) -> NDArray[np.float32]:
    if rate == RATE:
        return wave.astype(np.float32)
    import torch

    from .fbank import resample_fourier

    padded = np.pad(wave, (0, rate // 10))  # silence, because the resampler treats the signal as periodic
    resampled = resample_fourier(torch.from_numpy(padded), rate, RATE).numpy()
    return resampled[: round(len(wave) * RATE / rate)].astype(np.float32)


def audio_source(value: Any, rate: int | None = None) -> Any:
    """Arrays, tensors, lists of numbers, and `{"array": …, "sampling_rate": …}` as a Recording; others unchanged."""
    if isinstance(value, Mapping) and "array" in value:
        return recording(value["array"], value.get("sampling_rate", rate))
    numbers = isinstance(value, Sequence) and not isinstance(value, str | bytes) and bool(value)
    if hasattr(value, "shape") or (numbers and isinstance(value[0], Real)):
        return recording(value, rate)
    return value


def from_base64(text: str) -> bytes:
    """The bytes of base64 text, or of a data URL.

    Raises:
        UnreadableMedia: it is not base64.
    """
    head = _DATA_URL.match(text)
    try:
        return base64.b64decode(text[head.end() :] if head else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableMedia(f"the media item is not valid base64 ({error}).") from None
