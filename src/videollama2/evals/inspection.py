"""What loading a benchmark finds in a folder, without a model: for `eval list --data` and `eval self-test`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.annotation_files import DataFolder
from ..errors import VideoLlama2Error
from .benchmark import Benchmark
from .extract import LETTERS
from .items import Item, Loaded, Needed, Outcome, Setting, spread
from .manifest import coverage

_READ = 500  # items whose answers are read again in several forms
_FORMS = ("{answer}", "{answer}.", "The answer is {answer}.")
_CHOICE_FORMS = ("{letter}", "({letter}) {answer}", "{answer}", "{answer}.", "The answer is {letter}.")


def inspected(benchmark: Benchmark, folder: Path | None = None, setting: Setting = "strict") -> dict[str, Any]:
    """A benchmark as plain data; with a folder, also what loading it from there finds.

    The folder is loaded exactly as a run loads it. Keys then: folder; problem, why it can't be loaded, or None; files,
    the annotation files that were read; published, the official number of items, if one is known; coverage, as in a
    run's manifest.
    """
    plain = {name: getattr(benchmark, name) for name in ("name", "title", "kind", "metric", "source", "official")}
    if folder is None:
        return plain | {"needs": _needs(benchmark)}
    return plain | _described(benchmark, folder, _load(benchmark, folder, setting))


def _needs(benchmark: Benchmark, there: Mapping[str, bool | None] | None = None) -> list[dict[str, Any]]:
    """The files that a benchmark is read from, as plain data; `there`: whether each was found, by its path."""
    return [
        {"path": need.path, "what": need.what, "required": need.required, "there": (there or {}).get(need.path)}
        for need in benchmark.needs
    ]


def _load(benchmark: Benchmark, folder: Path, setting: Setting) -> Loaded | VideoLlama2Error:
    try:
        return benchmark.load(folder, setting)
    except VideoLlama2Error as error:
        return error


def _described(benchmark: Benchmark, folder: Path, loaded: Loaded | VideoLlama2Error) -> dict[str, Any]:
    if isinstance(loaded, VideoLlama2Error):
        there = {need.path: _by_name(folder, need) for need in benchmark.needs}
        return {"needs": _needs(benchmark, there), "folder": str(folder), "problem": str(loaded)}
    return {
        "needs": _needs(benchmark, _found(benchmark, folder, loaded)),
        "folder": str(folder),
        "problem": None,
        "files": [_relative(path, folder) for path in loaded.files],
        "published": benchmark.published,
        "coverage": coverage(loaded, loaded.items),
    }


def self_test(benchmark: Benchmark, folder: Path, setting: Setting = "strict", samples: int = 5) -> dict[str, Any]:
    """`inspected`, with sample items as they are asked, and correct answers as strict and paper read them.

    Key `samples`: items, spread evenly. Key `readings`: for each form of a correct answer, on how many items it counts
    as right under each setting; empty if answers are judged or withheld.
    """
    loaded = _load(benchmark, folder, setting)
    found = inspected(benchmark) | _described(benchmark, folder, loaded)
    if isinstance(loaded, VideoLlama2Error):
        return found
    askable = [item for item in loaded.items if item.malformed is None]
    return found | {
        "samples": [_sample(item, folder) for item in spread(askable, samples)],
        "readings": _readings(benchmark, [item for item in askable if item.truth]),
    }


def _sample(item: Item, folder: Path) -> dict[str, Any]:
    media = item.media
    return {
        "id": item.id,
        "origin": item.origin,
        "question": item.question,
        "truth": list(item.truth),
        "media": None if media is None else _relative(Path(str(media.source)), folder),
        "audio_media": None
        if media is None or media.audio_source is None
        else _relative(Path(str(media.audio_source)), folder),
        "modalities": [] if media is None else [name for name in ("video", "audio") if getattr(media, name)],
        "range_seconds": None if media is None else [media.start, media.end],
        "missing": item.missing,
        "reply_tokens": item.max_new_tokens,
    }


def _readings(benchmark: Benchmark, items: Sequence[Item]) -> list[dict[str, Any]]:
    """How many correct answers count as right, in several forms."""
    if benchmark.kind in ("open", "caption"):
        return []
    items = spread(items, _READ)
    return [
        {"form": form, "items": len(items)} | {s: _right(benchmark, items, form, s) for s in ("strict", "paper")}
        for form in (_CHOICE_FORMS if any(item.choices for item in items) else _FORMS)
        if items
    ]


def _right(benchmark: Benchmark, items: Iterable[Item], form: str, setting: Setting) -> int:
    replies = ((item, form.format(answer=_words(item), letter=item.truth[0])) for item in items)
    return sum(benchmark.read(item, reply, setting).outcome is Outcome.RIGHT for item, reply in replies)


def _words(item: Item) -> str:
    """The right answer: an option in its own words, or the reference."""
    answer = item.truth[0]
    number = LETTERS.find(answer) if len(answer) == 1 else -1
    return item.choices[number] if 0 <= number < len(item.choices) else answer


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _found(benchmark: Benchmark, folder: Path, loaded: Loaded) -> dict[str, bool | None]:
    """Whether loading used a file for each need; required annotations were read, perhaps under another name."""
    read = [_relative(path, folder) for path in loaded.files]
    opened = {str(item.media.source) for item in loaded.items if item.media is not None}
    used = [_relative(Path(path), folder) for path in opened]
    alone = sum(need.media for need in benchmark.needs) == 1

    def there(need: Needed) -> bool:
        if need.media:
            return bool(used) if alone else any(_fits(need, path) for path in used)
        return need.required or any(_fits(need, path) for path in read) or _by_name(folder, need)

    return {need.path: there(need) for need in benchmark.needs}


def _fits(need: Needed, path: str) -> bool:
    """Whether a path is the need's, or in its folder, here or deeper inside."""
    parts = [_glob(way).rstrip("/") for way in _ways(need)]
    return any(Path(path).match(part) or f"/{part}/" in f"/{path}" for part in parts)


def _by_name(folder: Path, need: Needed) -> bool:
    """Whether files of the need's names exist; of several ways, one is enough."""
    if not folder.is_dir():
        return False
    data = DataFolder(folder)
    return any(
        data.optional(_glob(way)) is not None or any((folder / _glob(way)).parent.glob(Path(_glob(way)).name))
        for way in _ways(need)
    )


def _ways(need: Needed) -> list[str]:
    return [name.strip(" /") for way in need.path.split(" or ") for name in way.split(" + ")]


def _glob(path: str) -> str:
    return re.sub(r"(<[^>]*>)+", "*", path)  # one star for several placeholders: "**" must be a whole path component


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
