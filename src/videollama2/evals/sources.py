"""What loaders of benchmarks share: which file to read, the original's reformats, paired files, media, unique ids."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ..data.annotations import VIDEO_SUFFIXES, Row, first_existing, media, rows
from ..data.record_files import decoded
from ..errors import DataError
from ..text.media_parts import Media
from .benchmark import FoundMedia
from .items import Item, Loaded, Setting

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
"""Tried in this order if a benchmark names an audio file without its suffix."""

_TAG = re.compile(r"<(?:video|audio|image)>\n?")
_LONGEST_TAIL = 3  # parts of another machine's path that are looked for in the folder


def annotation_file(folder: Path, setting: Setting, *official: str, reformats: Sequence[str] = ()) -> tuple[Path, bool]:
    """The file to read, and whether it is a reformat of the original's evaluation, which only `paper` prefers.

    Args:
        official, reformats: globs relative to the folder, in order of preference.

    Raises:
        DataError: none of them exists; the message lists them all.
    """
    first, second = (reformats, official) if setting == "paper" else (official, reformats)
    path = first_existing(folder, *first, *second)
    return path, path.name in {PurePosixPath(pattern).name for pattern in reformats}


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Every line of a text file that is not blank, with its place.

    Raises:
        DataError: the file can't be read, or is not UTF-8 text.
    """
    try:
        text = decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield f"{path.name}:{number}", line


def paired_files(questions: Path, name: str) -> list[tuple[Row, Row]]:
    """The records of a file of questions, each with its record in the file of answers beside it, by their order.

    Args:
        name: of the file of answers.

    Raises:
        DataError: one of them is malformed, they differ in length, or two records differ in their question_id.
    """
    asked, answered = rows(questions), rows(questions.parent / name)
    if len(asked) != len(answered):
        raise DataError(f"expected as many answers as questions: {questions} has {len(asked)}, {name} {len(answered)}")
    for question, answer in zip(asked, answered, strict=True):
        if question.has("question_id") and answer.has("question_id"):
            one, other = question.text("question_id"), answer.text("question_id")
            if one != other:
                raise answer.error(f"expected the answer to {one!r:.60}, as at {question.origin}, got {other!r:.60}")
    return list(zip(asked, answered, strict=True))


@dataclass(frozen=True)
class ConversationRecord:
    """A record of the original's reformats: a media path of another machine, a question about it, and the answer."""

    path: str
    question: str
    answer: str
    row: Row


def conversation_records(path: Path, key: str) -> list[ConversationRecord]:
    """The records of a list with a media path and conversations; media tags are removed from the questions.

    Args:
        key: of the path: "video" or "audio".

    Raises:
        DataError: the file is malformed, or a record lacks a question or an answer.
    """
    found = []
    for row in rows(path):
        turns = row.rows("conversations")
        if len(turns) < 2:
            raise row.error(f"conversations: expected a question and its answer, got {len(turns)} turns")
        question = _TAG.sub("", turns[0].text("value")).strip()
        found.append(ConversationRecord(row.text(key), question, turns[1].text("value"), row))
    return found


def path_tails(path: str) -> tuple[str, ...]:
    """Names to look for in place of another machine's path: its last parts, the longest first."""
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    return tuple("/".join(parts[-count:]) for count in range(min(_LONGEST_TAIL, len(parts)), 0, -1))


@dataclass
class MediaFinder:
    """Finds a benchmark's media files by name, each once.

    Attributes:
        folder: the benchmark's.
        folders: subfolders that may hold the files, in order of preference; "" is the folder itself.
        suffixes: tried for a name that has none of them.
        video, audio: modalities to use.
    """

    folder: Path
    folders: Sequence[str]
    suffixes: Sequence[str] = VIDEO_SUFFIXES
    video: bool = True
    audio: bool = True
    _found: dict[tuple[str, ...], FoundMedia] = field(default_factory=dict, init=False)

    def find(self, *names: str) -> FoundMedia:
        """The media file that has one of the names, or None and why it is missing."""
        if names not in self._found:
            candidates = self._candidates(names)
            path, missing = media(self.folder, candidates)
            if path is None and missing and missing.startswith(f"{candidates[0]} is not there"):
                others = ", ".join(folder or "." for folder in self.folders[1:])
                missing = f"{candidates[0]} is not there (nor with another suffix, nor in {others})"
            video = self.video and path is not None and path.suffix.lower() not in SOUND_SUFFIXES
            found = None if path is None else Media(source=path, video=video, audio=self.audio)
            self._found[names] = found, missing
        return self._found[names]

    def _candidates(self, names: Sequence[str]) -> list[str]:
        suffixes = {name: [""] if name.lower().endswith(tuple(self.suffixes)) else self.suffixes for name in names}
        below = [f"{folder}/" if folder else "" for folder in self.folders]
        return [f"{start}{name}{suffix}" for start in below for name in names for suffix in suffixes[name]]


def sound_finder(folder: Path, *folders: str) -> MediaFinder:
    """A finder of audio files."""
    return MediaFinder(folder, folders, SOUND_SUFFIXES, video=False)


def loaded(items: Sequence[Item], path: Path, *notes: str, published: int | None = None) -> Loaded:
    """The items of a file and notes about it; a repeated id gets a number.

    Args:
        published: number of items of the full benchmark; a different number is noted.

    Raises:
        DataError: there are no items.
    """
    if not items:
        raise DataError(f"{path} has no records")
    seen: Counter[str] = Counter()
    unique = []
    for item in items:
        seen[item.id] += 1
        unique.append(item if seen[item.id] == 1 else replace(item, id=f"{item.id}~{seen[item.id]}"))
    again = len(unique) - len(seen)
    repeated = [f"{again} records repeat an id; ~2, ~3 … is appended"] if again else []
    of = "" if published in (None, len(unique)) else f"; published are {published:,}"
    read = [f"{path.name}: {len(unique):,} items{of}"] if path.is_file() else []
    return Loaded(items=tuple(unique), notes=(*read, *repeated, *notes))
