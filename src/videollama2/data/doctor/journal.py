"""The doctor's answers, written as they arrive, so that an interrupted check resumes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...jobs import JournalFile, read_lines
from .decoding import CRASHED, HUNG
from .on_disk import DiskDict

FILE = "journal.jsonl"
_MEDIA = (
    {"kind", "seconds", "frames", "different", "sound", "sound_seconds", "fbank", "losses"},  # decoded
    {"hash"},  # hashed
    {"error", "message"},  # unusable
)
"""Keys of an answer about a media file; one of these sets must be present."""
_TEXT = ({"text", "supervised"}, {"error", "nothing"})


class DoctorJournal:
    """Answers by the key of their question: one JSON object per line.

    Lines that are damaged or not written by the doctor are ignored, and their questions asked again.

    Args:
        folder: of the journal, made if missing; None: nothing is written.
    """

    def __init__(self, folder: Path | None, *, timeout_s: float, memory_mb: int) -> None:
        self.limits = {"timeout_s": timeout_s, "memory_mb": memory_mb}
        self.reused = 0
        self.media = DiskDict()
        self.texts = KnownLengths(self)
        self._path = None if folder is None else folder / FILE
        self._file: JournalFile | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = JournalFile(self._path, in_use="wait for it, or name another folder with --output")
            for _, line in read_lines(self._path, skip_damaged=True):
                self._load(line)
        return self

    def __exit__(self, type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.media.close()
        self.texts.known.close()
        if self._file is not None:
            self._file.close()

    def add(self, kind: str, key: str, answer: Mapping[str, Any]) -> None:
        """Write an answer.

        Raises:
            StorageError: it can't be written.
        """
        if self._file is not None:
            self._file.append([{"of": kind, "key": key, "answer": answer, "limits": self.limits}])

    def _load(self, line: Mapping[str, Any]) -> None:
        of, key, answer, limits = (line.get(name) for name in ("of", "key", "answer", "limits"))
        if not isinstance(answer, dict) or not isinstance(key, str):
            return
        if not any(keys <= answer.keys() for keys in (_TEXT if of == "text" else _MEDIA)):
            return
        if of == "text":
            self.texts.known[key] = answer
        elif answer.get("error") not in (HUNG, CRASHED) or limits == self.limits:  # other limits may be enough
            self.media[key] = answer


class KnownLengths:
    """The journal's answers about texts (lengths.py)."""

    def __init__(self, journal: DoctorJournal) -> None:
        self.known = DiskDict()
        self._journal = journal

    def __call__(self, key: str, count: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The known answer to this key, else a new one, which is written."""
        known: dict[str, Any] | None = self.known.get(key)
        if known is not None:
            self._journal.reused += 1
            return known
        self.known[key] = answer = count()
        self._journal.add("text", key, answer)
        return answer
