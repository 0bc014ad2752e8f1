"""Records of built sets, read where they stand: any number of them in the memory of a few.

    SETS/NAME/records.jsonl + records.index + manifest.json  ──► BuiltRecords, a sequence that parses a line when asked

`sets/build.py` writes these files and has checked every line and every media file, so a run starts without a pass over
them.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .indexed import Indexed
from .record_files import Place, parsed
from .records import Kind, Record, of_mapping

RECORDS, MISSING, MANIFEST, INDEX = "records.jsonl", "missing.jsonl", "manifest.json", "records.index"
_NUMBER = np.dtype("<u8")  # of the index: where each record begins, and where the last ends


class BuiltRecords(Indexed[Record]):
    """The records of a built set.

    Args:
        path: of its records.jsonl.
        sound: whether a video's audio is used if its record doesn't say.

    Raises:
        DataError: the set is not finished, or was changed since it was built.
    """

    def __init__(self, path: Path, *, sound: bool = False) -> None:
        self.path, self._sound = path, sound
        self.manifest = read_set_manifest(path.parent)
        try:
            kept = self.manifest["kept"]
            self._index = np.memmap(path.with_name(INDEX), _NUMBER, "r") if kept else np.zeros(1, _NUMBER)
            size = path.stat().st_size
        except (OSError, ValueError) as error:  # ValueError: an index of no or half numbers
            why = getattr(error, "strerror", None) or error
            raise DataError(
                f"{path.parent}: {RECORDS} or {INDEX} can't be read ({why}); build the set again with "
                f"`videollama2 data build {self.manifest['set']}`."
            ) from error
        if size != self.manifest["file"]["bytes"] or len(self._index) != self.manifest["kept"] + 1:
            raise DataError(
                f"{path} was changed since it was built; build it again with `videollama2 data build "
                f"{self.manifest['set']}`, or copy it elsewhere to train on it as it is."
            )

    @property
    def kinds(self) -> dict[Kind, int]:
        """Records of each kind."""
        return dict(self.manifest["kinds"])

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return str(self.manifest["file"]["sha256"])

    def __len__(self) -> int:
        return len(self._index) - 1

    def at(self, place: int) -> Record:
        """The record on line place + 1."""
        start, end = int(self._index[place]), int(self._index[place + 1])
        with self.path.open("rb") as file:
            file.seek(start)
            line = parsed(file.read(end - start))
        number = place + 1
        where = Place(str(number), f"{self.path.parent.name}/{self.path.name}:{number}", f"line {number}")
        if not isinstance(line, dict):
            raise DataError(f"{self.path}, line {number}: {line}; build the set again.")
        return of_mapping(line, where, str(self.path.parent), self._sound, self.path)


class JoinedRecords(Indexed[Record]):
    """Several sequences of records as one."""

    def __init__(self, parts: Sequence[Sequence[Record]]) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def at(self, place: int) -> Record:
        """The record at a place of all."""
        part = bisect_right(self.ends, place)
        return self.parts[part][place - (self.ends[part - 1] if part else 0)]

    def span(self, part: int) -> range:
        """The places of a part's records."""
        return range(self.ends[part - 1] if part else 0, self.ends[part])


def is_built(path: Path) -> bool:
    """Whether a records file belongs to a built set."""
    return path.name == RECORDS and path.with_name(MANIFEST).is_file()


def read_set_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a built set.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / MANIFEST
    try:
        held = json.loads(path.read_bytes())
        needed = {"set": str, "kind": str, "kinds": dict, "kept": int, "missing_media": int, "file": dict}
        wrong = [key for key, kind in needed.items() if not isinstance(held[key], kind)]
    except OSError as error:
        raise DataError(
            f"{folder} holds no finished set ({MANIFEST} not found); run `videollama2 data build`."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); build the set again.") from error
    if wrong:
        raise DataError(f"{path} is damaged ({', '.join(wrong)}); build the set again.")
    return dict(held)
