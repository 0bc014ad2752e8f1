"""What a training set is: where its annotations are found, how a row becomes records, and what is known of its use.

    annotation files ── rows ──► Row ── drafts ──► Draft | Drop      build.py finds the media and writes the records

A set is one file in known/, an instance of `TrainingSet` or of a subclass with its own `rows` or `official`. Every set
also reads conversations ([{"video": path, "conversations": […]}]), the form in which most users and the public training
scripts keep their data.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ..annotations import Row
from ..records import Kind, modality_of
from ..streams import stream_rows

Stage = Literal["V1", "V2", "A1", "A2", "AV", "other"]
LETTER = "Answer with the option's letter from the given choices directly and only give the best option."
"""The last sentence of the paper's multiple-choice questions."""
_TAG = re.compile(r"\s*<(?:video|audio|image|vi_feat|vid_feat)>\s*|\s*<vi_start><vi_patches><vi_end>\s*")
_FEATURES = re.compile(r"\.(?:npy|npz|pkl|pth?|h5)$")
_SPEAKERS = {"human": 0, "user": 0, "gpt": 1, "assistant": 1}
_MEDIA_KEYS = ("video", "audio", "image", "videos", "audios", "images")


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A record before its media file is found.

    Attributes:
        key: unique in the set, and the same whatever the order of its files; subsets are drawn by it.
        turns: (question, answer) pairs.
        media: names under which the file may be found, best first, with or without folders and suffix.
        whole: names of the longer file that it is cut from; only of that file are `start` and `end` used.
        start, end: seconds of the longer file.
        url: where the authors' list says that the longer file is.
    """

    key: str
    turns: tuple[tuple[str, str], ...]
    media: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    url: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All names; empty for text alone."""
        return (*self.media, *self.whole)


