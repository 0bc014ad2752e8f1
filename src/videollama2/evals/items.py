"""The data of an evaluation: items to ask, verdicts on replies, results on disk.

annotation files ── Benchmark.load ──► Items ── the loop asks ──► replies
reply ── Benchmark.read ──► Verdict ── written ──► Result ── Benchmark.metrics ──► the report
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..text.media_parts import Media

Setting = Literal["strict", "paper"]
AnswerKind = Literal["choice", "closed", "open", "caption"]
Ablation = Literal["none", "audio", "video", "text-only"]
ABLATIONS: tuple[Ablation, ...] = ("none", "audio", "video", "text-only")
"""In the order of a report's columns: `audio` and `video` name what is removed, `text-only` removes both."""
PAIRED = ("pair", "pair_place")
FoundMedia = tuple[Media | None, str | None]
"""A media item, or None and why it is missing."""
T = TypeVar("T")


class Outcome(StrEnum):
    """The outcome of an item. Only RIGHT scores; the five are never mixed."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"  # the model replied, but no rule of this setting finds an answer in the reply
    FAILED = "failed"  # no reply: the media file is missing or broken, or answering raised an error
    MALFORMED = "malformed"  # not asked and not scored: the annotation record has no question that can be asked


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: unique within the benchmark, and the same in every run; the official id if there is one.
        origin: file and record it was read from, for errors ("questions.json:17").
        question: the exact text of the question, with options and suffix.
        media: the clip, with its time range, and its audio if that is a separate file; None: text alone.
        missing: why a media file can't be opened ("videos/ab.mp4 not found"); the item is Failed, never dropped.
        malformed: why the record can't be asked; the item is Malformed, never dropped.
        truth: the right letter of a choice, the class of a closed set, or every reference of an open answer. Empty
            if the answer is withheld: the reply goes into a submission file and is not scored.
        choices: the options, without letters.
        categories: column → value, for the report's tables ({"task": "action_count"}); those of `PAIRED` link two
            items that are judged together, and get no table.
        max_new_tokens: longest reply.
        prepared: shared data that `load` computed over all items for `read`: the classes of a closed set, document
            frequencies. Never written.
    """

    id: str
    origin: str
    question: str
    media: Media | None
    truth: tuple[str, ...]
    missing: str | None = None
    malformed: str | None = None
    choices: tuple[str, ...] = ()
    categories: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None
    max_new_tokens: int = 64
    prepared: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer read from a reply. `read` is None exactly if the outcome is UNPARSABLE or FAILED.

    Attributes:
        rule: the name of the rule that found it, for the report's items ("letter in brackets").
        scores: further numbers of this item (judge-free measures: {"token_f1": 0.5}).
    """

    outcome: Outcome
    read: str | None
    rule: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of a run's results.jsonl: an item as it was asked, with its outcome."""

    benchmark: str
    id: str
    ablation: Ablation
    question: str
    truth: tuple[str, ...]
    choices: tuple[str, ...]
    categories: Mapping[str, str]
    media: str | None  # path
    range_seconds: tuple[float | None, float | None]
    reply: str | None
    outcome: Outcome
    read: str | None
    rule: str
    scores: Mapping[str, float]
    error: str | None  # of a FAILED item: class and message; of a MALFORMED one: what is wrong with its record
    losses: tuple[str, ...]  # from the receipt: not used, padded or odd
    seconds: Mapping[str, float]  # decode, encode, generate
    audio_media: str | None = None  # path of the audio, if that is a separate file

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return asdict(self)

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> "Result":
        """The inverse of `to_dict`, also after a round trip through JSON."""
        tuples = {name: tuple(data[name]) for name in ("truth", "choices", "range_seconds", "losses")}
        return cls(**{**data, **tuples, "outcome": Outcome(data["outcome"])})


def columns_of_categories(results: Sequence[Result]) -> list[str]:
    """The category columns that reports have tables of, in order of appearance."""
    return [name for name in dict.fromkeys(n for r in results for n in r.categories) if name not in PAIRED]


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A file or folder that a benchmark is read from, as its authors publish it.

    Attributes:
        path: relative to the benchmark's folder; may have globs and <placeholders>.
        what: it holds.
        media: whether it is media, not annotations.
    """

    path: str
    what: str
    required: bool = True
    media: bool = False


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A benchmark's items, and notes on them for the manifest.

    Attributes:
        notes: counts, duplicates, missing files.
        files: the annotation files that were read.
    """

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def spread(values: Sequence[T], limit: int | None) -> tuple[T, ...]:
    """`limit` of the values, spread evenly; None: all."""
    if limit is None or limit >= len(values):
        return tuple(values)
    return tuple(values[i * len(values) // limit] for i in range(limit))
