"""Find what is wrong with training data before a run does: `videollama2 data doctor`.

    records ── media, each opened in a worker process (decoding.py)             ──┐
            ── files of equal size, hashed ── duplicates                          ├─► findings ──► report.py
            ── text, by the model's tokenizer ── lengths, labels (lengths.py)   ──┘

A `problem` drops its record from the clean list, as the record can't be learned from. A `remark` only informs. Every
answer is written to a journal at once, so an interrupted check resumes where it stopped; files that have changed since
are opened again.
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Literal

from ...errors import MediaError, UsageError
from ...media.opening import MAX_NUM_FRAMES
from ...processing import VideoLlama2Processor
from ...protocols import Protocol
from ...protocols import protocol as named_protocol
from ...text.media_parts import Media
from ..labels import dropped_turns
from ..records import Record
from ..tar_media import is_tar_path, tar_member
from .decoding import CRASHED, HUNG, Answer, Task, answers
from .journal import DoctorJournal
from .lengths import Length, Lengths

Severity = Literal["problem", "remark"]
Progress = Callable[[str, int, int], None]  # (stage, number done, number in all)

MIN_FRAMES = 2  # different frames of a video
MIN_AUDIO_SECONDS = 0.1
MAX_TIMEOUT_S = 86_400  # per media item
MAX_MEMORY_MB = 1 << 24
FRAMES = 8  # of a video, without a model
_SLACK = 0.5  # seconds by which a time range may exceed its file
_SLACK_SHARE = 0.1  # share of a time range that may be missing
_OF_ERROR = {
    "MediaNotFound": "missing",
    "NoAudioStream": "no sound",
    "NoVideoStream": "no pictures",
    "TimeRangeError": "too short",
    "MediaTooLarge": "too large",
    HUNG: "hung",
    CRASHED: "crashed",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something found in one record; `kind` is a short name to count by ("missing", "too long")."""

    origin: str
    id: str
    kind: str
    message: str
    severity: Severity = "problem"
    paths: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Examination:
    """The doctor's result.

    Attributes:
        total: records in the files, bad ones included.
        kinds: number of records by kind ("av", "text", …).
        findings: problems and remarks, in the order of the records.
        good: the records without a problem.
        seconds: used length of each media item that could be opened.
        lengths: tokens of each record, given a model.
        reused: number of answers from the journal.
        settings: of the examination.
    """

    total: int
    kinds: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    good: list[Record] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lengths: list[Length] = field(default_factory=list)
    reused: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def problems(self) -> list[Finding]:
        """Findings that drop a record from the clean list."""
        return [finding for finding in self.findings if finding.severity == "problem"]

    def counted(self, severity: Severity) -> dict[str, int]:
        """Number of findings by kind, most frequent first."""
        return dict(Counter(f.kind for f in self.findings if f.severity == severity).most_common())


