"""Jobs over many rows: one line of JSON per row, by id. A killed job resumes in its folder, with or without a cluster.

    rows ── those without a line ──► EnginePool.map(work) ──► lines in the order of completion ──► the journal
    OUT/captions.jsonl, answers.jsonl    one line per row, appended as rows are done; once all are, in the rows' order
        manifest.json                    what the lines depend on: a job with other settings is rejected

What is done with a row is a `RowWork`; an error that a row causes is its line. The journal's lines stay on disk.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import DataError, UsageError, VideoLlama2Error
from ..generation.request import Request
from ..jobs import (
    STOPS_THE_JOB,
    EnginePool,
    FailureStreak,
    JournalFile,
    Stopped,
    abridged,
    error_text,
    line_at,
    placed_lines,
    with_backend,
    write_json,
    write_lines,
)
from ..receipt import Answer, source_name
from .files import InputFile

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DONE, PARTLY, FAILED = "done", "partly", "failed"  # partly: some windows failed and have their error
_UNEXPECTED_IN_A_ROW = 10  # then the device or installation is broken, not the files
_ROW_KEYS = ("size", "mtime_ns", "question", "start", "end", "video", "audio_track", "video_track", "problem")

Line = dict[str, Any]


@dataclass(frozen=True)
class RowWork:
    """What is done with a row.

    Attributes:
        request: the question and its options, about one Media, whose source is replaced by each row's.
        settings: everything else that a line depends on.
    """

    request: Request
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, engine: Any, row: InputFile, stopped: Callable[[], bool], *, shown: str) -> Line:
        """The row's part of its line: status, error, what `answered` adds, and the seconds it took.

        Args:
            shown: what receipts and errors call the row's file.
        """
        began, called = time.perf_counter(), str(row.path)
        try:
            media = row.media(self.request.media_items()[0])
            called = source_name(media.source)
            request = replace(self.request, media=media, question=row.question or self.request.question)
            found = {"status": DONE, "error": None, **self.answered(engine, request, stopped)}
        except (*STOPS_THE_JOB, Stopped):
            raise
        except Exception as error:  # any error that a row causes concerns that row alone
            found = self.failed(error)
        found["took"] = round(time.perf_counter() - began, 3)
        text = json.dumps(found)
        for name in {called, str(row.path)} - {shown}:  # media read into memory have no name
            text = text.replace(json.dumps(name)[1:-1], json.dumps(shown)[1:-1])
        plain: Line = json.loads(text)  # callers get the line as written
        return plain

    def answered(self, engine: Any, request: Request, stopped: Callable[[], bool]) -> Line:
        """The part of the line that is this job's own; may raise for the row, `Stopped`, or what ends the job."""
        raise NotImplementedError

    def failed(self, error: Exception) -> Line:
        """The part of the line of a row that raised an error."""
        known = isinstance(error, VideoLlama2Error)
        failure = {"type": type(error).__name__, "message": error_text(error), "unexpected": not known}
        return {"status": FAILED, "error": failure}


@dataclass(frozen=True, kw_only=True)
class RowRun:
    """The outcome of `run_rows`.

    Attributes:
        file: the lines, in the order of the rows.
        counts: rows by status.
        reused: how many of their lines an earlier run wrote.
    """

    folder: Path
    file: Path
    counts: Mapping[str, int]
    reused: int
    rows: int

    @property
    def lines(self) -> tuple[Line, ...]:
        """The rows' lines, read from the file."""
        return tuple(self.each())

    def each(self) -> Iterator[Line]:
        """The rows' lines, one in memory at a time."""
        for number, _, line in placed_lines(self.file):
            if number > self.rows:
                return
            yield line

    def counted(self, status: str) -> int:
        """Number of rows with this status."""
        return self.counts.get(status, 0)


@dataclass(frozen=True, slots=True)
class _Known:
    """A line in the journal: its place, its row's status, and what it was made from."""

    place: int
    status: str
    mark: tuple[Any, ...]


