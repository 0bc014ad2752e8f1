"""Find what is wrong with training data before a run does: `videollama2 data doctor`.

    records ── media, each opened in a worker process (decoding.py)             ──┐
            ── files of equal size, hashed ── duplicates                          ├─► findings ──► report.py
            ── text, by the model's tokenizer ── lengths, labels (lengths.py)   ──┘

A `problem` drops its record from the clean list, as the record can't be learned from. A `remark` only informs. Every
answer is written to a journal at once, so an interrupted check resumes where it stopped; files that have changed since
are opened again. What is known of files, media and records is kept on disk (on_disk.py): memory doesn't grow with them.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import MediaError, UsageError
from ...media.opening import MAX_NUM_FRAMES
from ...protocols import Protocol
from ...protocols import protocol as named_protocol
from ...text.media_parts import Media
from ..indexed import Indexed
from ..records import Record
from ..tar_media import is_tar_path, tar_member, without_place
from .decoding import CRASHED, HUNG, Answer, Task, answers
from .journal import DoctorJournal
from .judging import Finding, Seen, Severity, of_facts, of_text, used_seconds
from .lengths import Length, Lengths
from .on_disk import DiskDict, DiskList

if TYPE_CHECKING:
    from ...processing import VideoLlama2Processor

Progress = Callable[[str, int, int], None]  # (stage, number done, number in all)

MAX_TIMEOUT_S = 86_400  # per media item
MAX_MEMORY_MB = 1 << 24
FRAMES = 8  # of a video, without a model
_OF_ERROR = {
    "MediaNotFound": "missing",
    "NoAudioStream": "no sound",
    "NoVideoStream": "no pictures",
    "TimeRangeError": "too short",
    "MediaTooLarge": "too large",
    HUNG: "hung",
    CRASHED: "crashed",
}


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
    findings: Sequence[Finding] = ()
    good: Sequence[Record] = ()
    seconds: Sequence[float] = ()
    lengths: Sequence[Length] = ()
    reused: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def of(self, severity: Severity) -> Iterator[Finding]:
        """Findings of a severity; problems drop their record from the clean list."""
        return (finding for finding in self.findings if finding.severity == severity)

    def counted(self, severity: Severity) -> dict[str, int]:
        """Number of findings by kind, most frequent first."""
        return dict(Counter(finding.kind for finding in self.of(severity)).most_common())


def examine(
    records: Sequence[Record],
    processor: "VideoLlama2Processor | None" = None,
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
        with closing(doctor):
            doctor.open_media(records)
            doctor.hash_media()
            lengths = None if processor is None else Lengths(processor, max_length, journal.texts)
            bad = [Finding(origin=o, id="", kind="bad record", message=why) for o, why in unread]
            found = doctor.judge(records, lengths, bad)
        found.total += len(unread)
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


class _Chosen(Indexed[Record]):
    """The records at some places of a sequence."""

    def __init__(self, records: Sequence[Record], places: Sequence[int]) -> None:
        self._records, self._places = records, places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Record]:
        return (self._records[place] for place in self._places)

    def at(self, place: int) -> Record:
        """The record at the place that is chosen here."""
        return self._records[self._places[place]]


class _File(NamedTuple):
    """A path's stat: size, modification time, device, inode and place in a shard; or why it has none."""

    path: str
    place: Sequence[int] = (0, 0)
    size: int = -1
    changed: int = 0
    plain: bool = False
    problem: str = ""