def examine(
    records: Sequence[Record],
    processor: VideoLlama2Processor | None = None,
    *,
    unread: Sequence[tuple[str, str]] = (),
    workers: int = 0,
    timeout_s: float = 60.0,
    memory_mb: int = 4096,
    folder: Path | None = None,
    max_length: int | None = None,
    frames: int | None = None,
    protocol: str | None = None,
    on_progress: Progress | None = None,
) -> Examination:
    """Open every media item and count every token.

    Args:
        records: to examine.
        processor: of a model; None: tokens are not counted.
        unread: (origin, error) of records that could not be parsed (`read_records(on_bad=…)`).
        workers: processes that open media; 0: one per core.
        timeout_s, memory_mb: limits per media item, in wall-clock seconds and MiB.
        folder: of the journal, made if missing; None: no journal.
        max_length: maximum positions of a record, media included; None: the model's context.
        frames, protocol: how media are opened; None: the model's values, or 8 frames under "full".
        on_progress: called as answers arrive.

    Raises:
        UsageError: a setting is out of range, or the protocol is unknown.
        StorageError: the folder can't be written.
        VideoLlama2Error: worker processes can't be started.
    """
    _check_settings(workers, timeout_s, memory_mb, max_length=max_length, frames=frames)
    config = None if processor is None else processor.config
    frames = frames or (FRAMES if config is None else config.num_frames)
    chosen = named_protocol(protocol or ("full" if config is None else config.protocol))
    report = on_progress or _quiet
    with DoctorJournal(folder, timeout_s=timeout_s, memory_mb=memory_mb) as journal:
        doctor = _Doctor(journal, workers or os.cpu_count() or 1, report, frames=frames, protocol=chosen)
        doctor.open_media(records)
        doctor.hash_media()
        lengths = None if processor is None else Lengths(processor, max_length, journal.texts)
        found = Examination(total=len(records) + len(unread), kinds=dict(Counter(r.kind for r in records)))
        found.findings += [Finding(origin=o, id="", kind="bad record", message=why) for o, why in unread]
        doctor.judge(records, lengths, found)
    found.reused = journal.reused
    found.settings = {
        "frames": frames, "protocol": chosen.name, "timeout_s": timeout_s, "memory_mb": memory_mb,
        "max_length": None if lengths is None else lengths.max_length,
    }  # fmt: skip
    return found


def _check_settings(workers: int, timeout_s: float, memory_mb: int, **counts: int | None) -> None:
    """Raise UsageError for settings under which every media item would seem bad."""
    limits = workers >= 0 and 0 < timeout_s <= MAX_TIMEOUT_S and 0 < memory_mb <= MAX_MEMORY_MB
    positive = all(n > 0 for n in counts.values() if n is not None)
    if not limits or not positive or (counts["frames"] or 1) > MAX_NUM_FRAMES:
        others = ", ".join(f"{name}={n}" for name, n in counts.items())
        raise UsageError(
            f"workers={workers}, timeout_s={timeout_s:g}, memory_mb={memory_mb}, {others}; expected workers ≥ 0, the "
            f"others above 0, and at most {MAX_TIMEOUT_S:,} s, {MAX_MEMORY_MB:,} MiB and {MAX_NUM_FRAMES:,} frames."
        )


@dataclass(kw_only=True, frozen=True)
class _File:
    """A path's stat: size, modification time, device, inode and place in a shard; or why it has none."""

    path: str
    place: tuple[int, ...] = (0, 0)
    size: int = -1
    changed: int = 0
    plain: bool = False
    problem: str = ""