@dataclass(frozen=True)
class Drop:
    """A row that is not used, by intention: the reason is counted in the manifest."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class AnnotationFile:
    """One or more files that a set is read from.

    Attributes:
        patterns: globs for the end of the path, best first; the first that finds anything is used.
        what: their form, for `data list`.
        several: use all files that a pattern finds, not only the first.
        keys: of a row, by which a file of another name is recognised.
        columns, encoding, delimiter, member: as in `stream_rows`.
        published: records in the file, by its authors; None: unknown.
        required: the set can't be read without it.
    """

    patterns: tuple[str, ...]
    what: str
    several: bool = False
    keys: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    member: str | None = None
    published: int | None = None
    required: bool = True


def videochat2_lists(*names: str, published: int) -> AnnotationFile:
    """Lists of VideoChat2-IT, under its paths (vqa/ego_qa/train.json), and under the names of copies (vqa_ego_qa.json).

    Args:
        names: of its folders. published: rows of all of them.
    """
    copies = "|".join(f"*{name}*.json|*{name}*.jsonl" for name in names)
    return AnnotationFile(
        patterns=(f"{'|'.join(names)}/train*.json", copies),
        what=f"list{'s' * (len(names) > 1)} of {{video, QA}} of VideoChat2-IT",
        several=len(names) > 1,
        keys=("video", "QA"),
        published=published,
    )


@dataclass(frozen=True)
class Source:
    """A file that was found for an `AnnotationFile`."""

    path: Path
    form: AnnotationFile

    def rows(self) -> Iterator[Row]:
        """Its rows, one at a time; raises as `stream_rows`."""
        form = self.form
        return stream_rows(
            self.path, key=form.member, columns=form.columns, encoding=form.encoding, delimiter=form.delimiter
        )


Sources = Sequence[Source]


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """A training set of the recipe.

    Attributes:
        name, title: `music-avqa`, `MUSIC-AVQA`.
        kind: of its records.
        stages: of the recipe that use it.
        files: its annotations; alternatives are patterns of one entry.
        published: records by its authors, of the part read here. paper: records that the paper used; None: not given.
        prompts: questions for rows that have none; one is chosen by the row's key.
        known: what is known about how the paper used it. choice: what is not known, and what we do.
        licence: of the annotations. ask: where the media are to be had.
        not_found: what could not be found out.
    """

    name: str
    title: str
    kind: Kind
    stages: tuple[Stage, ...]
    files: tuple[AnnotationFile, ...]
    published: int | None
    paper: int | None
    known: str
    choice: str
    licence: str
    ask: str
    prompts: tuple[str, ...] = ()
    not_found: str = ""
    one_of: bool = False
    """The entries of `files` are alternatives: only the first that is found is read."""
    mixed: bool = False
    """Conversations without media are text, not mistakes."""
    unique: bool = False
    """Files may repeat records: only the first of a key is kept."""
    share: float | None = field(default=None)
    """Share of the published records that the paper used, if it is not paper / published."""

    def fraction(self, sources: Sources) -> float:
        """The share of the rows to keep: what the paper used of what these files hold; 1 if either is unknown."""
        if self.share is not None:
            return self.share
        forms = dict.fromkeys(source.form for source in sources if source.form.required)  # of several files, once
        held = [form.published for form in forms]
        total = sum(count for count in held if count is not None) if None not in held else self.published
        total = total or self.published
        return 1.0 if not total or not self.paper else min(1.0, self.paper / total)

    def rows(self, sources: Sources) -> Iterator[Row]:
        """The rows of the required files; a subclass joins others to them."""
        for source in sources:
            if source.form.required:
                yield from source.rows()

    def drafts(self, row: Row) -> Iterable[Draft | Drop]:
        """The records of a row.

        Raises:
            DataError: the row is malformed.
        """
        if is_conversation(row):
            return conversation(row, self.kind, optional=self.mixed or self.kind == "text")
        return instruction(row) if isinstance(row.get("QA"), list) else self.official(row)

    def official(self, row: Row) -> Iterable[Draft | Drop]:
        """The records of a row of the official files."""
        raise row.error(f"{self.title}: expected the key 'conversations'")

    def prompt(self, key: str) -> str:
        """One of the set's prompts, the same for a key in every build."""
        return self.prompts[int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % len(self.prompts)]

    def caption(self, key: str, text: str, *media: str, **more: Any) -> Draft | Drop:
        """A record that asks for a description."""
        text = " ".join(text.split())
        return Draft(key=key, turns=((self.prompt(key), text),), media=media, **more) if text else Drop("empty caption")


def is_conversation(row: Row) -> bool:
    """Whether a row has turns: `conversations`, or `messages`."""
    return row.has("conversations") or row.has("messages")


def conversation(row: Row, kind: Kind, *, optional: bool = False) -> Iterator[Draft | Drop]:
    """The record of a row with a media path and turns.

    {"video" | "audio" | "image": path, "conversations": [{"from", "value"}]}, as the public training scripts read it,
    or {"videos" | "audios" | "images": [path], "messages": [{"role", "content"}]}, as LLaMA-Factory and ms-swift do.

    Args:
        kind: of the set; rows with media of another kind are dropped, since public lists mix them.
        optional: without a media path it is text alone.
    """
    named = next((key for key in _MEDIA_KEYS if row.has(key) and row.get(key) != []), None)
    names: tuple[str, ...] = ()
    if named is not None:
        path = _single_path(row.get(named))
        if path is None:
            yield Drop("several media")
            return
        given = modality_of(path) or named.removesuffix("s")
        if kind == "text" or (given == "image") != (kind == "image"):
            yield Drop(f"media of another kind ({given})")
            return
        names = tails(path)
    turns = _turns(row)
    key = row.text("id") if row.has("id") else record_key(names, turns)
    if not names and not optional:
        yield Drop("names no media")
    elif not any(answer for _, answer in turns):
        yield Drop("no answer")
    else:
        yield Draft(key=key, turns=turns, media=names)


