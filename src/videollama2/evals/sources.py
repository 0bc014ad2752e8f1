"""What loaders of benchmarks share: collecting items, media of a folder, the original's reformats, paired files.

items = Items(self, folder, setting)
path = items.file("qa.json", keys=("Question", "Choice"))
for row in rows(path):
    with items.record(row):                 a record that can't be asked becomes a malformed item
        items.add(self.choice(setting, row, …))
return items.loaded(published=1197)
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..data.annotation_files import SOUND_SUFFIXES, VIDEO_SUFFIXES, DataFolder, MediaFinder, first_existing, some
from ..data.annotations import Row, rows, table_parts
from ..data.parquet_media import unpacked
from ..data.record_files import decoded, not_the_file
from ..errors import DataError
from ..text.media_parts import Media
from .items import FoundMedia, Item, Loaded, Setting

AV_SUFFIXES = (*VIDEO_SUFFIXES, *SOUND_SUFFIXES)
_TAG = re.compile(r"<(?:video|audio|image)>\n?")
_LONGEST_TAIL = 3  # parts of another machine's path that are looked up in the folder
_NAMED = 3  # malformed records that a note quotes


class Items:
    """Collects a benchmark's items from the files in a folder."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.data, self.setting = DataFolder(folder), setting
        self.all: list[Item] = []
        self.notes: list[str] = []
        self.files: list[Path] = []
        self._repairs: dict[str, list[str]] = {}

    def file(self, *official: str, keys: Sequence[str] = (), copies: Sequence[Sequence[str]] = ()) -> Path:
        """The annotation file to read (`DataFolder.file`)."""
        path = self.data.file(*official, keys=keys, copies=copies)
        if not any(path.match(pattern) for pattern in official):
            name = path.relative_to(self.data.path).as_posix()
            self.notes.append(f"{name} is read for its fields; no file has the published name")
        self.files.append(path)
        return path

    def file_or_reformat(
        self, *official: str, reformats: Sequence[str], keys: Sequence[str] = (), copies: Sequence[Sequence[str]] = ()
    ) -> tuple[Path, bool]:
        """The file to read, and whether it is a reformat of the original's evaluation, which only `paper` prefers.

        Raises:
            DataError: neither exists; the message lists all names.
        """
        if not self.data.path.is_dir():
            first_existing(self.data.path, *official, *reformats)  # raises, and lists all names
        reformat = self.data.optional(*reformats)
        if self.setting != "paper" or reformat is None:
            try:
                return self.file(*official, keys=keys, copies=copies), False
            except DataError:
                if reformat is None:
                    first_existing(self.data.path, *official, *reformats)
                    raise
        self.files.append(reformat)
        return reformat, True

    def optional(self, *patterns: str) -> Path | None:
        """A further file, or None."""
        path = self.data.optional(*patterns)
        self.files += [] if path is None else [path]
        return path

    def rows(self, path: Path) -> list[Row]:
        """The records of one of several files; if it is malformed, one record with that problem."""
        try:
            return rows(path)
        except DataError as error:
            return [Row({}, path.name, str(error))]

    def media(self, *folders: str, audio: bool = True, suffixes: Sequence[str] = VIDEO_SUFFIXES,
              anywhere: bool = True) -> "BenchmarkMedia":  # fmt: skip
        """A finder of videos. `audio`: whether theirs is used."""
        return BenchmarkMedia(self.data.media(*folders, suffixes=suffixes, anywhere=anywhere), audio)

    def sounds(self, *folders: str) -> "BenchmarkMedia":
        """A finder of audio files."""
        return BenchmarkMedia(self.data.media(*folders, suffixes=SOUND_SUFFIXES), True)

    def embedded(self, path: Path, column: str) -> Callable[[Row], FoundMedia]:
        """A finder of the media that the rows of a Parquet file hold in a column; unpacked beside it, once.

        Raises:
            DataError: they can't be read or written.
        """
        files: dict[str, Path] = {}
        for part in table_parts(path):
            files |= unpacked(part, column)

        def find(row: Row) -> FoundMedia:
            if row.origin not in files:
                return None, f"{row.origin} holds no media in its column {column!r}"
            file = files[row.origin]
            return Media(source=file, video=file.suffix not in SOUND_SUFFIXES, audio=True), None

        return find

    def add(self, item: Item) -> None:
        """Add an item; a repeated id gets a number when all are there."""
        self.all.append(item)

    @contextmanager
    def record(self, row: Row) -> Iterator[None]:
        """Items of one record: if it raises a DataError, one malformed item takes their place."""
        count = len(self.all)
        try:
            yield
        except DataError as error:
            del self.all[count:]
            self.add(Item(id=row.origin, origin=row.origin, question="", media=None, truth=(), malformed=str(error)))

    @contextmanager
    def side(self, effect: str) -> Iterator[None]:
        """A record of a further file: if it raises a DataError, it is noted, with the effect."""
        try:
            yield
        except DataError as error:
            self.repair(effect, str(error).rstrip("."))

    def repair(self, effect: str, where: str) -> None:
        """Note one of several records with a flaw of the same kind."""
        self._repairs.setdefault(effect, []).append(where)

    def loaded(self, *, published: int | None = None, label: str | None = None) -> Loaded:
        """The items, and notes about them; a repeated id gets a number.

        Args:
            published: number of items of the full benchmark; a different number is noted.
            label: of what was read; None: the first file's name.

        Raises:
            DataError: no item can be asked.
        """
        path = self.files[0]
        malformed = [item for item in self.all if item.malformed is not None]
        if malformed and len(malformed) == len(self.all):
            raise DataError(str(malformed[0].malformed))
        if not self.all:
            raise DataError(f"{path} has no records.")
        tokens = next(item.max_new_tokens for item in self.all if item.malformed is None)
        seen: Counter[str] = Counter()
        unique = []
        for item in self.all:
            if item.malformed is not None:
                item = replace(item, max_new_tokens=tokens)  # a batch has equal options
            seen[item.id] += 1
            unique.append(item if seen[item.id] == 1 else replace(item, id=f"{item.id}~{seen[item.id]}"))
        of = "" if published in (None, len(unique)) else f"; published: {published:,}"
        notes = [f"{label or path.name}: {len(unique):,} items{of}"]
        if again := len(unique) - len(seen):
            notes.append(f"{again} records repeat an id; ~2, ~3 … is appended")
        if malformed:
            named = "; ".join(str(item.malformed).rstrip(".") for item in malformed[:_NAMED])
            notes.append(f"{len(malformed)} malformed records are not asked: {named}{' …' * (len(malformed) > _NAMED)}")
        notes += [f"{len(places)} × {effect}: {some(places)}" for effect, places in self._repairs.items()]
        return Loaded(items=tuple(unique), notes=(*notes, *self.notes), files=tuple(dict.fromkeys(self.files)))


