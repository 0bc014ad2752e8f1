"""Folders of images: which files are frames, in which order, and at which times."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ..errors import EmptyMedia
from ..protocols import Protocol
from .images import SUFFIXES, ImageList
from .limits import Limits

_COMPANIONS = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", ".localized"})
_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)")


def open_folder(folder: Path, protocol: Protocol, limits: Limits) -> ImageList:
    """The images of a folder as frames, in the protocol's order and at its rate.

    Raises:
        EmptyMedia: no image file in it. MediaTooLarge: too many.
    """
    names: list[str] = []
    ignored = companions = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower() in _COMPANIONS or entry.name.startswith("._"):
                companions += 1
            elif entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES:
                names.append(entry.name)
            else:
                ignored += 1
            limits.check_frames(len(names) + ignored + companions, str(folder))
    if not names:
        raise EmptyMedia(
            f"{folder}: no images among {ignored + companions} entries; expected files like 0001.jpg or 0001.png."
        )
    notes: list[str] = []
    if ignored:
        notes.append(f"{_count(ignored, 'non-image entry', 'non-image entries')} in the folder ignored")
    if companions:
        notes.append(f"{_count(companions, 'file', 'files')} created by macOS or Windows ignored")
    text, natural = sorted(names), sorted(names, key=natural_order)
    if text != natural:
        notes.append(_order_note(text, natural, protocol))
    ordered = natural if protocol.folder_order == "natural" else text
    places = list(range(len(ordered)))
    if (numbered := _places(natural)) is not None:
        missing = numbered[-1] + 1 - len(numbered)
        kept = protocol.folder_order == "natural"
        outcome = "their places stay empty" if kept else "the other frames close the gaps"
        numbers = _count(missing, "number is", "numbers are")
        notes.append(f"{numbers} missing from the sequence, {_gaps(natural)}: {outcome}")
        places = numbered if kept else places
    fps = protocol.folder_fps
    notes.append(f"the folder has no frame rate: it is read at {fps:g} frames per second")
    return ImageList(
        [folder / n for n in ordered], [i / fps for i in places], limits, tuple(notes), as_shown=protocol.as_shown
    )


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key that sorts 2.png before 10.png: runs of digits count as numbers."""
    parts = re.split(r"([0-9]+)", name.casefold())  # text and numbers alternate, so that keys can be compared
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _order_note(text: Sequence[str], natural: Sequence[str], protocol: Protocol) -> str:
    if protocol.folder_order == "natural":
        return f"files are sorted by number: {_some(natural)}"
    return f"files are sorted by text, like the public implementation: {_some(text)}; the full protocol sorts by number"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" … {names[-1]}" if len(names) > 3 else "")


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The numbers of files that differ in their last number only, ascending; else None."""
    found = [_NUMBERED.fullmatch(Path(name).stem) for name in names]
    matches = [match for match in found if match is not None]
    if len(matches) < max(len(names), 3) or len({(m[1].casefold(), m[3].casefold()) for m in matches}) > 1:
        return None
    numbers = [int(match[2]) for match in matches]
    return numbers if all(a < b for a, b in pairwise(numbers)) else None


def _step(numbers: Sequence[int]) -> int:
    return Counter(b - a for a, b in pairwise(numbers)).most_common(1)[0][0]


def _places(names: Sequence[str]) -> list[int] | None:
    """The place of each file in a numbered sequence with holes; None for any other names.

    At least half of the steps must be alike: numbers that are, for example, milliseconds have no holes.
    """
    numbers = _numbers(names)
    if numbers is None:
        return None
    step = _step(numbers)
    steps = [b - a for a, b in pairwise(numbers)]
    if any(s % step for s in steps) or not 0 < sum(s != step for s in steps) <= len(steps) / 2:
        return None
    return [(n - numbers[0]) // step for n in numbers]


def _gaps(names: Sequence[str]) -> str:
    """Which numbers are missing: “4, 8 to 9”."""
    numbers = _numbers(names) or []
    step = _step(numbers)
    gaps = [(a + step, b - step) for a, b in pairwise(numbers) if b - a > step]
    shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in gaps[:4])
    return shown + (" …" if len(gaps) > 4 else "")


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
