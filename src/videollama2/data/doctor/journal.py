"""What the doctor has found out so far, on disk as it comes, so that one who was stopped goes on where it was."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import StorageError
from ...json_lines import dumps_line
from .decoding import CRASHED, HUNG, Answer

_MEDIA = (
    {"kind", "seconds", "frames", "different", "sound", "sound_seconds", "fbank", "losses"},
    {"hash"},
    {"error", "message"},
)
"""What an answer about a medium holds: of one, of one that was hashed, of one that can't be used."""
_TEXT = ({"text", "supervised"}, {"error", "nothing"})


class Journal:
    """Answers by the key of their question, on disk as they come: one JSON object a line."""

    def __init__(self, folder: Path | None, *, timeout_s: float, memory_mb: int) -> None:
        self.limits = {"timeout_s": timeout_s, "memory_mb": memory_mb}
        self.reused = 0
        self.media: dict[str, Answer] = {}
        self.texts = Texts(self)
        self._path = None if folder is None else folder / "journal.jsonl"
        self._file: Any = None

    def __enter__(self) -> "Journal":
        if self._path is None:
            return self
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            for line in self._path.read_bytes().splitlines() if self._path.exists() else ():
                self._remember(line)
            self._file = self._path.open("a", encoding="ascii")
            if self._file.tell() and not self._path.read_bytes().endswith(b"\n"):
                self._file.write("\n")  # the last line was cut off when its writer was stopped
        except OSError as error:
            raise StorageError(
                f"{self._path} can't be written ({error.strerror or error}); name another folder"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def note(self, kind: str, key: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer."""
        if self._file is None:
            return
        try:
            self._file.write(dumps_line({"of": kind, "key": key, "answer": answer, "limits": self.limits}) + "\n")
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self._path} can't be written ({error.strerror or error}); make room") from error

    def _remember(self, line: bytes) -> None:
        try:
            noted = json.loads(line)
            of, key, answer, limits = (noted[name] for name in ("of", "key", "answer", "limits"))
        except (ValueError, KeyError, TypeError, RecursionError):  # cut off, or no line of ours
            return
        if not isinstance(answer, dict) or not isinstance(key, str):
            return
        if not any(keys <= answer.keys() for keys in (_TEXT if of == "text" else _MEDIA)):  # it is looked for again
            return
        if of == "text":
            self.texts.known[key] = answer
        elif answer.get("error") not in (HUNG, CRASHED) or limits == self.limits:  # with other limits it may go well
            self.media[key] = answer


class Texts:
    """The part of a journal that lengths.py keeps."""

    def __init__(self, journal: Journal) -> None:
        self.known: dict[str, Any] = {}
        self._journal = journal

    def __call__(self, key: str, count: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The answer that is known under this key, else a new one, kept."""
        if key in self.known:
            self._journal.reused += 1
            return self.known[key]
        self.known[key] = answer = count()
        self._journal.note("text", key, answer)
        return answer
