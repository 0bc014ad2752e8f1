"""Every error a user can meet, in one tree.

    VideoLlama2Error                         exit 1
    ├── UsageError                           exit 2   a call or a flag that makes no sense
    ├── MediaError                           exit 3   something is wrong with a file or an array
    │   ├── MediaNotFound
    │   ├── UnreadableMedia                           corrupt, truncated, not a medium at all
    │   ├── NoVideoStream
    │   ├── NoAudioStream
    │   ├── EmptyMedia                                zero frames, zero samples, empty folder
    │   ├── MediaTooLarge
    │   ├── TimeRangeError                            start beyond the end, empty range
    │   ├── MediaLost                                 strict mode: something asked for was not used
    │   └── DataError                                 training data that can't be read or learned from
    ├── WeightsError                         exit 4   something is wrong with a checkpoint
    │   ├── CheckpointNotFound
    │   ├── ConfigError                               unknown key, impossible value
    │   ├── TensorMismatch                            missing, unexpected or misshapen tensors
    │   └── UnsafeFile                                a pickle that is more than tensors
    ├── PromptError                          exit 5   the conversation can't be given to this model
    │   ├── UnsupportedModality
    │   └── ContextOverflow
    ├── NumericsError                        exit 6   NaN or infinity where a number must be
    ├── MissingExtra                         exit 7   an optional package is not installed
    ├── WorkerError                          exit 1   could not start a media worker
    └── StorageError                         exit 8   output can't be written: disk full, read-only, no permission

Each message says what was found, what was expected, and the next move.
"""

import difflib
from collections.abc import Iterable


class VideoLlama2Error(Exception):
    """Root of the tree. `exit_code` is what the command line returns for it."""

    exit_code = 1


class UsageError(VideoLlama2Error, ValueError):
    """A call or a flag that makes no sense."""

    exit_code = 2


class MediaError(VideoLlama2Error, ValueError):
    """Something is wrong with a medium: a file, a folder, an array."""

    exit_code = 3


class MediaNotFound(MediaError, FileNotFoundError):
    """The path does not exist."""


class UnreadableMedia(MediaError):
    """The file is corrupt, truncated, or no medium at all."""


class NoVideoStream(MediaError):
    """Pictures were asked of a file that has none."""


class NoAudioStream(MediaError):
    """Sound was asked of a file that has none."""


class EmptyMedia(MediaError):
    """Zero frames, zero samples, a folder without images."""


class MediaTooLarge(MediaError):
    """The medium exceeds a limit on pixels, frames or seconds."""


class TimeRangeError(MediaError):
    """The asked range lies beyond the medium, or is empty."""


class MediaLost(MediaError):
    """Strict mode: something that was asked for would not have been used."""


class DataError(MediaError):
    """A file of training records, or one of its records, can't be read or learned from."""


class WeightsError(VideoLlama2Error, ValueError):
    """Something is wrong with a checkpoint."""

    exit_code = 4


class CheckpointNotFound(WeightsError, FileNotFoundError):
    """No checkpoint at this path or of this name."""


class ConfigError(WeightsError):
    """A configuration with an unknown key or an impossible value."""


class TensorMismatch(WeightsError):
    """Missing, unexpected or misshapen tensors."""


class UnsafeFile(WeightsError):
    """A pickle that holds more than tensors and plain data; it was not run."""


class PromptError(VideoLlama2Error, ValueError):
    """The conversation can't be given to this model."""

    exit_code = 5


class UnsupportedModality(PromptError):
    """A medium was given to a model that has no encoder for it."""


class ContextOverflow(PromptError):
    """The prompt, with its media, is longer than the model's context."""


class NumericsError(VideoLlama2Error, ArithmeticError):
    """NaN or infinity where a finite number must be."""

    exit_code = 6


class MissingExtra(VideoLlama2Error, ImportError):
    """An optional package is not installed; the message has the pip line."""

    exit_code = 7


class WorkerError(VideoLlama2Error):
    """Could not start a media worker. What a file does to a worker is an error of that file."""


class StorageError(VideoLlama2Error, OSError):
    """Output can't be written: the disk is full, or the folder read-only."""

    exit_code = 8


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a mistyped one most likely meant; None: none is near."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'video'?", to go on a message about a word that nobody knows; empty where none is near."""
    near = nearest(word, known)
    return "" if near is None else f"; did you mean {near!r}?"
