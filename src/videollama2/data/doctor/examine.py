"""What is wrong with training data, before a run finds out: `videollama2 data doctor`.

    records ── media, each opened in a process that can be killed (decoding.py) ──┐
            ── files of equal size, hashed ── duplicates                          ├─► findings ──► report.py
            ── text, by the model's tokenizer ── lengths, labels (lengths.py)   ──┘

A `problem` is a record that can't be learned from as it stands; it is left out of the clean list. A `remark` is worth
knowing and changes nothing. Every answer is written to a journal at once, so that a doctor who was stopped goes on
where it was; a file that has changed since is looked at again.
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

from ...errors import UsageError
from ...media.opening import MAX_NUM_FRAMES
from ...processing import VideoLlama2Processor
from ...protocols import Protocol
from ...protocols import protocol as named_protocol
from ...text.conversations import Media
from ..records import Record
from .decoding import CRASHED, HUNG, Answer, Task, answers
from .journal import DoctorJournal
from .lengths import Length, Lengths

Severity = Literal["problem", "remark"]
Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many

LEAST_FRAMES = 2  # different ones, of a video
LEAST_SOUND = 0.1  # seconds
MOST_SECONDS = 86_400  # for one medium; what a system can count to is not much more
MOST_MEMORY_MB = 1 << 24
FRAMES = 8  # of a video, where no model says how many
_SLACK = 0.5  # seconds by which a range may end after its medium
_SLACK_SHARE = 0.1  # of a range that may be missing
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
    """One thing about one record. `kind` is a short name to count by ("missing", "too long"), `message` says all."""

    origin: str
    id: str
    kind: str
    message: str
    severity: Severity = "problem"
    paths: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Examination:
    """What the doctor found.

    Attributes:
        total: records that the files hold, bad ones included.
        kinds: records by kind ("av", "text", …).
        findings: problems and remarks, in the order of the records.
        good: the records without a problem.
        seconds: used length of the medium of each record that has one and could be opened.
        lengths: tokens of each record, where a model was given.
        reused: answers that an earlier examination had left.
        settings: what was asked for.
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
        """Findings for which a record is left out."""
        return [finding for finding in self.findings if finding.severity == "problem"]

    def counted(self, severity: Severity) -> dict[str, int]:
        """Records with each kind of finding, most frequent first."""
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
    """Open every medium and count every token.

    Args:
        processor: the model's; without it no tokens are counted.
        unread: origin and complaint of records that could not even be read (`read_records(on_bad=…)`).
        workers: child processes that open media; 0: one for each core.
        timeout_s, memory_mb: what one medium may take, in seconds of wall-clock time and MiB.
        folder: where the journal is kept, made if need be; None: nothing is kept.
        max_length: most positions of a record, media included; None: the model's context.
        frames, protocol: how media are opened; None: as the model has it, else 8 frames under "full".

    Raises:
        UsageError: a setting makes no sense, or no protocol has this name.
        StorageError: the folder can't be written.
        VideoLlama2Error: child processes can't be started.
    """
    _refuse_odd(workers, timeout_s, memory_mb, max_length=max_length, frames=frames)
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
        "max_length": None if lengths is None else lengths.most,
    }  # fmt: skip
    return found


def _refuse_odd(workers: int, timeout_s: float, memory_mb: int, **counts: int | None) -> None:
    """Raise UsageError for settings under which every medium would seem to be bad."""
    right = workers >= 0 and 0 < timeout_s <= MOST_SECONDS and 0 < memory_mb <= MOST_MEMORY_MB
    if (
        not right
        or not all(n > 0 for n in counts.values() if n is not None)
        or (counts["frames"] or 1) > MAX_NUM_FRAMES
    ):
        told = ", ".join(f"{name}={n}" for name, n in counts.items())
        raise UsageError(
            f"workers={workers}, timeout_s={timeout_s:g}, memory_mb={memory_mb}, {told}; expected workers ≥ 0 and the "
            f"others above 0: at most {MOST_SECONDS:,} s, {MOST_MEMORY_MB:,} MiB and {MAX_NUM_FRAMES:,} frames"
        )


@dataclass(kw_only=True, frozen=True)
class _File:
    """What the system says of a path: bytes, time of change and where it lies, or why it says nothing."""

    path: str
    place: tuple[int, int] = (0, 0)
    size: int = -1
    changed: int = 0
    plain: bool = False
    problem: str = ""


