"""What benchmarks with lettered options, and those with yes and no, share: reading, scoring, checking records."""

import re
from collections.abc import Iterator, Mapping, Sequence

from . import extract
from .annotations import Row
from .benchmark import Benchmark
from .extract import LETTERS, Read
from .items import Item, Kind, Outcome, Result, Setting, Verdict

_LETTERED = re.compile(r"\(?([A-Z])[.):]\s*(.*)", re.DOTALL)


class Choices(Benchmark):
    """Lettered options, of which one is right. `strict` reads what the reply says, `paper` what its scorer does."""

    kind: Kind = "choice"
    metric = "accuracy"
    protocol: str | None = "paper"
    frames: int | None = None

    def as_published(self, reply: str, choices: Sequence[str]) -> Read:
        """The letter that the published scorer reads. Without one of its own, as strictly."""
        return extract.strict(reply, choices)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The letter read, and the rule. Where the truth is withheld it is WRONG, and counted nowhere."""
        read = self.as_published if setting == "paper" else extract.strict
        return _verdict(item, read(reply, item.choices))

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy; nothing where no answers are public."""
        known = scored(results)
        return {"accuracy": share_right(known)} if known else {}


class YesNo(Benchmark):
    """Questions that are answered by yes or no; truths are in lower case."""

    kind: Kind = "closed"
    metric = "accuracy"
    protocol: str | None = "paper"
    frames: int | None = None

    def as_published(self, reply: str) -> Read:
        """What the published scorer reads. Without one of its own, as strictly."""
        return extract.yes_no(reply)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """ "yes" or "no", and the rule."""
        return _verdict(item, (self.as_published if setting == "paper" else extract.yes_no)(reply))


def _verdict(item: Item, found: Read) -> Verdict:
    read, rule = found
    if read is None:
        return Verdict(outcome=Outcome.UNPARSABLE, read=None, rule=rule)
    return Verdict(outcome=Outcome.RIGHT if read in item.truth else Outcome.WRONG, read=read, rule=rule)


def scored(results: Sequence[Result]) -> list[Result]:
    """The results whose answers are public."""
    return [result for result in results if result.truth]


def share_right(results: Sequence[Result]) -> float:
    """How many of the results are right, of all: 0 to 1."""
    return sum(result.outcome is Outcome.RIGHT for result in results) / len(results)


def also_of_answered(results: Sequence[Result]) -> dict[str, float]:
    """accuracy, and accuracy_of_answered: some published scorers leave out what has no reply."""
    known = scored(results)
    asked = [result for result in known if result.outcome is not Outcome.FAILED]
    parts = {"accuracy": known, "accuracy_of_answered": asked}
    return {name: share_right(part) for name, part in parts.items() if part}


def indices_to_submit(results: Sequence[Result]) -> Iterator[tuple[Result, int]]:
    """Of each item of the undisturbed column whose reply was read: the result, and the index of the option."""
    for result in results:
        if result.ablation == "none" and result.read is not None and result.read in LETTERS[: len(result.choices)]:
            yield result, LETTERS.index(result.read)


def unlettered(row: Row, options: Sequence[str]) -> tuple[str, ...]:
    """The options without the letters in front ("A. Exit.") that they carry in some files.

    Raises:
        DataError: they carry letters in another order, or there are too few or too many of them.
    """
    if not 2 <= len(options) <= len(LETTERS):
        raise row.error(f"it has {len(options)} options; expected 2 to {len(LETTERS)}")
    found = [_LETTERED.fullmatch(option.strip()) for option in options]
    carried = [match[1] for match in found if match]
    if len(carried) < len(options):
        return tuple(options)
    if carried != list(LETTERS[: len(options)]):
        raise row.error(f"its options carry the letters {', '.join(carried)}; expected A, B, C, … in this order")
    return tuple(match[2] for match in found if match)


def letter_of_index(row: Row, index: int, choices: Sequence[str]) -> str:
    """The letter of the option with this index, from 0.

    Raises:
        DataError: there is no such option.
    """
    if not 0 <= index < len(choices):
        raise row.error(f"its answer is {index}; expected 0 to {len(choices) - 1}, as it has {len(choices)} options")
    return LETTERS[index]


def letter_of_text(row: Row, text: str, choices: Sequence[str]) -> str:
    """The letter that a file gives as the answer ("B", "(b)").

    Raises:
        DataError: it is no letter of an option.
    """
    letter = text.strip().strip("().").upper()
    if len(letter) != 1 or letter not in LETTERS[: len(choices)]:
        raise row.error(f"its answer is {text!r:.60}; expected a letter, A to {LETTERS[len(choices) - 1]}")
    return letter


def columns(row: Row, **keys: str) -> dict[str, str]:
    """Categories: the text under each key, of those that have any."""
    return {name: row.text(key) for name, key in keys.items() if row.has(key)}
