"""A run's results on disk as they come, so that a run that was killed goes on where it was.

    one process        results.jsonl                     timings.jsonl
    process k of n     results-k.jsonl                   timings-k.jsonl
    when all is done   results.jsonl, in item order, of whatever the processes wrote

Seconds stand in a file of their own: all others are the same, byte for byte, however often a run was stopped.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..json_lines import dumps_line
from ..storage import append, open_lines, read_lines, unwritable
from ..storage import write_whole as write_whole  # for who writes beside a run's results
from .items import Outcome, Result

RESULTS, TIMINGS = "results", "timings"
_TAKEN = "wait for it, name another folder with --out, or give each its --shard"

Key = tuple[str, str]  # ablation, item


class Journal:
    """Where one process writes. Results that are asked for together are written together."""

    def __init__(self, folder: Path, rank: int = 0, world: int = 1) -> None:
        """Open for writing at the end; a last line that was cut off when its writer was killed goes.

        Raises:
            StorageError: the folder can't be written.
            UsageError: another process writes there.
        """
        self._folder = folder
        part = "" if world == 1 else f"-{rank}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = [open_lines(folder / f"{kind}{part}.jsonl", _TAKEN) for kind in (TIMINGS, RESULTS)]
        except OSError as error:
            raise unwritable(folder, error) from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def write(self, results: Sequence[Result]) -> None:
        """Keep these.

        Raises:
            StorageError: they can't be written; the lines before them are whole.
        """
        timings, lines = self._files
        try:
            append(timings, [_timing(result) for result in results])
            append(lines, [_line(result) for result in results])
        except OSError as error:
            raise unwritable(self._folder, error) from error


def read_results(folder: Path) -> list[Result]:
    """The results of a run, with their seconds; of one that is not finished, what there is, process by process.

    Where an item stands there twice, because a failed one was asked again, the answer wins, else the later failure.

    Raises:
        UsageError: the folder holds no results.
        DataError: a line is no result.
    """
    files = _parts(folder, RESULTS)
    if not files:
        raise UsageError(f"{folder} holds no {RESULTS}.jsonl; give the folder of a run (OUT/BENCHMARK)")
    found: dict[Key, Result] = {}
    for path in files:
        for number, data in read_lines(path):
            try:
                result = Result.of_dict({**data, "seconds": {}})
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}:{number} is no result of a run ({error}); remove the line") from error
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
    """As `read_results`, by ablation and item; empty where there are none yet."""
    return {(r.ablation, r.id): r for r in read_results(folder)} if _parts(folder, RESULTS) else {}


def write_results(folder: Path, results: Iterable[Result]) -> None:
    """Replace results.jsonl and timings.jsonl, each all or nothing.

    Raises:
        StorageError: they can't be written; the old ones are whole.
    """
    listed = list(results)
    write_whole(folder / f"{TIMINGS}.jsonl", b"".join(map(_timing, listed)))
    write_whole(folder / f"{RESULTS}.jsonl", b"".join(map(_line, listed)))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON that people can read; raises as `write_whole`."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def _line(result: Result) -> bytes:
    data = result.to_dict()
    del data["seconds"]
    return (dumps_line(data) + "\n").encode()


def _timing(result: Result) -> bytes:
    told = {"id": result.id, "ablation": result.ablation, "seconds": dict(result.seconds)}
    return (dumps_line(told) + "\n").encode()


def _parts(folder: Path, kind: str) -> list[Path]:
    whole = folder / f"{kind}.jsonl"
    return [*([whole] if whole.is_file() else []), *sorted(folder.glob(f"{kind}-*.jsonl"))]