class _Doctor:
    """One examination on its way."""

    def __init__(
        self, journal: DoctorJournal, workers: int, report: Progress, *, frames: int, protocol: Protocol
    ) -> None:
        self._journal, self._workers, self._report = journal, workers, report
        self._frames, self._protocol = frames, protocol
        self._files: dict[str, _File] = {}
        self._hashes: dict[str, str] = {}
        self._first: dict[str, str] = {}  # hash -> the first path with that content
        self._said: dict[str, str] = {}  # content and text -> the first record with them

    # ── opening ────────────────────────────────────────────────────────────────────────────────────────────────

    def open_media(self, records: Sequence[Record]) -> None:
        """Every medium of the records, as each record wants it, once."""
        tasks = {}
        for record in records:
            files = [self._file(path) for path in record.paths]
            if record.media is not None and not any(file.problem for file in files):
                task = self._task(record.media)
                tasks[self._key(task, files)] = task
        self._ask("opening media", tasks)

    def hash_media(self) -> None:
        """The content of files that may be equal, which are those of equal size."""
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
            "frames": self._frames, "protocol": self._protocol.name,
        }  # fmt: skip

    def _key(self, task: Task, files: Sequence[_File]) -> str:
        told = [dict(task), [[file.size, file.changed] for file in files]]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

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
                stat = Path(path).stat()
                held = [stat]
                if S_ISDIR(stat.st_mode):  # of pictures: one of them may be written anew
                    held += [picture.stat() for picture in Path(path).iterdir() if picture.is_file()]
                self._files[path] = _File(
                    path=path, place=(stat.st_dev, stat.st_ino), size=sum(one.st_size for one in held),
                    changed=max(one.st_mtime_ns for one in held), plain=S_ISREG(stat.st_mode),
                )  # fmt: skip
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else None
                self._files[path] = _File(path=path, problem=f"{path}: {(why or str(error)).lower()}")
        return self._files[path]

    # ── judging ────────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, records: Sequence[Record], lengths: Lengths | None, found: Examination) -> None:
        """Every record: its findings, its length, and whether it is good."""
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
        """What is known of the record's medium; None for text alone."""
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
        """Whether the same was said of the same before, and whether the same file has another name."""
        contents = [self._hashes.get(path, path) for path in record.paths]
        media = record.media
        asked = None if media is None else (media.start, media.end, media.video, media.audio)
        told = json.dumps([contents, asked, record.conversation], sort_keys=True)
        key = hashlib.sha256(told.encode()).hexdigest()
        first = self._said.setdefault(key, record.origin)
        if first != record.origin:
            yield "problem", "duplicate", f"it says the same of the same as {first}"
            return
        if isinstance(record.media and record.media.source, tuple):
            return  # a still scene has equal frames
        for path, content in zip(record.paths, contents, strict=True):
            other = self._first.setdefault(content, path)
            if self._file(other).place != self._file(path).place:
                yield "remark", "duplicate file", f"{path} has the same content as {other}"


_Seen = tuple[Severity, str, str]


def _of_facts(record: Record, facts: Answer) -> Iterator[_Seen]:
    """What the opened medium shows to be wrong."""
    media = record.media
    assert media is not None
    if media.video:
        still = facts["kind"] == "image"
        if facts["kind"] == "audio":
            yield "problem", "no pictures", "it holds sound only; expected the key 'audio' for it"
        elif still != (record.modality == "image"):
            right = "image" if still else "video"
            yield "problem", "wrong medium", f"it is a {'picture' if still else 'video'}; expected the key {right!r}"
        elif not still and facts["different"] < LEAST_FRAMES:
            yield "problem", "too short", f"it gives {facts['different']} picture; expected {LEAST_FRAMES} or more"
    if media.audio:
        yield from _of_sound(facts)
    asked = None if media.end is None else media.end - (media.start or 0.0)
    used = _used_seconds(record, facts)
    if asked is not None and used and asked - used[0] > _SLACK:
        severity: Severity = "problem" if asked - used[0] > _SLACK_SHARE * asked else "remark"
        yield severity, "too short", f"{used[0]:.2f} of the {asked:g} s from {media.start or 0.0:g} s are there"
    for loss in facts["losses"]:
        if "frames are used" in loss:
            yield "remark", "not all used", loss
        elif not loss.startswith("the sound is not used"):
            yield "problem", "damaged", loss


def _of_sound(facts: Answer) -> Iterator[_Seen]:
    if facts["sound"] == "absent":
        reason = next((loss for loss in facts["losses"] if loss.startswith("the sound is not used")), "it has none")
        yield "problem", "no sound", f"its sound is asked for; {reason}"
    elif facts["sound_seconds"] is not None and facts["sound_seconds"] < LEAST_SOUND:
        yield (
            "problem",
            "too short",
            f"it has {facts['sound_seconds']:.3f} s of sound; expected {LEAST_SOUND:g} or more",
        )
    elif facts["sound"] == "silent":
        yield "remark", "silent", "its sound is digital silence"


def _of_text(record: Record) -> Iterator[_Seen]:
    said = [turn["value"].strip() for turn in record.conversation if turn["from"] == "gpt"]
    if not any(said):
        what = "no turn is from gpt" if not said else "every answer is empty"
        yield "problem", "nothing to learn", f"{what}; expected an answer to learn"


def _used_seconds(record: Record, facts: Answer | None) -> list[float]:
    """Seconds of the medium in the asked range; nothing for stills, text, frame lists, and what can't be opened."""
    media = record.media
    if media is None or facts is None or facts.get("seconds") is None or facts["kind"] == "image":
        return []
    if isinstance(media.source, tuple):
        return []
    if not media.video:  # of a sound, the asked range alone was measured
        return [facts["seconds"]]
    end = facts["seconds"] if media.end is None else min(media.end, facts["seconds"])
    return [max(end - (media.start or 0.0), 0.0)]


def _quiet(what: str, done: int, total: int) -> None:
    """Nobody wants to know how far it is."""