def run_rows(
    pool: EnginePool,
    work: RowWork,
    rows: Sequence[InputFile],
    out: Path,
    name: str,
    *,
    noun: str = "results",
    retry: bool = False,
    on_line: Callable[[InputFile, Line], None] | None = None,
    on_file: Callable[[Line, int, int], None] | None = None,
) -> RowRun:
    """Work through every row that has no line in `out` yet.

    Args:
        pool: the engines.
        rows: with unique ids.
        name: of the file of lines.
        noun: what the folder has, for errors ("captions").
        retry: retry rows that failed, wholly or in part.
        on_line: called with each new line before it is written, for further files.
        on_file: called with each new line, the number of rows done, and their total.

    Raises:
        UsageError: the folder has lines made with other settings, or another process is writing there.
        StorageError: the folder can't be written; the lines before are intact.
        VideoLlama2Error: many rows in a row failed unexpectedly, or the pool was lost.
    """
    by_name = {row.name: row for row in rows}
    path = out / name
    with _journal(out, name, noun, settings_of(pool, work)) as (journal, known):
        heads = {row.name: _head(row) for row in rows}
        left = [row for row in rows if not _is_kept(known.get(row.name), heads[row.name], retry=retry)]
        heads = {row.name: heads[row.name] for row in left}
        tasks = [(row.name, row.anywhere() if pool.elsewhere else row, str(row.path)) for row in left]
        streak = FailureStreak(_UNEXPECTED_IN_A_ROW)
        done, waiting = len(rows) - len(left), {row.name for row in left}
        with closing(pool.map(_Named(work), tasks)) as results:
            for id_, found in results:
                if id_ not in waiting:
                    continue  # a row that was finished by a process thought to be lost
                waiting.remove(id_)
                line = {**heads.pop(id_), **found}
                if on_line is not None:
                    on_line(by_name[id_], line)
                known[id_] = _known(journal.append([line]), line)
                done += 1
                if on_file is not None:
                    on_file(line, done, len(rows))
                if streak.update(unexpected=bool(line["error"] and line["error"]["unexpected"])):
                    raise VideoLlama2Error(
                        f"{streak.length} files in a row failed unexpectedly, the last with {line['error']['type']}: "
                        f"{line['error']['message']}. Fix the cause, then run the same command again."
                    )
        if waiting:
            raise VideoLlama2Error(
                f"{len(waiting)} rows came back without a result, such as {min(waiting)}; run the same command again."
            )
        others = [line.place for id_, line in known.items() if id_ not in by_name]  # of earlier runs
        places = [*(known[row.name].place for row in rows), *others]
        if places != sorted(places) or len(places) != sum(1 for _ in placed_lines(path)):
            write_lines(path, (line_at(path, place) for place in places))
    counts: dict[str, int] = {}
    for row in rows:
        status = known[row.name].status
        counts[status] = counts.get(status, 0) + 1
    return RowRun(folder=out, file=path, counts=counts, reused=len(rows) - len(left), rows=len(rows))


@dataclass(frozen=True)
class _Named:
    """A RowWork for tasks (id, row, its path as given), with results (id, line) that name the path as given."""

    work: RowWork

    def __call__(self, engine: Any, task: tuple[str, InputFile, str], stopped: Callable[[], bool]) -> tuple[str, Line]:
        return task[0], self.work(engine, task[1], stopped, shown=task[2])

    def lost(self, task: tuple[str, InputFile, str], error: VideoLlama2Error) -> tuple[str, Line]:
        return task[0], {**self.work.failed(error), "took": 0.0}


def settings_of(pool: EnginePool, work: RowWork) -> dict[str, Any]:
    """Everything that the lines depend on.

    Raises:
        UsageError: the request is not about one media item.
    """
    request, media = work.request, work.request.media_items()
    if len(media) != 1:
        raise UsageError("expected a request about one Media, whose source is replaced by each file.")
    chosen = request.protocol or pool.protocol
    about = {k: v for k, v in asdict(replace(media[0], source=None)).items() if k not in ("source", "times")}
    return {
        "version": __version__, "model": pool.name, "weights_sha256": pool.weights_sha256, **pool.backend,
        "question": request.question,
        "system": request.system,
        "protocol": chosen if isinstance(chosen, str) else chosen.name, "strict": request.strict, **work.settings,
        **about, "options": {k: v for k, v in asdict(request.options).items() if k != "schema" or v is not None},
    }  # fmt: skip


def answer_fields(answer: Answer) -> Line:
    """An answer as fields of a line."""
    return {"text": answer.text, "finish_reason": answer.finish_reason, "receipt": receipt_fields(answer)}


def receipt_fields(answer: Answer) -> Line:
    """An answer's receipt as plain data; that of a server already is."""
    receipt: Any = answer.receipt
    return receipt if isinstance(receipt, dict) else asdict(receipt)


def _head(row: InputFile) -> Line:
    return {"id": row.name, "file": row.name, "path": str(row.path), **row.mark()}


def _mark(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line.get(key) for key in _ROW_KEYS)


def _known(place: int, line: Mapping[str, Any]) -> _Known:
    return _Known(place, line["status"], _mark(line))


def _is_kept(line: _Known | None, head: Line, *, retry: bool) -> bool:
    if line is None or line.mark != _mark(head):
        return False
    return line.status == DONE or not retry


@contextlib.contextmanager
def _journal(
    out: Path, name: str, noun: str, settings: Mapping[str, Any]
) -> Iterator[tuple[JournalFile, dict[str, _Known]]]:
    """The journal, open for appending, and its lines by id, once the manifest is known to match the settings."""
    with JournalFile(out / name, in_use="wait for it, or choose another folder with --out") as journal:
        known = {}
        for number, place, line in placed_lines(out / name):
            if not isinstance(line.get("file"), str) or line.get("status") not in (DONE, PARTLY, FAILED):
                raise DataError(
                    f"{out / name}:{number}: expected the {noun} of a file; remove the line, or choose another --out."
                )
            known[line["file"]] = _known(place, line)
        requested = json.loads(json.dumps(settings))
        manifest = out / MANIFEST
        if known and manifest.is_file():
            try:
                before = with_backend(json.loads(manifest.read_bytes()))
            except (OSError, ValueError, TypeError) as error:
                raise DataError(f"{manifest} can't be read ({error}); remove it, or choose another --out.") from error
            changed = [
                f"{k}: {abridged(before.get(k))!r} → {abridged(v)!r}"
                for k, v in requested.items()
                if before.get(k) != v
            ]
            if changed:
                raise UsageError(
                    f"{out} has {noun} made with other settings ({'; '.join(changed)}); choose another folder with "
                    "--out, or use the same settings."
                )
        write_json(manifest, requested)
        yield journal, known
