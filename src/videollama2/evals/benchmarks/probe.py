"""The probe: composed clips whose truth is known, asked about with options and openly. `evals/probe.py` makes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .. import prompts
from ..annotations import Row, first_existing, rows
from ..benchmark import Benchmark
from ..choices import Choices, letter_of_text, scored, share_right
from ..closed_sets import ClosedSet, closed_verdict
from ..equivalence import is_colour, is_number, read_against
from ..items import Item, Kind, Loaded, Needed, Outcome, Result, Setting, Verdict
from ..sources import Shelf, loaded

_FILE = "probe.jsonl"
_NEEDS = (
    Needed(path=_FILE, what="one question a line; `videollama2 eval probe` makes it"),
    Needed(path="<task><number>.mp4", what="the clips, made with it"),
)
_SOURCE = "made by this package from a seed"


class Probe(Choices):
    """Questions with up to four options, shuffled."""

    name, title = "probe", "Probe"
    source = _SOURCE
    protocol: str | None = None
    needs: tuple[Needed, ...] = _NEEDS

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; the options stand in the question."""
        return _loaded(folder, [replace(item, question=prompts.asked(item.question, item.choices), max_new_tokens=24,
                                        truth=(letter_of_text(row, row.text("letter"), item.choices),))
                                for row, item in _items(folder, "options")])  # fmt: skip


class ProbeOpen(Benchmark):
    """The same questions without options. The reply is read against all answers that such a question can have."""

    name, title = "probe-open", "Probe, open"
    source = _SOURCE
    kind: Kind = "closed"
    metric = "accuracy"
    needs: tuple[Needed, ...] = _NEEDS

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """One item per clip; its choices are the answers of its task."""
        sets: dict[tuple[str, ...], ClosedSet] = {}
        return _loaded(folder, [replace(item, prepared=sets.setdefault(item.choices, ClosedSet(item.choices)))
                                for _, item in _items(folder, "answers")])  # fmt: skip

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The number or colour that the reply says; else the one answer of the task that stands in it."""
        if not all(is_number(each) or is_colour(each) for each in item.choices):
            return closed_verdict(item, reply)
        reading = read_against(reply, item.truth)
        if reading.right is None:
            return Verdict(outcome=Outcome.UNPARSABLE, read=None, rule=reading.rule)
        outcome = Outcome.RIGHT if reading.right else Outcome.WRONG
        return Verdict(outcome=outcome, read=reading.read, rule=reading.rule)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy."""
        known = scored(results)
        return {"accuracy": share_right(known)} if known else {}


def _items(folder: Path, choices: str) -> Iterator[tuple[Row, Item]]:
    """Each record with its item, whose choices stand under the key."""
    shelf = Shelf(folder, ("",))
    for row in rows(first_existing(folder, _FILE)):
        name, answer, offered = row.text("clip"), row.text("answer"), row.texts(choices)
        if answer not in offered:
            raise row.error(f"its answer is {answer!r:.60}; expected one of its {choices}: {', '.join(offered):.200}")
        medium, missing = shelf.find(name)
        further = row.get("categories") or {}
        if not isinstance(further, dict):
            raise row.error(f"categories is {further!r:.60}; expected an object")
        yield (
            row,
            Item(
                id=name.removesuffix(".mp4"),
                origin=row.origin,
                question=row.text("question"),
                media=medium,
                missing=missing,
                truth=(answer,),
                choices=offered,
                categories={"task": row.text("task"), **{str(k): str(v) for k, v in further.items()}},
                max_new_tokens=32,
            ),
        )


def _loaded(folder: Path, items: Sequence[Item]) -> Loaded:
    """The items, and what the clips were made of."""
    path = first_existing(folder, _FILE)
    row = rows(path)[0]
    digest = str(row.get("source_sha256") or "")
    of = f" (sha256 {digest[:12]}…)" if digest else ""
    return loaded(items, path, f"pictures and sounds: {row.text('source')}{of}, seed {row.number('seed')}")


BENCHMARKS: tuple[Benchmark, ...] = (Probe(), ProbeOpen())
