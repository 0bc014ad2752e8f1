"""Captions of many files. An interrupted run resumes in its folder.

OUT/captions.jsonl    one line per file, appended as files are done; once all are, in the order of the files
    manifest.json     what the captions depend on: a run with other settings is rejected
    a/clip.srt        the captions of a/clip.mp4 with their times
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import DataError, UsageError, VideoLlama2Error
from ..generation.request import Request
from ..jobs import (
    STOPS_THE_JOB,
    FailureStreak,
    JournalFile,
    error_text,
    in_threads,
    read_lines,
    write_json,
    write_lines,
)
from ..subtitles import render_subtitles, write_subtitles
from .files import InputFile, same_stem
from .windows import WatchResult, Window, watch

if TYPE_CHECKING:
    from ..engine import Engine

logger = logging.getLogger(__name__)

LINES, MANIFEST = "captions.jsonl", "manifest.json"
DONE, PARTLY, FAILED = "done", "partly", "failed"  # partly: some windows failed and have their error
_UNEXPECTED_IN_A_ROW = 10  # then the device or installation is broken, not the files

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CaptionRun:
    """The outcome of `caption_files`.

    Attributes:
        lines: of captions.jsonl, in the order of the files.
        reused: how many of them an earlier run wrote.
    """

    folder: Path
    lines: tuple[Line, ...] = field(repr=False)
    reused: int

    def counted(self, status: str) -> int:
        """Number of files with this status."""
        return sum(line["status"] == status for line in self.lines)


def caption_files(
    engine: "Engine",
    files: Sequence[InputFile],
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
) -> CaptionRun:
    """Caption every file that has no captions in `out` yet.

    Args:
        engine: its opener should be that of WorkerPool, so that a bad file can't crash this process.
        files: the files (`files.find_files`).
        request: the question and its options, about one Media, whose source is replaced by each file.
        window, overlap, summary: as for `watch`.
        formats: subtitle files to write as well: ".srt", ".vtt", or none.
        threads: files in progress at once; while one is answered, others are decoded.
        retry: retry files that failed, wholly or in part.
        on_file: called with each new line, the number of files done, and their total.

    Raises:
        UsageError: the folder has captions made with other settings, or another process is writing there.
        StorageError: the folder can't be written.
        MissingExtra: subtitles need a package that is not installed.
        VideoLlama2Error: many files in a row failed unexpectedly.
    """
    for suffix in formats:
        render_subtitles((), suffix[1:])  # a missing package fails here, not after hours of work
    settings = _settings(engine, request, window=window, overlap=overlap, summary=summary)
    with _journal(out, settings) as (journal, known):
        kept = {file.name for file in files if _is_kept(known.get(file.name), file, retry=retry)}
        left = [file for file in files if file.name not in kept]
        alike = same_stem(files)
        streak = FailureStreak(_UNEXPECTED_IN_A_ROW)
        stop = threading.Event()

        def work(file: InputFile) -> Line:
            line, result = _line(engine, file, request, settings, stop)
            if result is not None and result.seconds:
                for suffix in formats:
                    path = file.output_path(out, suffix, whole_name=file.name in alike)
                    write_subtitles(path, result.subtitles)
            return line

        for line in in_threads(work, left, threads, on_exit=stop.set):
            journal.append([line])
            known[line["file"]] = line
            if on_file is not None:
                on_file(line, sum(file.name in kept or known.get(file.name) is line for file in files), len(files))
            kept.add(line["file"])
            if streak.update(unexpected=bool(line["error"] and line["error"]["unexpected"])):
                raise VideoLlama2Error(
                    f"{streak.length} files in a row failed unexpectedly, the last with {line['error']['type']}: "
                    f"{line['error']['message']}. Fix the cause, then run the same command again"
                )
        ours = {file.name for file in files}
        lines = [known[file.name] for file in files]
        others = [line for name, line in known.items() if name not in ours]  # of earlier runs
        write_lines(out / LINES, [*lines, *others])
    return CaptionRun(folder=out, lines=tuple(lines), reused=len(files) - len(left))


def _line(
    engine: "Engine", file: InputFile, request: Request, settings: Mapping[str, Any], stop: threading.Event
) -> tuple[Line, WatchResult | None]:
    """A file's line, and its captions."""
    began = time.perf_counter()
    media = request.media_items()[0]
    options = {name: settings[name] for name in ("window", "overlap", "summary")}
    line: Line = {"file": file.name, "path": str(file.path), **_mark(file.path), "status": DONE, "error": None}

    def on_window(_: Window, __: int) -> None:
        if stop.is_set():
            raise _Stopped

    try:
        part = replace(
            request,
            media=replace(media, source=file.path),
            start=None,
            end=None,
            video=True,
            audio=True,
            num_frames=None,
        )
        result = watch(engine, part, on_window=on_window, **options)
    except (*STOPS_THE_JOB, _Stopped):
        raise
    except Exception as error:  # any error that a file causes concerns that file alone
        known = isinstance(error, VideoLlama2Error)
        failure = {"type": type(error).__name__, "message": error_text(error), "unexpected": not known}
        line |= {"status": FAILED, "error": failure, "captions": [], "took": round(time.perf_counter() - began, 3)}
        return line, None
    captions = [
        {"start": w.start, "end": w.end, "text": w.text, "error": w.error,
         "receipt": None if w.answer is None else asdict(w.answer.receipt)}
        for w in result.windows
    ]  # fmt: skip
    total = result.summary
    line |= {
        "status": PARTLY if any(w.answer is None for w in result.windows) else DONE,
        "seconds": result.seconds, "captions": captions, "summary": None if total is None else total.text,
        "took": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    plain: Line = json.loads(json.dumps(line))  # `on_file` gets the line as written
    return plain, result


class _Stopped(Exception):
    """The run is ending, so the rest of this file is not needed."""


def _mark(path: Path) -> dict[str, int]:
    """Size and time of modification: a file that was replaced is captioned again."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return {"size": -1, "mtime_ns": -1}


def _is_kept(line: Line | None, file: InputFile, *, retry: bool) -> bool:
    if line is None or any(line.get(key) != value for key, value in _mark(file.path).items()):
        return False
    return line["status"] == DONE or not retry


def _settings(engine: "Engine", request: Request, **more: Any) -> dict[str, Any]:
    """Everything that the captions depend on."""
    media = request.media_items()
    if len(media) != 1 or request.question is None:
        raise UsageError("expected one question about one Media, whose source is replaced by each file")
    chosen = request.protocol or engine.protocol
    about = {k: v for k, v in asdict(replace(media[0], source=None)).items() if k not in ("source", "times")}
    return {
        "version": __version__, "model": engine.name, "question": request.question, "system": request.system,
        "protocol": chosen if isinstance(chosen, str) else chosen.name, "strict": request.strict, **more, **about,
        "options": {k: v for k, v in asdict(request.options).items() if k != "schema" or v is not None},
    }  # fmt: skip


@contextlib.contextmanager
def _journal(out: Path, settings: Mapping[str, Any]) -> Iterator[tuple[JournalFile, dict[str, Line]]]:
    """captions.jsonl, open for appending, and its lines by file, once the manifest is known to match the settings."""
    with JournalFile(out / LINES, in_use="wait for it, or choose another folder with --out") as journal:
        known = {}
        for number, line in read_lines(out / LINES):
            if not isinstance(line.get("file"), str) or line.get("status") not in (DONE, PARTLY, FAILED):
                raise DataError(
                    f"{out / LINES}:{number}: expected the captions of a file; remove the line, or choose another --out"
                )
            known[line["file"]] = line
        requested = json.loads(json.dumps(settings))
        manifest = out / MANIFEST
        if known and manifest.is_file():
            try:
                before = json.loads(manifest.read_bytes())
            except (OSError, ValueError) as error:
                raise DataError(f"{manifest} can't be read ({error}); remove it, or choose another --out") from error
            changed = [f"{k}: {before.get(k)!r} → {v!r}" for k, v in requested.items() if before.get(k) != v]
            if changed:
                raise UsageError(
                    f"{out} has captions made with other settings ({'; '.join(changed)}); choose another folder with "
                    "--out, or use the same settings"
                )
        write_json(manifest, requested)
        yield journal, known