class _Doctor:
    """The state of an examination."""

    def __init__(
        self, journal: DoctorJournal, workers: int, report: Progress, *, frames: int, protocol: Protocol
    ) -> None:
        self._journal, self._workers, self._report = journal, workers, report
        self._frames, self._protocol = frames, protocol
        self._files: dict[str, _File] = {}
        self._hashes: dict[str, str] = {}
        self._first: dict[str, str] = {}  # hash → the first path with that content
        self._seen: dict[str, str] = {}  # hash of media and conversation → the first record with them

    # ── opening ────────────────────────────────────────────────────────────────────────────────────────────────

    def open_media(self, records: Sequence[Record]) -> None:
        """Open every media item, once per way in which records use it."""
        tasks = {}
        for record in records:
            files = [self._file(path) for path in record.paths]
            if record.media is not None and not any(file.problem for file in files):
                task = self._task(record.media)
                tasks[self._key(task, files)] = task
        self._ask("opening media", tasks)

    def hash_media(self) -> None:
        """Hash the files that may be equal: those of equal size."""
        same_size = defaultdict(list)
        for file in self._files.values():
            if file.plain and file.size:
                same_size[file.size].append(file)
        tasks, keys = {}, {}
        for files in same_size.values():
            for file in files if len(files) > 1 else ():
                task = {"hash": file.path}
                keys[file.path] = self._key(task, [file])
                tasks[keys[file.path]] = task
        self._ask("comparing files of equal size", tasks)
        self._hashes = {path: self._journal.media[key].get("hash", path) for path, key in keys.items()}

    def _task(self, media: Media) -> dict[str, Any]:
        return {
            "source": list(media.source) if isinstance(media.source, tuple) else media.source,
            "start": media.start, "end": media.end, "video": media.video, "audio": media.audio,
            "frames": self._frames, "protocol": self._protocol.name, **media.tracks,
        }  # fmt: skip

    def _key(self, task: Task, files: Sequence[_File]) -> str:
        identity = [dict(task), [[file.size, file.changed] for file in files]]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]

    def _ask(self, what: str, tasks: Mapping[str, Task]) -> None:
        left = {key: task for key, task in tasks.items() if key not in self._journal.media}
        self._journal.reused += len(tasks) - len(left)
        done = answers(left, workers=self._workers, timeout_s=self._journal.limits["timeout_s"],
                       memory_mb=int(self._journal.limits["memory_mb"]))  # fmt: skip
        for count, (key, answer) in enumerate(done, 1):
            self._journal.media[key] = answer
            self._journal.add("media", key, answer)
            self._report(what, count, len(left))

    def _file(self, path: str) -> _File:
        if path not in self._files:
            try:
                if is_tar_path(path):
                    member = tar_member(path)
                    stat, at = Path(member.shard).stat(), member.offset
                    place = (stat.st_dev, stat.st_ino, at)
                    self._files[path] = _File(
                        path=path, place=place, size=member.size, changed=stat.st_mtime_ns, plain=True
                    )
                    return self._files[path]
                stat = Path(path).stat()
                held = [stat]
                if S_ISDIR(stat.st_mode):  # of frames, any of which may change
                    held += [picture.stat() for picture in Path(path).iterdir() if picture.is_file()]
                self._files[path] = _File(
                    path=path, place=(stat.st_dev, stat.st_ino), size=sum(one.st_size for one in held),
                    changed=max(one.st_mtime_ns for one in held), plain=S_ISREG(stat.st_mode),
                )  # fmt: skip
            except (OSError, ValueError, MediaError) as error:
                why = error.strerror if isinstance(error, OSError) else None
                self._files[path] = _File(path=path, problem=f"{path}: {(why or str(error)).lower()}")
        return self._files[path]

    # ── judging ────────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, records: Sequence[Record], lengths: Lengths | None, found: Examination) -> None:
        """Add every record's findings and length, and the record if it is good."""
        for count, record in enumerate(records, 1):
            facts = self._facts(record)
            seen = [*self._of_media(record, facts), *self._of_content(record), *_of_text(record)]
            if lengths is not None and not any(kind == "nothing to learn" for _, kind, _ in seen):
                length, why = lengths.of(record, facts)
                found.lengths += [] if length is None else [length]
                seen += [] if why is None else [("problem", *why)]
            found.seconds += _used_seconds(record, facts)
            found.findings += [
                Finding(origin=record.origin, id=record.id, kind=kind, message=message, severity=severity,
                        paths=record.paths[:4])
                for severity, kind, message in seen
            ]  # fmt: skip
            if not any(severity == "problem" for severity, *_ in seen):
                found.good.append(record)
            if count % 100 == 0 or count == len(records):
                self._report("reading texts", count, len(records))

    def _facts(self, record: Record) -> Answer | None:
        """The facts about a record's media item; None for text alone."""
        if record.media is None:
            return None
        files = [self._file(path) for path in record.paths]
        problem = next((file.problem for file in files if file.problem), None)
        if problem is not None:
            return {"error": "MediaNotFound", "message": problem}
        return self._journal.media[self._key(self._task(record.media), files)]

    def _of_media(self, record: Record, facts: Answer | None) -> "Iterator[_Seen]":
        if facts is None:
            return
        if "error" in facts:
            yield "problem", _OF_ERROR.get(facts["error"], "unreadable"), facts["message"]
            return
        yield from _of_facts(record, facts)

    def _of_content(self, record: Record) -> "Iterator[_Seen]":
        """Duplicates: of a record, and of a file under another path."""
        contents = [self._hashes.get(path, path) for path in record.paths]
        media = record.media
        use = None if media is None else (media.start, media.end, media.video, media.audio, *media.tracks.items())
        identity = json.dumps([contents, use, record.conversation], sort_keys=True)
        key = hashlib.sha256(identity.encode()).hexdigest()
        first = self._seen.setdefault(key, record.origin)
        if first != record.origin:
            yield "problem", "duplicate", f"same conversation about the same media as {first}"
            return
        if isinstance(record.media and record.media.source, tuple):
            return  # frames of a static scene are equal
        for path, content in zip(record.paths, contents, strict=True):
            other = self._first.setdefault(content, path)
            if self._file(other).place != self._file(path).place:
                yield "remark", "duplicate file", f"{path} has the same content as {other}"


