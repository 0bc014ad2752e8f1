"""The probe: composed clips with known truth, asked about with options and openly. `evals/probe.py` makes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.annotations import Row, rows
from ..benchmark import verdict
from ..choices import ChoiceBenchmark, letter_of_text, texts_with
from ..closed_sets import ClassBenchmark, ClosedSet, closed_verdict
from ..equivalence import is_colour, is_number, read_against
from ..items import Item, Loaded, Needed, Setting, Verdict
from ..sources import Items

_FILE = "probe.jsonl"


class Probe(ChoiceBenchmark):
    """Questions with up to four options, shuffled."""

    name, title, source = "probe", "Probe", "made by this package from a seed"
    needs = (
        Needed(path=_FILE, what="one question a line; `videollama2 eval probe` makes it"),
        Needed(path="<task><number>.mp4", what="the clips, made with it", media=True),
    )
    reply_tokens = paper_reply_tokens = 24

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip, whose question lists its options."""
        items = Items(folder, setting)
        media = items.media("")
        for row in rows(items.file(_FILE)):
            with items.record(row):
                choices = texts_with(row, "options", row.text("answer"))
                letter = letter_of_text(row, row.text("letter"), choices)
                found = media.find(row.text("clip"))
                items.add(self.choice(setting, row, found, choices=choices, letter=letter, **_common(row)))
        return _loaded(items)


class ProbeOpen(ClassBenchmark):
    """The same questions without options. The reply is read against all possible answers of the task."""

    name, title, source, needs = "probe-open", "Probe, open", Probe.source, Probe.needs
    reply_tokens = paper_reply_tokens = 32

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; its choices are the answers of its task."""
        items = Items(folder, setting)
        media = items.media("")
        sets: dict[tuple[str, ...], ClosedSet] = {}
        for row in rows(items.file(_FILE)):
            with items.record(row):
                choices = texts_with(row, "answers", row.text("answer"))
                classes = sets.setdefault(choices, ClosedSet(choices))
                items.add(
                    self.item(
                        setting, row.origin, media.find(row.text("clip")), truth=(row.text("answer"),),
                        choices=choices, prepared=classes, **_common(row),
                    )
                )  # fmt: skip
        return _loaded(items)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The number or colour in the reply; else the task's one answer that occurs in it."""
        if not all(is_number(each) or is_colour(each) for each in item.choices):
            return closed_verdict(item, reply)
        reading = read_against(reply, item.truth)
        return verdict(reading.read, reading.rule, right=bool(reading.right))


def _common(row: Row) -> dict[str, Any]:
    """The id, question and categories of a record."""
    further: Mapping[str, Any] = row.get("categories") or {}
    if not isinstance(further, dict):
        raise row.error(f"categories: expected an object, got {further!r:.60}.")
    categories = {"task": row.text("task"), **{str(k): str(v) for k, v in further.items()}}
    return {"id": row.text("clip").removesuffix(".mp4"), "question": row.text("question"), "categories": categories}


def _loaded(items: Items) -> Loaded:
    """The items, and what the clips were made of."""
    row = next(row for row in rows(items.files[0]) if row.problem is None)
    digest = str(row.get("source_sha256") or "")
    of = f" (sha256 {digest[:12]}…)" if digest else ""
    items.notes.append(f"pictures and sounds: {row.text('source')}{of}, seed {row.number('seed')}")
    return items.loaded()


BENCHMARKS = (Probe(), ProbeOpen())
