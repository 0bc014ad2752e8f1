"""What a subtitle is to us, and the library that knows the files."""

from dataclasses import dataclass
from types import ModuleType

from ..errors import MissingExtra


@dataclass(frozen=True)
class Line:
    """What is said from `start` to `end`, in milliseconds. Line breaks and styles are gone from the text."""

    start: int
    end: int
    text: str


def pysubs2() -> ModuleType:
    """The library.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pysubs2
    except ImportError as error:
        raise MissingExtra("subtitles are read and written by pysubs2: pip install 'videollama2[subtitles]'") from error
    found: ModuleType = pysubs2
    return found
