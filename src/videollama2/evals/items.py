"""What every benchmark is made of: items that are asked, replies that are read, outcomes that are counted.

annotation files ── Benchmark.load ──► Items ── the loop asks ──► replies
reply ── Benchmark.read ──► Verdict ── written ──► Result ── Benchmark.metrics ──► the report
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from ..text.conversations import Media

Setting = Literal["strict", "paper"]
Kind = Literal["choice", "closed", "open", "caption"]
Ablation = Literal["none", "audio", "video", "text-only"]
PAIRED = ("pair", "pair_place")


class Outcome(StrEnum):
    """What became of an item. Only RIGHT scores; the four are never mixed."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"  # the model replied, and no rule of this setting finds an answer in it
    FAILED = "failed"  # there is no reply: the medium is missing or broken, or asking it raised an error


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: unique within the benchmark, and the same in every run; the official id where there is one.
        origin: file and record it was read from, for errors ("questions.json:17").
        question: exactly the text that is asked, options and suffix included.
        media: what it is about, with its time range; None: text alone.
        missing: why the medium can't be had ("videos/ab.mp4 is not there"); such an item is Failed, never dropped.
        truth: the right letter of a choice, the class of a closed set, or every reference of an open answer. Empty
            where the answers are withheld: the reply goes into a submission file and is not scored.
        choices: the options, without letters.
        categories: column → value, of which the report makes tables ({"task": "action_count"}); those of `PAIRED`
            join two items that are judged together, and make none.
        max_new_tokens: how long the reply may be.
        prepared: what `load` made of all items together for `read`: the classes of a closed set, document frequencies.
            It is shared by the items and never written.
    """

    id: str
    origin: str
    question: str
    media: Media | None
    truth: tuple[str, ...]
    missing: str | None = None
    choices: tuple[str, ...] = ()
    categories: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None
    max_new_tokens: int = 64
    prepared: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was read out of a reply. `read` is None exactly where the outcome is UNPARSABLE or FAILED.

    Attributes:
        rule: the name of the rule that found it, for the failed-items page ("letter in brackets").
        scores: further numbers of this item (judge-free measures: {"token_f1": 0.5}).
    """

    outcome: Outcome
    read: str | None
    rule: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of a run's results.jsonl: an item as it was asked, and what became of it."""

    benchmark: str
    id: str
    ablation: Ablation
    question: str
    truth: tuple[str, ...]
    choices: tuple[str, ...]
    categories: Mapping[str, str]
    media: str | None  # the medium's path, for thumbnails
    range_seconds: tuple[float | None, float | None]
    reply: str | None
    outcome: Outcome
    read: str | None
    rule: str
    scores: Mapping[str, float]
    error: str | None  # of a FAILED item: class and message
    losses: tuple[str, ...]  # what the receipt says was not used
    seconds: Mapping[str, float]  # decode, encode, generate

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return asdict(self)

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> "Result":
        """The inverse of `to_dict`, also after JSON made lists of tuples and texts of outcomes."""
        tuples = {name: tuple(data[name]) for name in ("truth", "choices", "range_seconds", "losses")}
        return cls(**{**data, **tuples, "outcome": Outcome(data["outcome"])})


def columns_of_categories(results: Sequence[Result]) -> list[str]:
    """The columns of which reports make tables, in order of appearance."""
    return [name for name in dict.fromkeys(n for r in results for n in r.categories) if name not in PAIRED]


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A file or folder that a benchmark is read from. `path` may be a glob, relative to its folder."""

    path: str
    what: str
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A benchmark's items, and what was noticed on the way (counts, duplicates, files without records)."""

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


class Benchmark(Protocol):
    """One benchmark: load, ask, read, score. Each is a small module in `benchmarks/`.

    Attributes:
        name: on the command line ("mvbench"). title: in reports ("MVBench"). source: paper or home, in words.
        kind: `choice`: a letter; `closed`: one of a known set; `open`: words, judged; `caption`: sentences, judged.
        metric: the name of the main figure among `metrics` ("accuracy").
        protocol, frames: what the paper's setting uses; None: the model's own.
    """

    name: str
    title: str
    source: str
    kind: Kind
    metric: str
    needs: tuple[Needed, ...]

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """Every item of the annotation files below `folder`.

        Raises:
            DataError: a file is missing, malformed (with its line or record), or has none of the expected fields.
        """

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """What the reply says, by the rules of the setting."""

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """The figures of a set of results (whole, a category, or a bootstrap sample), 0 to 1 unless the name says more.

        Under `strict` every item is in the denominator.
        """
