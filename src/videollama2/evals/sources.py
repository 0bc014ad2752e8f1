"""What loaders of open and closed benchmarks share: which file is read, pairs of files, reformats, media, ids."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ..data.record_files import decoded
from ..errors import DataError
from ..text.conversations import Media
from .annotations import VIDEO_SUFFIXES, Row, first_existing, media, rows
from .items import Item, Loaded, Setting

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
"""Tried in this order where a benchmark names a sound without one."""

_PAPER_LIMIT = 2048  # new tokens that the original's evaluation allows, whatever is asked
_TAG = re.compile(r"<(?:video|audio|image)>\n?")
_LONGEST_TAIL = 3  # parts of another machine's path that are looked for below the folder


def reply_limit(setting: Setting, strict: int) -> int:
    """`max_new_tokens` of an item: the original's under `paper`."""
    return _PAPER_LIMIT if setting == "paper" else strict


def annotation_file(
    folder: Path, setting: Setting, *, official: Sequence[str], private: Sequence[str] = ()
) -> tuple[Path, bool]:
    """The file to read, and whether it is a private reformat of the original's. `paper` prefers that, `strict` doesn't.

    Args:
        official, private: globs relative to the folder, the preferred first.

    Raises:
        DataError: neither is there; the message names all that would do.
    """
    first, second = (private, official) if setting == "paper" else (official, private)
    path = first_existing(folder, *first, *second)
    return path, path.name in {PurePosixPath(pattern).name for pattern in private}


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Every line of a text that is no table, unless it is blank, and where it stands.

    Raises:
        DataError: the file can't be read, or is no UTF-8 text.
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
        raise DataError(f"{questions} has {len(asked)} questions and {name} {len(answered)} answers; expected as many")
    for question, answer in zip(asked, answered, strict=True):
        if question.has("question_id") and answer.has("question_id"):
            one, other = question.text("question_id"), answer.text("question_id")
            if one != other:
                raise answer.error(f"it answers {other!r:.60}; expected {one!r:.60}, as at {question.origin}")
    return list(zip(asked, answered, strict=True))


@dataclass(frozen=True)
class Exchange:
    """A record of the original's reformats: a medium of another machine, what is asked about it, and the answer."""

    medium: str
    question: str
    answer: str
    row: Row


def exchanges(path: Path, key: str) -> list[Exchange]:
    """The records of a list with a medium's path and conversations; tags of media are taken off the questions.

    Args:
        key: of the path: "video" or "audio".

    Raises:
        DataError: the file is malformed, or a record has no question and answer.
    """
    found = []
    for row in rows(path):
        turns = row.rows("conversations")
        if len(turns) < 2:
            raise row.error(f"conversations has {len(turns)} turns; expected a question and its answer")
        question = _TAG.sub("", turns[0].text("value")).strip()
        found.append(Exchange(row.text(key), question, turns[1].text("value"), row))
    return found


def tails(path: str) -> tuple[str, ...]:
    """What to look for where the path of another machine is named: its last parts, the most first."""
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    return tuple("/".join(parts[-count:]) for count in range(min(_LONGEST_TAIL, len(parts)), 0, -1))


@dataclass
class Shelf:
    """Finds a benchmark's media by name, each once.

    Attributes:
        folder: the benchmark's.
        folders: below it, where media may lie, the preferred first; "" is the folder itself.
        suffixes: tried where a name has none of them.
        pictures, sound: what of a medium is asked for.
    """

    folder: Path
    folders: Sequence[str]
    suffixes: Sequence[str] = VIDEO_SUFFIXES
    pictures: bool = True
    sound: bool = True
    _found: dict[tuple[str, ...], tuple[Media | None, str | None]] = field(default_factory=dict, init=False)

    def find(self, *names: str) -> tuple[Media | None, str | None]:
        """The medium that has one of the names, or None and why there is none."""
        if names not in self._found:
            candidates = self._candidates(names)
            path, missing = media(self.folder, candidates)
            if path is None and missing and missing.startswith(f"{candidates[0]} is not there"):
                others = ", ".join(folder or "." for folder in self.folders[1:])
                missing = f"{candidates[0]} is not there (nor with another suffix, nor in {others})"
            pictures = self.pictures and path is not None and path.suffix.lower() not in SOUND_SUFFIXES
            found = None if path is None else Media(source=path, video=pictures, audio=self.sound)
            self._found[names] = found, missing
        return self._found[names]

    def _candidates(self, names: Sequence[str]) -> list[str]:
        suffixes = {name: [""] if name.lower().endswith(tuple(self.suffixes)) else self.suffixes for name in names}
        below = [f"{folder}/" if folder else "" for folder in self.folders]
        return [f"{start}{name}{suffix}" for start in below for name in names for suffix in suffixes[name]]


def loaded(items: Sequence[Item], path: Path, *notes: str, published: int | None = None) -> Loaded:
    """The items of a file, where an id that comes again gets a number, and what is to be noted.

    Args:
        published: how many items the benchmark has; another number is noted.

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
    repeated = [f"{again} records have the id of another; ~2, ~3 … is added to it"] if again else []
    of = "" if published in (None, len(unique)) else f"; published are {published:,}"
    read = [f"{path.name}: {len(unique):,} items{of}"] if path.is_file() else []
    return Loaded(items=tuple(unique), notes=(*read, *repeated, *notes))
