"""Captions of many files. An interrupted run resumes in its folder (row_job.py).

OUT/captions.jsonl    one line per file, appended as files are done; once all are, in the order of the files
    manifest.json     what the captions depend on: a run with other settings is rejected
    a/clip.srt        the captions of a/clip.mp4 with their times
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..generation.request import Request
from ..jobs import EnginePool, LocalPool, Stopped
from ..subtitles import render_subtitles, write_subtitles
from ..weights.digest import weights_of
from .files import InputFile, same_stem
from .row_job import DONE, FAILED, MANIFEST, PARTLY, Line, RowRun, RowWork, receipt_fields, run_rows
from .windows import Window, subtitles_of, watch

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["DONE", "FAILED", "LINES", "MANIFEST", "PARTLY", "CaptionWork", "Line", "caption_files"]

LINES = "captions.jsonl"


def caption_files(
    engine: "Engine | EnginePool",
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
) -> RowRun:
    """Caption every file that has no captions in `out` yet.

    Args:
        engine: its opener should be that of WorkerPool, so that a bad file can't crash this process; or a pool.
        files: the files (`files.find_files`, `manifests.find_rows`).
        request: the question and its options, about one Media, whose source is replaced by each file.
        window, overlap, summary: as for `watch`.
        formats: subtitle files to write as well: ".srt", ".vtt", or none.
        threads: files in progress at once; while one is answered, others are decoded. A pool has its own.
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
    if len(request.media_items()) != 1 or request.question is None:
        raise UsageError("expected one question about one Media, whose source is replaced by each file.")
    pool = engine if isinstance(engine, EnginePool) else LocalPool(engine, threads, weights_of(engine))
    work = CaptionWork(request, {"window": window, "overlap": overlap, "summary": summary})
    write = functools.partial(_write_subtitles, out=out, formats=formats, alike=same_stem(files))
    return run_rows(pool, work, files, out, LINES, noun="captions", retry=retry, on_line=write, on_file=on_file)


class CaptionWork(RowWork):
    """Captions of one file."""

    def answered(self, engine: Any, request: Request, stopped: Callable[[], bool]) -> Line:
        """Length, captions with their receipts, and summary."""

        def on_window(_: Window, __: int) -> None:
            if stopped():
                raise Stopped

        part = replace(request, start=None, end=None, video=True, audio=True, num_frames=None)
        result = watch(engine, part, on_window=on_window, **self.settings)
        captions = [
            {"start": w.start, "end": w.end, "text": w.text, "error": w.error,
             "receipt": None if w.answer is None else receipt_fields(w.answer)}
            for w in result.windows
        ]  # fmt: skip
        total = result.summary
        return {
            "status": PARTLY if any(w.answer is None for w in result.windows) else DONE,
            "seconds": result.seconds, "captions": captions, "summary": None if total is None else total.text,
        }  # fmt: skip

    def failed(self, error: Exception) -> Line:
        """As of any row, without captions."""
        return {**super().failed(error), "captions": []}


def _write_subtitles(file: InputFile, line: Line, *, out: Path, formats: Sequence[str], alike: frozenset[str]) -> None:
    if not line.get("seconds"):  # of a still image, and of a file that failed
        return
    texts = [(c["start"], c["end"], c["text"]) for c in line["captions"] if c["error"] is None]
    for suffix in formats:
        write_subtitles(file.output_path(out, suffix, whole_name=file.name in alike), subtitles_of(texts))