_Seen = tuple[Severity, str, str]


def _of_facts(record: Record, facts: Answer) -> Iterator[_Seen]:
    """Findings about a media item that could be opened."""
    media = record.media
    assert media is not None
    if media.video:
        still = facts["kind"] == "image"
        if facts["kind"] == "audio":
            yield "problem", "no pictures", "it holds audio only; expected the key 'audio'"
        elif still != (record.modality == "image"):
            right = "image" if still else "video"
            yield "problem", "wrong medium", f"it is {'an image' if still else 'a video'}; expected the key {right!r}"
        elif not still and facts["different"] < MIN_FRAMES:
            yield "problem", "too short", f"expected {MIN_FRAMES} or more different frames, got {facts['different']}"
    if media.audio:
        yield from _of_audio(facts)
    requested = None if media.end is None else media.end - (media.start or 0.0)
    used = _used_seconds(record, facts)
    if requested is not None and used and requested - used[0] > _SLACK:
        severity: Severity = "problem" if requested - used[0] > _SLACK_SHARE * requested else "remark"
        yield (
            severity,
            "too short",
            f"expected {requested:g} s from {media.start or 0.0:g} s, got {used[0]:.2f} s",
        )
    for loss in facts["losses"]:
        if "frames are used" in loss:
            yield "remark", "not all used", loss
        elif not loss.startswith("the audio is not used"):
            yield "problem", "damaged", loss


def _of_audio(facts: Answer) -> Iterator[_Seen]:
    if facts["sound"] == "absent":
        reason = next(
            (loss for loss in facts["losses"] if loss.startswith("the audio is not used")), "its file has none"
        )
        yield "problem", "no sound", f"the record uses audio; {reason}"
    elif facts["sound_seconds"] is not None and facts["sound_seconds"] < MIN_AUDIO_SECONDS:
        yield (
            "problem",
            "too short",
            f"expected {MIN_AUDIO_SECONDS:g} s or more of audio, got {facts['sound_seconds']:.3f} s",
        )
    elif facts["sound"] == "silent":
        yield "remark", "silent", "its audio is digital silence"


def _of_text(record: Record) -> Iterator[_Seen]:
    answers = [turn["value"].strip() for turn in record.conversation if turn["from"] == "gpt"]
    if not any(answers):
        what = "no turn is from gpt" if not answers else "every answer is empty"
        yield "problem", "nothing to learn", f"{what}; expected an answer to learn"
    elif dropped_turns(record.conversation):
        yield "remark", "turn dropped", "its first turn is from gpt, before any question: it is not trained on"


def _used_seconds(record: Record, facts: Answer | None) -> list[float]:
    """[seconds of the file in the requested range]; [] for images, text, lists of frames, and unreadable files."""
    media = record.media
    if media is None or facts is None or facts.get("seconds") is None or facts["kind"] == "image":
        return []
    if isinstance(media.source, tuple):
        return []
    if not media.video:  # audio alone is measured in the requested range
        return [facts["seconds"]]
    end = facts["seconds"] if media.end is None else min(media.end, facts["seconds"])
    return [max(end - (media.start or 0.0), 0.0)]


def _quiet(what: str, done: int, total: int) -> None:
    """No progress report."""
