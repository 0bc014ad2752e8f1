"""Reading a reply as one class of a known set: strictly, and as the original does it."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from . import extract
from .equivalence import canonical, denied, polarity, same_answer
from .items import Item, Outcome, Verdict
from .measures import answer_words, words


@dataclass(frozen=True)
class ClosedSet:
    """The classes that a reply is read against. Two classes never have the same words.

    Attributes:
        classes: as the annotation spells them.
    """

    classes: tuple[str, ...]

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
        """The class that a reply says, and the rule that found it; None where no class or several are said.

        In order: the reply is a class (also "2" for "two", "grey" for "gray"); where yes and no are classes: it
        begins or ends with one of them; exactly one class stands in it as whole words, undenied. Of classes that
        overlap in the reply the longer one is read ("dog barking" before "dog").
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
        """The classes that stand in the words, in order, each once."""
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


def closed_verdict(item: Item, reply: str) -> Verdict:
    """The strict verdict on an item whose `prepared` is its ClosedSet: the class read, or unparsable."""
    assert isinstance(item.prepared, ClosedSet), f"{item.origin} has no closed set"
    read, rule = item.prepared.read(reply)
    if read is None:
        return Verdict(outcome=Outcome.UNPARSABLE, read=None, rule=rule)
    right = any(same_answer(read, truth) for truth in item.truth)
    return Verdict(outcome=Outcome.RIGHT if right else Outcome.WRONG, read=read, rule=rule)


def lettered_verdict(item: Item, reply: str) -> Verdict:
    """The strict verdict on an item whose truth is one of its lettered choices: the option chosen, or unparsable."""
    letter, rule = extract.strict(reply, item.choices)
    if letter is None:
        return Verdict(outcome=Outcome.UNPARSABLE, read=None, rule=rule)
    read = item.choices[extract.LETTERS.index(letter)]
    return Verdict(outcome=Outcome.RIGHT if read in item.truth else Outcome.WRONG, read=read, rule=rule)


def contained_verdict(item: Item, reply: str) -> Verdict:
    """The original's rule for lettered classes of sounds, flaws included: nothing is unparsable, "car" is in "card".

    Right where the class stands anywhere in the reply, case aside, or the reply is exactly the letter ("B", "(B)") of
    an option that holds the class.
    """
    said = reply.strip()
    letters = {letter: option.upper() for letter, option in zip(extract.LETTERS, item.choices, strict=False)}
    letters |= {f"({letter})": option for letter, option in letters.items()}
    held, rule = (letters[said], "letter alone") if said in letters else (said.upper(), "class inside the reply")
    return _paper(any(truth.upper() in held for truth in item.truth), said, rule)


def equal_verdict(item: Item, reply: str) -> Verdict:
    """The original's rule for single words: right where both are equal in capitals, without " " and "." at the end."""
    said = reply.strip()
    return _paper(any(_bare(said) == _bare(truth) for truth in item.truth), said, "equal in capitals")


def _bare(text: str) -> str:
    return text.upper().strip().rstrip(" .")


def _paper(right: bool, said: str, rule: str) -> Verdict:
    return Verdict(outcome=Outcome.RIGHT if right else Outcome.WRONG, read=said, rule=rule)