def _single_path(value: Any) -> str | None:
    """A path, also as a list of one, or as a cell of the hub's Parquet, {bytes, path}."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    value = value.get("path") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def instruction(row: Row) -> Iterator[Draft | Drop]:
    """The record of a row {video, QA: [{i, q, a}]}, the form of VideoChat and VideoChat2-IT.

    `i` is an instruction for all of the row's questions; it goes before the first.
    """
    path = row.text("video", "image")
    pairs = row.rows("QA")
    turns = [
        (pair.text("q").strip() if pair.has("q") else "", pair.text("a").strip()) for pair in pairs if pair.has("a")
    ]
    first = pairs[0].text("i").strip() if pairs and pairs[0].has("i") else ""
    if not turns:
        yield Drop("no answer")
        return
    turns[0] = ("\n".join(text for text in (first, turns[0][0]) if text), turns[0][1])
    if not all(question for question, _ in turns):
        yield Drop("no question")
        return
    names = tails(path)
    start, end = (row.seconds(name) if row.has(name) else None for name in ("start", "end"))
    cut = start is not None or end is not None
    yield Draft(
        key=record_key(names, tuple(turns)), turns=tuple(turns), media=() if cut else names, whole=names if cut else (),
        start=start, end=end,
    )  # fmt: skip


def choice_turn(question: str, options: Sequence[str], right: int) -> tuple[str, str]:
    """A question with lettered options, in the words of the paper's evaluation, and the letter that answers it."""
    lines = "\n".join(f"({chr(65 + k)}) {option}" for k, option in enumerate(options))
    return f"Question: {question}\nOptions:\n{lines}\n{LETTER}", chr(65 + right)


def cut_names(id: str, start: float, end: float) -> tuple[str, ...]:
    """The usual names of a clip that was cut from a video of YouTube.

    <id>_000030 (VGGSound, AVQA), <id>_000030_000040 (Kinetics), <id>_30, <id>_30_40, <id>_30-40 (AudioSet's tools),
    <id>_30000_40000 (audiosetdl), <id>-[30-40], [<id>]-[30-40] (MusicCaps' tools), Y<id> (PANNs).
    """
    first, last = f"{start:g}", f"{end:g}"
    return (
        f"{id}_{int(start):06}",
        f"{id}_{int(start):06}_{int(end):06}",
        f"{id}_{first}",
        f"{id}_{first}_{last}",
        f"{id}_{first}-{last}",
        f"{id}_{start * 1000:.0f}_{end * 1000:.0f}",
        f"{id}-[{first}-{last}]",
        f"[{id}]-[{first}-{last}]",
        f"Y{id}",
    )


def tails(path: str) -> tuple[str, ...]:
    """A path of another machine as names to look for: its last three parts, two, one; of features, the media's name."""
    path = _FEATURES.sub("", path)
    parts = [part for part in PurePosixPath(path.strip().replace("\\", "/")).parts if part not in ("/", ".", "..")]
    return tuple("/".join(parts[-count:]) for count in range(min(3, len(parts)), 0, -1))


def youtube(id: str) -> str:
    """The address of a video."""
    return f"https://www.youtube.com/watch?v={id}"


def _turns(row: Row) -> tuple[tuple[str, str], ...]:
    turns: list[tuple[str, str]] = []
    question: str | None = None
    for turn in row.rows("conversations" if row.has("conversations") else "messages"):
        role = turn.text("from", "role")
        if role == "system" and not turns and question is None:  # the model has its own; dropped, as in public training
            continue
        speaker = _SPEAKERS.get(role)
        said = turn.get("value", turn.get("content"))
        text = "" if said is None else str(said).strip()
        if speaker == 0 and question is None:
            question = _TAG.sub("", text).strip()
        elif speaker == 1 and question is not None:
            turns.append((question, text))
            question = None
        elif not (speaker == 1 and not turns):  # a first turn of gpt is dropped, as in training
            raise turn.error(f"expected human and gpt alternating, got {turn.get('from', turn.get('role'))!r:.40}")
    return tuple(turns)


def record_key(names: tuple[str, ...], turns: tuple[tuple[str, str], ...]) -> str:
    """A key for records without an id: the media file's name and a hash of what is said about it."""
    return "/".join([*names[:1], hashlib.sha256(json.dumps(turns).encode()).hexdigest()[:12]])
