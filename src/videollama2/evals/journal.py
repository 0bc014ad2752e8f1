"""A run's results on disk as they come, so that a killed run resumes.

    one process        results.jsonl                     timings.jsonl
    process k of n     results-k.jsonl                   timings-k.jsonl
    when all is done   results.jsonl, in item order, of whatever the processes wrote

Seconds are in a separate file: every other file is the same, byte for byte, however often a run was interrupted.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import DataError, UsageError
from ..jobs import JournalFile, read_lines, write_lines
from .items import Outcome, Result

RESULTS, TIMINGS = "results", "timings"
_IN_USE = "wait for it, name another folder with --out, or give each process its --shard"

Key = tuple[str, str]  # ablation, item


class ResultJournal:
    """Where one process writes. The results of one batch are written together."""

    def __init__(self, folder: Path, rank: int = 0, world: int = 1) -> None:
        """Open for appending; a torn last line is repaired.

        Raises:
            StorageError: the folder can't be written.
            UsageError: another process is writing there.
        """
        part = "" if world == 1 else f"-{rank}"
        with ExitStack() as opened:
            self._timings, self._results = (
                opened.enter_context(JournalFile(folder / f"{kind}{part}.jsonl", in_use=_IN_USE))
                for kind in (TIMINGS, RESULTS)
            )
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def write(self, results: Sequence[Result]) -> None:
        """Append results.

        Raises:
            StorageError: they can't be written; the lines before them are intact.
        """
        self._timings.append(map(_timing, results))
        self._results.append(map(_without_seconds, results))


def read_results(folder: Path) -> list[Result]:
    """The results of a run, with their seconds; of an unfinished one, those written so far, process by process.

    Where an item has several lines, because a failed one was retried, the answer wins, else the later failure.

    Raises:
        UsageError: the folder holds no results.
        DataError: a line is not a result.
    """
    files = _parts(folder, RESULTS)
    if not files:
        raise UsageError(f"{folder}: no {RESULTS}.jsonl; expected the folder of a run (OUT/BENCHMARK).")
    found: dict[Key, Result] = {}
    for path in files:
        for number, data in read_lines(path):
            try:
                result = Result.of_dict({**data, "seconds": {}})
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}:{number}: not a result of a run ({error}); remove the line.") from error
            key = (result.ablation, result.id)
            if key not in found or result.outcome != Outcome.FAILED or found[key].outcome == Outcome.FAILED:
                found[key] = result
    for path in _parts(folder, TIMINGS):
        for _, data in read_lines(path):
            seconds = data.pop("seconds", None)
            key = (data.get("ablation", ""), data.get("id", ""))
            if key in found and isinstance(seconds, dict):
                found[key].seconds.update(seconds)  # type: ignore[attr-defined]  # made above, as a dict
    return list(found.values())


def known_results(folder: Path) -> dict[Key, Result]:
    """As `read_results`, by ablation and item; empty if there are no results yet."""
    return {(r.ablation, r.id): r for r in read_results(folder)} if _parts(folder, RESULTS) else {}


def write_results(folder: Path, results: Iterable[Result]) -> None:
    """Replace results.jsonl and timings.jsonl, each as a whole.

    Raises:
        StorageError: they can't be written; the old ones are intact.
    """
    listed = list(results)
    write_lines(folder / f"{TIMINGS}.jsonl", map(_timing, listed))
    write_lines(folder / f"{RESULTS}.jsonl", map(_without_seconds, listed))


def _without_seconds(result: Result) -> dict[str, Any]:
    data = result.to_dict()
    del data["seconds"]
    return data


def _timing(result: Result) -> dict[str, Any]:
    return {"id": result.id, "ablation": result.ablation, "seconds": dict(result.seconds)}


def _parts(folder: Path, kind: str) -> list[Path]:
    whole = folder / f"{kind}.jsonl"
    return [*([whole] if whole.is_file() else []), *sorted(folder.glob(f"{kind}-*.jsonl"))]
