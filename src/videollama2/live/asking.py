"""One answer about each of many files. An interrupted run resumes in its folder (row_job.py).

OUT/answers.jsonl     one line per file, appended as files are done; once all are, in the order of the files
    manifest.json     what the answers depend on: a run with other settings is rejected
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..generation.request import Request
from ..jobs import EnginePool, LocalPool
from ..weights.digest import weights_of
from .files import InputFile
from .row_job import Line, RowRun, RowWork, answer_fields, run_rows

if TYPE_CHECKING:
    from ..engine import Engine

LINES = "answers.jsonl"


def ask_files(
    engine: "Engine | EnginePool",
    files: Sequence[InputFile],
    out: Path,
    request: Request,
    *,
    threads: int = 2,
    retry: bool = False,
    on_file: Callable[[Line, int, int], None] | None = None,
) -> RowRun:
    """Ask about every file that has no answer in `out` yet: its own question, or the request's.

    Args and errors are those of `captioning.caption_files`; a file without any question fails.
    """
    pool = engine if isinstance(engine, EnginePool) else LocalPool(engine, threads, weights_of(engine))
    work = AskWork(request)
    return run_rows(pool, work, files, out, LINES, noun="answers", retry=retry, on_file=on_file)


class AskWork(RowWork):
    """The answer about one file."""

    def answered(self, engine: Any, request: Request, stopped: Callable[[], bool]) -> Line:
        """Its text, its receipt, and why it ended."""
        if not request.question:
            raise DataError("no question: expected one in the row, or one for all rows as the command's last argument.")
        return answer_fields(engine.answer(request))

    def failed(self, error: Exception) -> Line:
        """As of any row, without a text."""
        return {**super().failed(error), "text": None}
