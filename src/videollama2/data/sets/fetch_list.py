"""`videollama2 data fetch-list`: the missing media of a built set as the input of a downloader. Nothing is downloaded.

    video2dataset  .json [{url, clips: [[start, end], …], name}]     --input_format json
    img2dataset    .csv {url, name}                     --url_col url --save_additional_columns '["name"]'
    yt-dlp         .txt, one address per line          --batch-file LIST -o '%(id)s.%(ext)s'
    names          .txt, one name per line              for media that are sent on request, without addresses

`data build` finds what these tools store: by the name of the file, or by `url` and `name` in the .json beside it.

Sources: iejMac/video2dataset, input_sharder.py (every entry has the same columns) and
subsamplers/clipping_subsampler.py (the clips of an entry are sorted and don't overlap, in seconds): clips that
overlap are entries of their own, and if any video is wanted whole, all are. rom1504/img2dataset, reader.py. yt-dlp,
--batch-file: one address per line.
"""

import csv
import json
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TextIO

from ...errors import DataError, StorageError, UsageError
from ..built import MISSING

Tool = Literal["video2dataset", "img2dataset", "yt-dlp", "names"]
TOOLS: tuple[Tool, ...] = ("video2dataset", "img2dataset", "yt-dlp", "names")


def write_fetch_list(built: Path, tool: Tool, output: Path) -> tuple[int, int]:
    """Write the list; returns the number of its entries, and of missing records without an address.

    Args:
        built: folder of a built set.
        tool: the form of the list.
        output: the file to write.

    Raises:
        UsageError: the folder holds no built set, or the tool is unknown.
        StorageError: the file can't be written.
    """
    if tool not in TOOLS:
        raise UsageError(f"unknown downloader {tool!r}; expected one of {', '.join(TOOLS)}.")
    if not (built / MISSING).is_file():
        raise UsageError(f"{built} holds no built set ({MISSING} not found); build it with `videollama2 data build`.")
    part = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="") as file, closing(_database(part)) as wanted:
            without = _collect(built / MISSING, wanted, addresses=tool != "names")
            written = _write(file, tool, wanted)
        part.replace(output)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{output} can't be written ({error}); give another --output.") from error
    finally:
        part.with_suffix(".sqlite").unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return written, without


def _database(part: Path) -> sqlite3.Connection:
    """What is wanted, each once, on disk: sets of millions of clips name a video many times."""
    path = part.with_suffix(".sqlite")
    path.unlink(missing_ok=True)
    wanted = sqlite3.connect(path, isolation_level=None)
    wanted.execute("PRAGMA journal_mode = OFF")
    wanted.execute("PRAGMA synchronous = OFF")
    # a start below 0: the whole file
    wanted.execute(
        "CREATE TABLE wanted (place TEXT, start REAL, stop REAL, name TEXT, PRIMARY KEY (place, start, stop))"
    )
    return wanted


def _collect(missing: Path, wanted: sqlite3.Connection, *, addresses: bool) -> int:
    """Fill the table with addresses, or with names; returns how many records have no address."""
    without = 0
    wanted.execute("BEGIN")
    for line in _lines(missing):
        name, url = line["names"][0], line.get("url")
        if addresses and url is None:
            without += 1
            continue
        clip = (line.get("start", -1.0), line.get("end", -1.0)) if addresses else (-1.0, -1.0)
        wanted.execute("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?, ?)", (url if addresses else name, *clip, name))
    wanted.execute("COMMIT")
    return without


def _write(file: TextIO, tool: Tool, wanted: sqlite3.Connection) -> int:
    """Write the table, one entry per file to fetch; returns their number."""
    table = csv.writer(file, lineterminator="\n")
    cut = wanted.execute("SELECT 1 FROM wanted WHERE start < 0 OR stop <= start LIMIT 1").fetchone() is None
    rows = wanted.execute("SELECT place, start, stop, name FROM wanted ORDER BY place, start")
    if tool == "img2dataset":
        table.writerow(["url", "name"])
    written = 0
    for place, clips in groupby(rows, key=itemgetter(0)):
        first = next(clips)
        if tool == "video2dataset":
            for lane in _lanes([first, *clips]) if cut else [[first]]:
                spans = {"clips": [[start, stop] for _, start, stop, _ in lane]} if cut else {}
                entry = {"url": place, **spans, "name": lane[0][3]}
                file.write((",\n" if written else "[\n") + json.dumps(entry))
                written += 1
            continue
        if tool == "img2dataset":
            table.writerow([place, first[3]])
        else:
            file.write(f"{place}\n")
        written += 1
    if tool == "video2dataset":
        file.write("\n]\n" if written else "[]\n")
    return written


def _lanes(clips: Sequence[tuple[str, float, float, str]]) -> list[list[tuple[str, float, float, str]]]:
    """Clips, sorted by their start, as lists in which none overlaps the one before it."""
    lanes: list[list[tuple[str, float, float, str]]] = []
    for clip in clips:
        lane = next((lane for lane in lanes if lane[-1][2] <= clip[1]), None)
        if lane is None:
            lanes.append(lane := [])
        lane.append(clip)
    return lanes


def command(tool: Tool, path: Path) -> str:
    """How the downloader is called with a list; "" for names."""
    with path.open(encoding="utf-8") as file:
        cut = any('"clips": ' in line for line in islice(file, 2))
    name = shlex.quote(str(path))
    columns = """--save_additional_columns '["name"]'"""
    return {
        "video2dataset": f"video2dataset --url_list {name} --input_format json{' --clip_col clips' * cut} {columns}",
        "img2dataset": f"img2dataset --url_list {name} --input_format csv --url_col url {columns}",
        "yt-dlp": f"yt-dlp --batch-file {name} -o '%(id)s.%(ext)s'",
        "names": "",
    }[tool]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                held = json.loads(line)
                if not isinstance(held["names"][0], str):
                    raise TypeError("names")
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise DataError(f"{path}:{number}: damaged ({error}); build the set again.") from error
            yield held
