"""Captions of many files, in a folder that a run which was stopped goes on in.

OUT/captions.jsonl    one line a file, added as it is done; in the order of the files when all are
    manifest.json     what the captions depend on: a run of other settings is refused
    a/clip.srt        the captions of a/clip.mp4 with their times
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import __version__
from ..errors import DataError, MissingExtra, StorageError, UsageError, VideoLlama2Error, WorkerError
from ..generation.request import Request
from ..json_lines import dumps_line
from ..storage import append, open_lines, read_lines, unwritable, write_whole
from ..subtitles import render, write_subtitles
from .files import Job, same_stem
from .windows import Watched, Window, watch

if TYPE_CHECKING:
    from ..engine import Engine

logger = logging.getLogger(__name__)

LINES, MANIFEST = "captions.jsonl", "manifest.json"
DONE, PARTLY, FAILED = "done", "partly", "failed"  # partly: some windows have no caption, and say why
_FATAL = (StorageError, MissingExtra, WorkerError)  # they would befall every file
_MOST_UNEXPECTED = 10  # in a row: not the files, but the device or the machine is out of order

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Captions:
    """What became of the files.

    Attributes:
        lines: of captions.jsonl, in the order of the files.
        reused: how many were there from a run before.
    """

    folder: Path
    lines: tuple[Line, ...] = field(repr=False)
    reused: int

    def counted(self, status: str) -> int:
        """How many files have this status."""
        return sum(line["status"] == status for line in self.lines)


def caption(
    engine: "Engine",
    listed: Sequence[Job],
    out: Path,
    request: Request,
    *,
    window: float | None = 10.0,
    overlap: float = 0.0,
    summary: bool = False,
    formats: Sequence[str] = (".srt",),
    threads: int = 2,
    retry: bool = False,
    on_file: Callable[[Line, int, int], None] | None = None,
) -> Captions:
    """Caption every file that has no captions in `out` yet.

    Args:
        engine: its opener should be that of WorkerPool: then a file can't take this process with it.
        listed: the files (`files.jobs`).
        request: the question and how it is asked, about one Media, whose source is replaced by each file.
        window, overlap, summary: as for `watch`.
        formats: which subtitle files are written beside captions.jsonl: ".srt", ".vtt", none.
        threads: files that are on their way at once; while one is answered, others are decoded.
        retry: try files again that failed, or failed in part.
        on_file: told each new line, how many files are done, and how many there are.

    Raises:
        UsageError: the folder holds captions of other settings, or another process writes there.
        StorageError: the folder can't be written. MissingExtra: subtitles need a package.
        VideoLlama2Error: many files in a row failed in a way that no file should.
    """
    for suffix in formats:
        render((), suffix[1:])  # a missing package is told before hours of work
    settings = _settings(engine, request, window=window, overlap=overlap, summary=summary)
    with _journal(out, settings) as (journal, known):
        kept = {job.name for job in listed if _is_kept(known.get(job.name), job, retry=retry)}
        left = [job for job in listed if job.name not in kept]
        alike = same_stem(listed)
        unexpected = 0
        stop = threading.Event()

        def work(job: Job) -> Line:
            line, watched = _line(engine, job, request, settings, stop)
            if watched is not None and watched.seconds:
                for suffix in formats:
                    write_subtitles(job.place(out, suffix, whole_name=job.name in alike), watched.lines)
            return line

        for line in _worked(work, left, threads, stop):
            with _unwritable(out):
                append(journal, [_encoded(line)])
            known[line["file"]] = line
            unexpected = unexpected + 1 if line["error"] and line["error"]["unexpected"] else 0
            if on_file is not None:
                on_file(line, sum(job.name in kept or known.get(job.name) is line for job in listed), len(listed))
            kept.add(line["file"])
            if unexpected >= _MOST_UNEXPECTED:
                raise VideoLlama2Error(
                    f"{unexpected} files in a row failed in a way that no file should, the last with "
                    f"{line['error']['type']}: {line['error']['message']}. Mend that, then run the same command again"
                )
        ours = {job.name for job in listed}
        lines = [known[job.name] for job in listed]
        others = [line for name, line in known.items() if name not in ours]  # of folders named before
        write_whole(out / LINES, b"".join(map(_encoded, [*lines, *others])))
    return Captions(folder=out, lines=tuple(lines), reused=len(listed) - len(left))


def _worked(work: Callable[[Job], Line], left: Sequence[Job], threads: int, stop: threading.Event) -> Iterator[Line]:
    """Lines as they come. Who leaves early waits for the windows that are being asked about, and for no more."""
    if threads < 1:
        raise UsageError(f"threads={threads}; expected 1 or more")
    pool = ThreadPoolExecutor(threads)
    try:
        for done in as_completed([pool.submit(work, job) for job in left]):
            yield done.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _line(
    engine: "Engine", job: Job, request: Request, settings: Mapping[str, Any], stop: threading.Event
) -> tuple[Line, Watched | None]:
    """A file's line, and its captions."""
    began = time.perf_counter()
    media = request.conversation()[0][0]
    how = {name: settings[name] for name in ("window", "overlap", "summary")}
    line: Line = {"file": job.name, "path": str(job.path), **_mark(job.path), "status": DONE, "error": None}

    def on_window(_: Window, __: int) -> None:
        if stop.is_set():
            raise _Stopped

    try:
        asked = replace(
            request,
            media=replace(media, source=job.path),
            start=None,
            end=None,
            video=True,
            audio=True,
            num_frames=None,
        )
        watched = watch(engine, asked, on_window=on_window, **how)
    except (*_FATAL, _Stopped):
        raise
    except Exception as error:  # whatever a file does to the model or a library, it does to itself alone
        known = isinstance(error, VideoLlama2Error)
        words = " ".join([str(error), *getattr(error, "__notes__", ())]).replace("\n", " ")
        told = {"type": type(error).__name__, "message": words, "unexpected": not known}
        line |= {"status": FAILED, "error": told, "captions": [], "took": round(time.perf_counter() - began, 3)}
        return line, None
    captions = [
        {"start": w.start, "end": w.end, "text": w.text, "error": w.error,
         "receipt": None if w.answer is None else asdict(w.answer.receipt)}
        for w in watched.windows
    ]  # fmt: skip
    total = watched.summary
    line |= {
        "status": PARTLY if any(w.answer is None for w in watched.windows) else DONE,
        "seconds": watched.seconds, "captions": captions, "summary": None if total is None else total.text,
        "took": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    plain: Line = json.loads(json.dumps(line))  # what is told is what is written
    return plain, watched


class _Stopped(Exception):
    """The run ends; nobody reads what this file would bring."""


def _mark(path: Path) -> dict[str, int]:
    """What tells a file from a later one of its name."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return {"size": -1, "mtime_ns": -1}


def _is_kept(line: Line | None, job: Job, *, retry: bool) -> bool:
    if line is None or any(line.get(key) != value for key, value in _mark(job.path).items()):
        return False
    return line["status"] == DONE or not retry


def _settings(engine: "Engine", request: Request, **more: Any) -> dict[str, Any]:
    """What the captions depend on."""
    media, _ = request.conversation()
    if len(media) != 1 or request.question is None:
        raise UsageError("captions are made of one question about one Media, whose source is replaced by each file")
    chosen = request.protocol or engine.protocol
    about = {k: v for k, v in asdict(replace(media[0], source=None)).items() if k not in ("source", "times")}
    return {
        "version": __version__, "model": engine.name, "question": request.question, "system": request.system,
        "protocol": chosen if isinstance(chosen, str) else chosen.name, "strict": request.strict, **more, **about,
        "options": asdict(request.options),
    }  # fmt: skip


@contextlib.contextmanager
def _journal(out: Path, settings: Mapping[str, Any]) -> Iterator[tuple[BinaryIO, dict[str, Line]]]:
    """captions.jsonl, open for adding, and what stands in it; after making sure that it is of these settings."""
    with _unwritable(out):
        out.mkdir(parents=True, exist_ok=True)
        journal = open_lines(out / LINES, "wait for it, or name another folder with --out")
    with journal:
        known = {}
        for number, line in read_lines(out / LINES):
            if not isinstance(line.get("file"), str) or line.get("status") not in (DONE, PARTLY, FAILED):
                raise DataError(f"{out / LINES}:{number} is no line of captions; remove it, or name another --out")
            known[line["file"]] = line
        told = json.loads(json.dumps(settings))
        manifest = out / MANIFEST
        if known and manifest.is_file():
            try:
                before = json.loads(manifest.read_bytes())
            except (OSError, ValueError) as error:
                raise DataError(f"{manifest} can't be read ({error}); remove it, or name another --out") from error
            changed = [f"{k}: {before.get(k)!r} → {v!r}" for k, v in told.items() if before.get(k) != v]
            if changed:
                raise UsageError(
                    f"{out} holds captions that were made otherwise ({'; '.join(changed)}); name another folder with "
                    "--out, or ask as before"
                )
        write_whole(manifest, (json.dumps(told, indent=2) + "\n").encode())
        yield journal, known


def _encoded(line: Line) -> bytes:
    return (dumps_line(line) + "\n").encode()


@contextlib.contextmanager
def _unwritable(out: Path) -> Iterator[None]:
    try:
        yield
    except VideoLlama2Error:
        raise
    except OSError as error:
        raise unwritable(out, error) from error
