"""Every error that a user can encounter, in one hierarchy.

    VideoLlama2Error                         exit 1
    ├── UsageError                           exit 2   an invalid argument or flag
    ├── MediaError                           exit 3   a file or array can't be used
    │   ├── MediaNotFound
    │   ├── UnreadableMedia                           corrupt, truncated or not media at all
    │   ├── NoVideoStream
    │   ├── NoAudioStream
    │   ├── EmptyMedia                                no frames, no samples, an empty folder
    │   ├── MediaTooLarge
    │   ├── TimeRangeError                            empty, or beyond the end
    │   ├── MediaLost                                 strict mode: a requested input would be dropped
    │   └── DataError                                 training records that can't be read or used
    ├── WeightsError                         exit 4   a checkpoint can't be used
    │   ├── CheckpointNotFound
    │   ├── ConfigError                               unknown key or invalid value
    │   ├── TensorMismatch                            missing, unexpected or misshapen tensors
    │   └── UnsafeFile                                a pickle with more than tensors and plain data
    ├── PromptError                          exit 5   the model can't take this conversation
    │   ├── UnsupportedModality
    │   └── ContextOverflow
    ├── NumericsError                        exit 6   NaN or infinity in a computation
    ├── MissingExtra                         exit 7   an optional package is not installed
    ├── OutOfMemory                          exit 1   llama.cpp found no memory for a prompt
    ├── WorkerError                          exit 1   could not start a media worker
    └── StorageError                         exit 8   could not write output: disk full, read-only, no permission

Each message states what was found, what was expected, and what to do next.
"""

import difflib
from collections.abc import Iterable


class VideoLlama2Error(Exception):
    """Base class of all errors. `exit_code` is the command line's exit code for it."""

    exit_code = 1


class UsageError(VideoLlama2Error, ValueError):
    """An invalid argument or flag."""

    exit_code = 2


class MediaError(VideoLlama2Error, ValueError):
    """A media item (a file, a folder, an array) can't be used."""

    exit_code = 3


class MediaNotFound(MediaError, FileNotFoundError):
    """The path does not exist."""


class UnreadableMedia(MediaError):
    """The file is corrupt, truncated or not media at all."""


class NoVideoStream(MediaError):
    """Video was requested from a file that has none."""


class NoAudioStream(MediaError):
    """Audio was requested from a file that has none."""


class EmptyMedia(MediaError):
    """No frames, no samples, or a folder without images."""


class MediaTooLarge(MediaError):
    """The media item exceeds a limit on pixels, frames, seconds or bytes."""


class TimeRangeError(MediaError):
    """The requested time range is empty or lies beyond the end."""


class MediaLost(MediaError):
    """Strict mode: a requested input would have been dropped."""


class DataError(MediaError):
    """A file of training records, or one of its records, can't be read or used."""


class WeightsError(VideoLlama2Error, ValueError):
    """A checkpoint can't be used."""

    exit_code = 4


class CheckpointNotFound(WeightsError, FileNotFoundError):
    """No checkpoint has this path or name."""


class ConfigError(WeightsError):
    """A configuration has an unknown key or an invalid value."""


class TensorMismatch(WeightsError, RuntimeError):
    """Missing, unexpected or misshapen tensors."""


class UnsafeFile(WeightsError):
    """A pickle contains more than tensors and plain data; it was not run."""


class PromptError(VideoLlama2Error, ValueError):
    """The model can't take this conversation."""

    exit_code = 5


class UnsupportedModality(PromptError):
    """The model has no encoder for this kind of media."""


class ContextOverflow(PromptError):
    """The prompt with its media is longer than the model's context."""


class NumericsError(VideoLlama2Error, ArithmeticError):
    """A computation gave NaN or infinity."""

    exit_code = 6


class MissingExtra(VideoLlama2Error, ImportError):
    """An optional package is not installed; the message gives the pip command."""

    exit_code = 7


class OutOfMemory(VideoLlama2Error, MemoryError):
    """An engine found no memory for a prompt. (torch raises errors of its own.)"""


class WorkerError(VideoLlama2Error):
    """Could not start a media worker. If a file crashes its worker, that is a `MediaError` of the file."""


class StorageError(VideoLlama2Error, OSError):
    """Output could not be written: the disk is full, or the folder read-only."""

    exit_code = 8


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to a mistyped one, or None."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suffix for messages about an unknown word: "; did you mean 'video'?", or "" if no known word is close."""
    near = nearest(word, known)
    return "" if near is None else f"; did you mean {near!r}?"
