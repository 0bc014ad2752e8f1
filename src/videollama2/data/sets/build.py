"""`videollama2 data build`: a set's annotations and a user's media to records that training reads.

    SETS/NAME/records.jsonl   the records whose media were found        missing.jsonl   those whose media were not
    SETS/NAME/manifest.json   what was read, kept, dropped and why      records.index   where each record begins

Everything is streamed. The same annotations, media and seed give the same bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import DataError, StorageError
from ...json_lines import dumps_line
from ...storage import write_whole
from ..built import INDEX, MANIFEST, MISSING, RECORDS
from ..record_files import Place
from ..records import of_mapping
from ..tar_media import MEMBER, without_place
from .contract import Draft, Drop, Source, Sources, TrainingSet
from .finding import held_out, sources_of
from .media_index import MediaIndex, clip_name

_EXAMPLES = 3  # of each reason, in the manifest
_REPORTED = 5_000  # rows between two calls of on_progress
OnProgress = Callable[[str, int], None]


@dataclass(kw_only=True)
class Counts:
    """What became of a set's rows.

    `rows` of the files; `drafts`: records they describe; `outside`: not in the share; `dropped`: by reason, with
    `examples` of each; `missing`: media not found; `kept`, of which `kinds`.
    """

    rows: int = 0
    drafts: int = 0
    outside: int = 0
    kept: int = 0
    missing: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, example: str) -> None:
        """Count a dropped row or record."""
        self.dropped[reason] += 1
        if len(self.examples.setdefault(reason, [])) < _EXAMPLES:
            self.examples[reason].append(example[:300])


def build_set(
    training_set: TrainingSet,
    annotations: Path,
    media: Sequence[Path],
    output: Path,
    *,
    seed: int = 0,
    share: float | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Build a set into `output`/NAME; returns its manifest.

    Args:
        annotations: folder or file of the official annotations, or of conversations.
        media: folders with media files and .tar shards; empty: the annotations' folder.
        seed: of the subset. share: of the rows to keep, 0 to 1; None: what the paper used.

    Raises:
        DataError: the annotations are missing or unreadable, or no record is left.
        StorageError: `output` can't be written.
    """
    sources = sources_of(training_set, annotations)
    folders = list(media) or [annotations if annotations.is_dir() else annotations.parent]
    fraction = training_set.fraction(sources) if share is None else share
    folder, report = output / training_set.name, on_progress or (lambda what, done: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)  # a set without one is not finished
        counts, digest = _write(
            training_set, sources, folders, folder, _Share(seed, training_set.name, fraction), report
        )
        manifest = _manifest(training_set, sources, counts, digest, folder, seed, fraction, share is None)
        write_whole(folder / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise StorageError(f"{folder} can't be written ({error.strerror or error}); give another --output.") from error
    return manifest


@dataclass(frozen=True)
class _Share:
    """Keeps a record if the SHA-256 of seed, set and key falls below the fraction, whatever the order of the rows."""

    seed: int
    name: str
    fraction: float

    def has(self, key: str) -> bool:
        if self.fraction >= 1:
            return True
        hashed = hashlib.sha256(f"{self.seed}\n{self.name}\n{key}".encode()).digest()
        return int.from_bytes(hashed[:8]) < self.fraction * 2**64


def _write(
    training_set: TrainingSet,
    sources: Sources,
    folders: Sequence[Path],
    folder: Path,
    share: _Share,
    report: OnProgress,
) -> tuple[Counts, str]:
    counts, digest = Counts(), hashlib.sha256()
    with ExitStack() as stack:
        report("indexing media", 0)
        index = None
        if training_set.kind != "text":
            index = stack.enter_context(MediaIndex(folder / ".media.sqlite", folders, training_set.kind))
        files = {name: stack.enter_context((folder / name).open("wb")) for name in (RECORDS, MISSING, INDEX)}
        at = 0
        for draft, origin in _drafts(training_set, sources, counts, share, report):
            path, cut = _located(draft, index)
            if draft.names and path is None:
                counts.missing += 1
                files[MISSING].write(_line(missing_line(draft, origin)))
                continue
            line = _record(training_set, draft, origin, path, cut, counts)
            if line is not None:
                counts.kept += 1
                digest.update(line)
                files[RECORDS].write(line)
                _append(files[INDEX], at)
                at += len(line)
        _append(files[INDEX], at)
    return counts, digest.hexdigest()


def _located(draft: Draft, index: MediaIndex | None) -> tuple[str | None, bool]:
    """The path of its media file, and whether `start` and `end` are to be cut from it."""
    if index is None:
        return None, False
    clip = () if draft.url is None or draft.start is None else (clip_name(draft.url, draft.start),)
    path = index.find((*draft.media, *clip))
    if path is not None:
        return path, False
    return index.find((*draft.whole, *([draft.url] if draft.url else []))), True


def _drafts(
    training_set: TrainingSet, sources: Sources, counts: Counts, share: _Share, report: OnProgress
) -> Iterator[tuple[Draft, str]]:
    """The drafts of the share, with the place of their row; a bad row costs itself alone."""
    seen: set[str] = set()  # only of sets whose files repeat each other, which are small
    for row in training_set.rows(sources):
        counts.rows += 1
        if counts.rows % _REPORTED == 0:
            report(training_set.name, counts.rows)
        try:
            for draft in training_set.drafts(row):
                if isinstance(draft, Drop):
                    counts.drop(draft.reason, row.origin)
                    continue
                if training_set.unique and draft.key in seen:
                    counts.drop("repeated", row.origin)
                    continue
                if training_set.unique:
                    seen.add(draft.key)
                counts.drafts += 1
                if share.has(draft.key):
                    yield draft, row.origin
                else:
                    counts.outside += 1
        except DataError as error:
            counts.drop("malformed row", str(error))
        except (ValueError, TypeError, LookupError, AttributeError) as error:  # of another shape than any set foresees
            counts.drop("malformed row", f"{row.origin}: {type(error).__name__}: {error}")


def _record(
    training_set: TrainingSet, draft: Draft, origin: str, path: str | None, cut: bool, counts: Counts
) -> bytes | None:
    """The line of a record, read back as training reads it; None if training can't read it."""
    key = {"av": "video"}.get(training_set.kind, training_set.kind)
    line: dict[str, Any] = {"id": draft.key, "_origin": origin}
    if path is not None:
        line[key], member = without_place(path)
        line |= {} if member is None else {MEMBER: list(member)}
        line |= {name: at for name, at in (("start", draft.start), ("end", draft.end)) if cut and at is not None}
        line |= {"sound": training_set.kind == "av"} if key == "video" else {}
    line["conversations"] = [
        {"from": speaker, "value": text}
        for turn in draft.turns
        for speaker, text in zip(("human", "gpt"), turn, strict=True)
    ]
    try:
        counts.kinds[of_mapping({**line}, Place(draft.key, origin, origin), "", sound=False).kind] += 1
    except DataError as error:
        counts.drop("not a record", f"{origin}: {error}")
        return None
    return _line(line)


def missing_line(draft: Draft, origin: str) -> dict[str, Any]:
    """A draft as a line of missing.jsonl: what a downloader needs."""
    given = {"url": draft.url, "start": draft.start, "end": draft.end}
    return {
        "id": draft.key,
        "names": list(draft.names),
        **{k: v for k, v in given.items() if v is not None},
        "_origin": origin,
    }


def _line(value: Any) -> bytes:
    return (dumps_line(value, ascii_only=False) + "\n").encode()


def _append(file: BinaryIO, number: int) -> None:
    file.write(number.to_bytes(8, "little"))


def _manifest(
    training_set: TrainingSet,
    sources: Sources,
    counts: Counts,
    digest: str,
    folder: Path,
    seed: int,
    fraction: float,
    papers: bool,
) -> dict[str, Any]:
    rule = "all records"
    if fraction < 1:
        rule = (
            "a record is kept if the first 8 bytes of SHA-256(seed, set and id, one per line), as a fraction, are "
            f"below {fraction:.6g}"
        )
    return {
        "set": training_set.name,
        "title": training_set.title,
        "kind": training_set.kind,
        "annotations": [_hashed(source) for source in sources],
        "held_out": [source.path.name for source in sources if held_out(source.path)],
        "rows": counts.rows,
        "records": counts.drafts,
        "published": training_set.published,
        "paper": training_set.paper,
        "outside_the_share": counts.outside,
        "dropped": dict(counts.dropped),
        "examples": counts.examples,
        "missing_media": counts.missing,
        "kept": counts.kept,
        "kinds": dict(counts.kinds),
        "subset": {
            "seed": seed,
            "fraction": fraction,
            "as_the_paper": papers,
            "rule": rule,
            "known": training_set.known,
            "choice": training_set.choice,
        },
        "licence": training_set.licence,
        "media": training_set.ask,
        "file": {"bytes": (folder / RECORDS).stat().st_size, "sha256": digest},
    }


def _hashed(source: Source) -> dict[str, Any]:
    with source.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "file": source.path.name,
        "bytes": source.path.stat().st_size,
        "sha256": digest,
        "published": source.form.published,
    }