@dataclass
class BenchmarkMedia:
    """Finds files by name, as media items of which the benchmark's modalities are used."""

    finder: MediaFinder
    audio: bool

    def find(self, *names: str) -> FoundMedia:
        """The media item of the file that has one of the names, or None and why it is missing."""
        path, missing = self.finder.find(*names)
        if path is None:
            return None, missing
        return Media(source=path, video=path.suffix.lower() not in SOUND_SUFFIXES, audio=self.audio), None


def with_sound_of(video: FoundMedia, sound: FoundMedia | None) -> FoundMedia:
    """A video whose audio is a separate file; without a separate file it is silent."""
    media, _ = video
    if media is None:
        return video
    if sound is None:
        return replace(media, audio=False), None
    return (None, sound[1]) if sound[0] is None else (replace(media, audio_source=sound[0].source), None)


# ── records ────────────────────────────────────────────────────────────────────────────────────────────────────────


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Every line of a text file that is not blank, with its place.

    Raises:
        DataError: the file can't be read, or is not UTF-8 text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    if instead := not_the_file(data):
        raise DataError(f"{path} is {instead}.")
    for number, line in enumerate(decoded(data, str(path)).splitlines(), 1):
        if line.strip():
            yield f"{path.name}:{number}", line


def paired_files(questions: Path, answers: Path) -> list[tuple[Row, Row]]:
    """Each question's record with its answer's: by question_id if every record has one, else by order.

    A question without an answer is paired with a Row that has a problem.

    Raises:
        DataError: one of the files is malformed, or they differ in length and have no ids.
    """
    asked, answered = rows(questions), rows(answers)
    ids = [[_id(row) for row in each if row.problem is None] for each in (asked, answered)]
    if all(all(each) and len(set(each)) == len(each) for each in ids):
        by_id = {_id(row): row for row in answered if row.problem is None}
        absent = f"no answer in {answers.name} has its question_id."
        return [(row, by_id.get(_id(row), Row({}, row.origin, absent))) for row in asked]
    if len(asked) != len(answered):
        raise DataError(
            f"expected as many answers as questions: {questions} has {len(asked)}, {answers.name} {len(answered)}."
        )
    return [
        (q, a if not _differ(q, a) else Row({}, a.origin, _differ(q, a))) for q, a in zip(asked, answered, strict=True)
    ]


