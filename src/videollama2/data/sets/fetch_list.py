"""`videollama2 data fetch-list`: the missing media of a built set as the input of a downloader. Nothing is downloaded.

   video2dataset .csv {url, start, end, clips, name} --url_col url --clip_col clips --save_additional_columns '["name"]'
    img2dataset    .csv {url, name}                     --url_col url --save_additional_columns '["name"]'
    yt-dlp         .txt, one address per line          --batch-file LIST -o '%(id)s.%(ext)s'
    names          .txt, one name per line              for media that are sent on request, without addresses

`data build` finds what these tools store: by the name of the file, or by `url` and `name` in the .json beside it.
"""

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
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
        with part.open("w", encoding="utf-8", newline="") as file, closing(_seen(part)) as seen:
            counts = _write(file, tool, built / MISSING, seen)
        part.replace(output)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{output} can't be written ({error}); give another --output.") from error
    finally:
        part.with_suffix(".sqlite").unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return counts


def _seen(part: Path) -> sqlite3.Connection:
    """Entries that were written, on disk: sets of millions of clips name a video many times."""
    path = part.with_suffix(".sqlite")
    path.unlink(missing_ok=True)
    seen = sqlite3.connect(path, isolation_level=None)
    seen.execute("PRAGMA journal_mode = OFF")
    seen.execute("PRAGMA synchronous = OFF")
    seen.execute("CREATE TABLE seen (entry TEXT PRIMARY KEY) WITHOUT ROWID")
    seen.execute("BEGIN")
    return seen


def _write(file: TextIO, tool: Tool, missing: Path, seen: sqlite3.Connection) -> tuple[int, int]:
    written = without = 0
    table = csv.writer(file, lineterminator="\n")
    if tool == "video2dataset":
        table.writerow(["url", "start", "end", "clips", "name"])
    elif tool == "img2dataset":
        table.writerow(["url", "name"])
    for line in _lines(missing):
        name, url = line["names"][0], line.get("url")
        if tool != "names" and url is None:
            without += 1
            continue
        start, end = line.get("start"), line.get("end")
        clip = "" if start is None else json.dumps([[start, end]])
        entry = {"names": name, "yt-dlp": url, "img2dataset": url}.get(tool) or f"{url} {clip}"
        if not seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (entry,)).rowcount:
            continue
        written += 1
        if tool == "video2dataset":
            table.writerow([url, "" if start is None else start, "" if end is None else end, clip, name])
        elif tool == "img2dataset":
            table.writerow([url, name])
        else:
            file.write(f"{entry}\n")
    return written, without


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
