"""Benchmarks whose answers are classes of a known set: reading a reply strictly, and as the original does.

`ClassBenchmark` asks in free words; `OptionBenchmark` lists its classes in the question, behind letters.
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from ..errors import DataError
from . import extract
from .benchmark import Benchmark, accuracy, mean, scored, verdict
from .choices import LETTER, bracketed
from .equivalence import canonical, denied, polarity, same_answer
from .items import AnswerKind, FoundMedia, Item, Loaded, Outcome, Result, Setting, Verdict
from .measures import answer_words, words


class ClassBenchmark(Benchmark):
    """Questions answered with one class. The `prepared` of each item is the ClosedSet of them all."""

    kind: AnswerKind = "closed"
    reply_tokens = 32

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The one class that the reply names, "2" for "two" (`strict`), or equality in capitals (`paper`)."""
        return equal_verdict(item, reply) if setting == "paper" else closed_verdict(item, reply)


class OptionBenchmark(Benchmark):
    """Sounds of a few classes, which the question lists.

    Attributes:
        classes: as the options spell them.
        question: its first line.
    """

    kind: AnswerKind = "closed"
    classes: ClassVar[tuple[str, ...]]
    question: ClassVar[str]

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The chosen option (`strict`), or whether the reply contains the class anywhere (`paper`)."""
        return contained_verdict(item, reply) if setting == "paper" else lettered_verdict(item, reply)

    def option_item(
        self, setting: Setting, origin: str, found: FoundMedia, *, id: str, label: str | None,
        categories: Mapping[str, str] | None = None,
    ) -> Item:  # fmt: skip
        """An Item that asks for the class. `label`: the right one, as returned by `class_of`; None: withheld."""
        return self.item(
            setting, origin, found, id=id, question=f"{self.question}\nOptions:\n{bracketed(self.classes)}\n.{LETTER}",
            truth=() if label is None else (label,), choices=self.classes, categories=categories,
        )  # fmt: skip

    def class_of(self, origin: str, label: str) -> str:
        """The class that an annotation names; case, blanks, "_" and "-" don't matter, and "/" means "or".

        Raises:
            DataError: it names none.
        """
        name = next((name for name in self.classes if _spelling(name) == _spelling(label)), None)
        if name is None:
            raise DataError(f"{origin}: expected one of {', '.join(self.classes)}, got {label!r:.60}.")
        return name


@dataclass(frozen=True)
class ClosedSet:
    """The classes that a reply is read against. No two classes have the same words.

    Attributes:
        classes: as the annotation spells them.
    """

    classes: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> "ClosedSet":
        """The set of these names, each once, in order of appearance."""
        return cls(tuple(dict.fromkeys(names)))

    @cached_property
    def _by_meaning(self) -> Mapping[Hashable, str]:
        return {canonical(name): name for name in reversed(self.classes)}

    @cached_property
    def _by_words(self) -> Mapping[tuple[str, ...], str]:
        return {answer_words(name): name for name in reversed(self.classes)}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_words), default=0)

    def read(self, reply: str) -> tuple[str | None, str]:
        """The class that a reply names, and the rule that found it; None if it names no class, or several.

        In order: the reply is a class (also "2" for "two", "grey" for "gray"); if yes and no are classes: it begins or
        ends with one of them; exactly one class occurs in it as whole words, not denied. Of classes that overlap in
        the reply the longer one counts ("dog barking" before "dog").
        """
        found = answer_words(reply)
        if not words(reply):
            return None, "no words"
        meant = self._by_meaning.get(canonical(reply))
        if meant is not None:
            return meant, "class"
        said = polarity(reply)
        if said and said in self._by_meaning:
            return self._by_meaning[said], "yes or no"
        named = self._named(found)
        if len(named) == 1:
            return named[0], "only class in the reply"
        return None, "several classes" if named else "no class"

    def _named(self, found: Sequence[str]) -> list[str]:
        """The classes that occur in the words, in order, each once."""
        named: list[str] = []
        position = 0
        while position < len(found):
            for length in range(min(self._longest, len(found) - position), 0, -1):
                name = self._by_words.get(tuple(found[position : position + length]))
                if name is not None:
                    if name not in named and not denied(found, position):
                        named.append(name)
                    position += length - 1
                    break
            position += 1
        return named


def with_classes(loaded: Loaded, always: Iterable[str] = ()) -> Loaded:
    """The items, each with the ClosedSet of all their answers and of those that are `always` classes."""
    classes = ClosedSet.of([*always, *(truth for item in loaded.items for truth in item.truth)])
    return replace(loaded, items=tuple(replace(item, prepared=classes) for item in loaded.items))


def closed_verdict(item: Item, reply: str) -> Verdict:
    """The strict verdict on an item whose `prepared` is its ClosedSet: the class read, or unparsable."""
    assert isinstance(item.prepared, ClosedSet), f"{item.origin} has no closed set"
    read, rule = item.prepared.read(reply)
    return verdict(read, rule, right=read is not None and any(same_answer(read, truth) for truth in item.truth))


def lettered_verdict(item: Item, reply: str) -> Verdict:
    """The strict verdict on an item whose truth is one of its lettered choices: the option chosen, or unparsable."""
    letter, rule = extract.strict(reply, item.choices)
    read = None if letter is None else item.choices[extract.LETTERS.index(letter)]
    return verdict(read, rule, right=read in item.truth)


def contained_verdict(item: Item, reply: str) -> Verdict:
    """The original's rule for lettered classes of sounds, flaws included: nothing is unparsable, "car" is in "card".

    Right if the class occurs anywhere in the reply, or the reply is exactly the letter ("B", "(b)") of an option that
    contains the class; case is ignored.
    """
    said = reply.strip()
    letters = {letter: option.upper() for letter, option in zip(extract.LETTERS, item.choices, strict=False)}
    letters |= {f"({letter})": option for letter, option in letters.items()}
    alone = letters.get(said.upper())
    held, rule = (said.upper(), "class inside the reply") if alone is None else (alone, "letter alone")
    return verdict(said, rule, right=any(truth.upper() in held for truth in item.truth))


def equal_verdict(item: Item, reply: str) -> Verdict:
    """The original's rule for single words: equal in capitals, after removing " " and "." from the reply's end."""
    said = reply.strip()
    right = any(said.rstrip(" .").upper() == truth.upper() for truth in item.truth)
    return verdict(said, "equal in capitals", right=right)


def annotated_verdict(item: Item, reply: str, setting: Setting) -> Verdict:
    """The verdict on an item whose truth is the answers of several annotators, who may disagree.

    `strict`: the most frequent answer is right. `paper`: as `equal_verdict`.

    Scores: `annotators`, the share of the answers that the reply equals; `binary`, of yes-or-no items; under `paper` it
    is the original's figure, where a full stop is an error.
    """
    binary = all_yes_or_no(item.truth)
    if setting == "paper":
        found = equal_verdict(item, reply)
        exact = {"binary": float(reply.strip().lower() == item.truth[0].lower())} if binary else {}
        return replace(found, scores={"annotators": float(found.outcome is Outcome.RIGHT), **exact})
    found = closed_verdict(item, reply)
    if found.rule == "no class" and len(answer_words(reply)) == 1:  # one word, as requested, that nobody gave
        return verdict(reply.strip(), "a word of its own", right=False, scores={"annotators": 0.0})
    if found.read is None:
        return found
    read = found.read
    votes = [sum(same_answer(answer, other) for other in item.truth) for answer in item.truth]
    most = [answer for answer, count in zip(item.truth, votes, strict=True) if count == max(votes)]
    agreed = sum(same_answer(read, answer) for answer in item.truth) / len(item.truth)
    right = any(same_answer(read, answer) for answer in most)
    scores = {"annotators": agreed, **({"binary": float(right)} if binary else {})}
    return verdict(read, found.rule, right=right, scores=scores)


def annotated_figures(results: Sequence[Result]) -> Mapping[str, float]:
    """accuracy, annotator_accuracy; binary_accuracy of yes and no; unanimous_accuracy of several equal answers."""
    known = scored(results)
    if not known:
        return {}
    answers = sum(len(result.truth) for result in known)
    agreed = sum(result.scores.get("annotators", 0.0) * len(result.truth) for result in known)
    figures = {"accuracy": accuracy(known), "annotator_accuracy": agreed / answers}
    if binary := [result for result in known if all_yes_or_no(result.truth)]:
        figures["binary_accuracy"] = mean(binary, "binary")
    if unanimous := [result for result in known if _unanimous(result.truth)]:
        figures["unanimous_accuracy"] = accuracy(unanimous)
    return figures


def all_yes_or_no(truth: Sequence[str]) -> bool:
    """Whether every answer is yes or no."""
    return all(answer.strip().lower() in ("yes", "no") for answer in truth)


def _unanimous(truth: Sequence[str]) -> bool:
    return len(truth) > 1 and all(same_answer(truth[0], answer) for answer in truth[1:])


def _spelling(label: str) -> str:
    return re.sub(r"[\s_-]", "", label.replace("/", " or ")).lower()