def raise_if_of_another(path: Path, found: Sequence[Row], names: str, expected: str) -> None:
    """A DataError if the videos of all records are named as another benchmark's, whose files have the same name."""
    videos = {str(row.get("video_name")) for row in found if row.problem is None}
    if videos and all(re.fullmatch(names, video) for video in videos):
        raise DataError(
            f"{path}: its videos ({min(videos)}, …) are another benchmark's; expected names like {expected}."
        )


def _id(row: Row) -> str | None:
    return row.text("question_id") if row.problem is None and row.has("question_id") else None


def _differ(question: Row, answer: Row) -> str | None:
    one, other = _id(question), _id(answer)
    if one is None or other is None or one == other:
        return None
    return f"expected the answer to {one!r:.60}, as at {question.origin}, got {other!r:.60}."


@dataclass(frozen=True)
class ConversationRecord:
    """A record of the original's reformats: a media path of another machine, a question about it, and the answer."""

    path: str
    question: str
    answer: str


def conversation_record(row: Row, key: str) -> ConversationRecord:
    """The record of a row with a media path and conversations; media tags are removed from the question.

    Args:
        key: of the path: "video" or "audio".

    Raises:
        DataError: the row lacks a question or an answer.
    """
    turns = row.rows("conversations")
    if len(turns) < 2:
        raise row.error(f"conversations: expected a question and its answer, got {len(turns)} turns.")
    question = _TAG.sub("", turns[0].text("value")).strip()
    if not question:
        raise row.error("conversations: expected a question, got media tags alone.")
    return ConversationRecord(row.text(key), question, turns[1].text("value"))


def youtube_names(row: Row) -> tuple[str, ...]:
    """Names of a video's file: its YouTube id, which files give in several ways, else its number.

    Raises:
        DataError: the record names no video.
    """
    url = str(row.get("url") or "")
    in_url = re.search(r"(?:watch\?v=|youtu\.be/|shorts/)([\w-]+)", url) or re.fullmatch(r"([\w-]{11})", url)
    names = [row.text(key) for key in ("videoID", "youtube_id") if row.has(key)]
    names += [in_url[1]] if in_url else []
    return tuple(dict.fromkeys([*names, row.text("video_id", "videoID", "youtube_id", "video")]))


def path_tails(path: str) -> tuple[str, ...]:
    """Names to look up in place of another machine's path: its last parts, the longest first."""
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    return tuple("/".join(parts[-count:]) for count in range(min(_LONGEST_TAIL, len(parts)), 0, -1))
