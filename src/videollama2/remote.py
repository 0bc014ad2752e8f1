"""Files at any address that fsspec opens: s3://, gs://, hf://, memory://, … and local paths.

Only the rows and manifests of batch jobs are read this way. Media of a request never are: FFmpeg and the server open
local files alone (media/source.py, serve/fetch.py).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from .errors import MediaNotFound, MediaTooLarge, MissingExtra, UnreadableMedia, VideoLlama2Error

MAX_BYTES = 2 << 30  # of one file, read into memory at once
_REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+://")


def is_remote(path: Any) -> bool:
    """Whether it is an address with a protocol; a local path otherwise."""
    return isinstance(path, str) and _REMOTE.match(path) is not None


def read_bytes(path: str, span: tuple[int, int] | None = None) -> bytes:
    """The content of a file, or `span` of it: offset and number of bytes.

    Raises:
        MediaNotFound, UnreadableMedia, MediaTooLarge, MissingExtra: as `opened`.
    """
    with opened(path) as file:
        size = file.seek(0, 2) if span is None else span[1]
        if size > MAX_BYTES:
            raise MediaTooLarge(f"{path} has {size:,} bytes; expected at most {MAX_BYTES:,}. Copy it to a local disk.")
        file.seek(0 if span is None else span[0])
        content = file.read(size)
    if len(content) < size:
        raise UnreadableMedia(f"{path} ended after {len(content):,} of {size:,} bytes; copy it again.")
    return content


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file, opened for reading; also translates the errors of reading it.

    Raises:
        MediaNotFound: it does not exist.
        UnreadableMedia: an unknown protocol, no permission, a lost connection.
        MissingExtra: the protocol's package is not installed.
    """
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            yield file
    except VideoLlama2Error:  # raised by the caller
        raise
    except FileNotFoundError as error:
        raise MediaNotFound(f"{path} not found; expected a file.") from error
    except ImportError as error:
        raise MissingExtra(f"{path} can't be opened: {error}; pip install the package that it names.") from error
    except Exception as error:  # each protocol's package has exceptions of its own
        raise UnreadableMedia(f"{path} can't be read: {_reason(path, error)}.") from error


def _reason(path: str, error: Exception) -> str:
    if isinstance(error, ValueError) and "rotocol not known" in str(error):
        return (
            f"unknown protocol {path.partition('://')[0]}; expected a local path, or one such as s3://, gs:// or hf://."
        )
    words = " ".join(str(getattr(error, "strerror", None) or error).split())
    return f"{words or type(error).__name__:.300}."