def _stat(path: str) -> _File:
    try:
        if is_tar_path(path):
            member = tar_member(path)
            stat = Path(member.shard).stat()
            place = (stat.st_dev, stat.st_ino, member.offset)
            return _File(path, place, member.size, stat.st_mtime_ns, plain=True)
        stat = os.stat(path)  # noqa: PTH116 - a Path interns its parts: a table that grows with the files
        held = [stat]
        if S_ISDIR(stat.st_mode):  # of frames, any of which may change
            held += [picture.stat() for picture in Path(path).iterdir() if picture.is_file()]
        size, changed = sum(one.st_size for one in held), max(one.st_mtime_ns for one in held)
        return _File(path, (stat.st_dev, stat.st_ino), size, changed, plain=S_ISREG(stat.st_mode))
    except (OSError, ValueError, MediaError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        return _File(path, problem=f"{path}: {(why or str(error)).lower()}")


class _Doctor:
    """The state of an examination."""

    def __init__(
        self, journal: DoctorJournal, workers: int, report: Progress, *, frames: int, protocol: Protocol
    ) -> None:
        self._journal, self._workers, self._report = journal, workers, report
        self._frames, self._protocol = frames, protocol
        self._files = DiskDict()  # path → the fields of its _File, without the path
        self._sizes = DiskDict()  # size → number of plain files
        self._hashes = DiskDict()  # path → hash of its content, of files of equal size
        self._first = DiskDict()  # hash → the first path with that content
        self._seen = DiskDict()  # hash of media and conversation → the first record with them

    def close(self) -> None:
        """Remove the temporary files."""
        for held in (self._files, self._sizes, self._hashes, self._first, self._seen):
            held.close()

    # ── opening ────────────────────────────────────────────────────────────────────────────────────────────────

    def open_media(self, records: Sequence[Record]) -> None:
        """Open every media item, once per way in which records use it."""
        tasks = DiskDict()
        for record in records:
            files = [self._file(path) for path in record.paths]
            if record.media is not None and not any(file.problem for file in files):
                task = self._task(record.media)
                tasks[self._key(task, files)] = task
        self._ask("opening media", tasks)

    def hash_media(self) -> None:
        """Hash the files that may be equal: those of equal size."""
        tasks = DiskDict()
        for path, fields in self._files.items():
            file = _File(path, *fields)
            if file.plain and file.size and self._sizes[str(file.size)] > 1:
                task = {"hash": path}
                key = self._key(task, [file])
                tasks[key], self._hashes[path] = task, key
        self._ask("comparing files of equal size", tasks)

    def _content(self, path: str) -> str:
        """What tells a file's content from others': its hash if it was hashed, else its path."""
        key = self._hashes.get(path)
        return path if key is None else str(self._journal.media[key].get("hash", path))

    def _task(self, media: Media) -> dict[str, Any]:
        return {
            "source": list(media.source) if isinstance(media.source, tuple) else media.source,
            "start": media.start, "end": media.end, "video": media.video, "audio": media.audio,
            "frames": self._frames, "protocol": self._protocol.name, **media.tracks,
        }  # fmt: skip

    def _key(self, task: Task, files: Sequence[_File]) -> str:
        identity = [dict(task), [[file.size, file.changed] for file in files]]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]

    def _ask(self, what: str, tasks: DiskDict) -> None:
        left = ((key, task) for key, task in tasks.items() if key not in self._journal.media)
        total = sum(key not in self._journal.media for key, _ in tasks.items())
        self._journal.reused += len(tasks) - total
        done = answers(left, workers=self._workers, timeout_s=self._journal.limits["timeout_s"],
                       memory_mb=int(self._journal.limits["memory_mb"]))  # fmt: skip
        for count, (key, answer) in enumerate(done, 1):
            self._journal.media[key] = answer
            self._journal.add("media", key, answer)
            self._report(what, count, total)
        tasks.close()

    def _file(self, path: str) -> _File:
        """A path's stat, which is asked for once."""
        fields = self._files.get(path)
        if fields is None:
            file = _stat(path)
            self._files[path] = file[1:]
            if file.plain:
                self._sizes[str(file.size)] = self._sizes.get(str(file.size), 0) + 1
            return file
        return _File(path, *fields)

    # ── judging ────────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, records: Sequence[Record], lengths: Lengths | None, bad: Sequence[Finding]) -> Examination:
        """Every record's findings and length, after those of bad records."""
        kinds: Counter[str] = Counter()
        findings = DiskList(bad, dump=asdict, load=lambda held: Finding(**{**held, "paths": tuple(held["paths"])}))
        measured = DiskList[Length](dump=astuple, load=lambda fields: Length(*fields))
        seconds, good = DiskList[float](), DiskList[int]()  # places of records
        for count, record in enumerate(records, 1):
            kinds[record.kind] += 1
            facts = self._facts(record)
            seen = [*self._of_media(record, facts), *self._of_content(record), *of_text(record)]
            if lengths is not None and not any(kind == "nothing to learn" for _, kind, _ in seen):
                length, why = lengths.of(record, facts)
                measured.extend([] if length is None else [length])
                seen += [] if why is None else [("problem", *why)]
            seconds.extend(used_seconds(record, facts))
            findings.extend(
                Finding(origin=record.origin, id=record.id, kind=kind, message=message, severity=severity,
                        paths=tuple(without_place(path)[0] for path in record.paths[:4]))
                for severity, kind, message in seen
            )  # fmt: skip
            if not any(severity == "problem" for severity, *_ in seen):
                good.append(count - 1)
            if count % 100 == 0 or count == len(records):
                self._report("reading texts", count, len(records))
        return Examination(
            total=len(records), kinds=dict(kinds), findings=findings, good=_Chosen(records, good), seconds=seconds,
            lengths=measured,
        )  # fmt: skip

    def _facts(self, record: Record) -> Answer | None:
        """The facts about a record's media item; None for text alone."""
        if record.media is None:
            return None
        files = [self._file(path) for path in record.paths]
        problem = next((file.problem for file in files if file.problem), None)
        if problem is not None:
            return {"error": "MediaNotFound", "message": problem}
        answer: Answer = self._journal.media[self._key(self._task(record.media), files)]
        return answer

    def _of_media(self, record: Record, facts: Answer | None) -> "Iterator[Seen]":
        if facts is None:
            return
        if "error" in facts:
            yield "problem", _OF_ERROR.get(facts["error"], "unreadable"), facts["message"]
            return
        yield from of_facts(record, facts)

    def _of_content(self, record: Record) -> "Iterator[Seen]":
        """Duplicates: of a record, and of a file under another path."""
        contents = [self._content(path) for path in record.paths]
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
            if list(self._file(other).place) != list(self._file(path).place):
                one, two = without_place(path)[0], without_place(other)[0]
                yield "remark", "duplicate file", f"{one} has the same content as {two}"


def _quiet(what: str, done: int, total: int) -> None:
    """No progress report."""
