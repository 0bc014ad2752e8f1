"""Equivalence of answers by rules, without a judge: yes and no, numbers, colours, and equal words.

A truth that is a yes or no, a number or a colour is compared by value: "2" answers "two", "Yes, he does." answers
"yes", "grey" answers "gray".
"""

import re
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

from .extract import NUMBER_WORDS, yes_no
from .measures import answer_words, words

_TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True))
_NUMBERS = {word: number for number, word in enumerate(NUMBER_WORDS)} | _TENS
_COLOURS = {
    **{
        name: name
        for name in "black white red green blue yellow orange purple pink brown gray silver gold beige".split()
    },
    **{name: name for name in "violet cyan turquoise maroon navy teal cream khaki magenta olive tan bronze".split()},
    "grey": "gray",
    "golden": "gold",
    "silvery": "silver",
    "blonde": "blond",
    "blond": "blond",
    "whitish": "white",
    "reddish": "red",
    "bluish": "blue",
    "greenish": "green",
}
_BESIDE_COLOURS = frozenset("light dark bright pale deep colour color coloured colored colours colors and with".split())
_DENIALS = frozenset("not no isnt arent wasnt werent doesnt dont didnt never without cannot cant neither nor".split())
_LONGEST_MENTION = 4  # most words of a reference that is searched for inside a reply
_DENIAL_REACH = 3  # most words between a negation and what it negates


class Reading(NamedTuple):
    """The answer read from a reply. `right` is None if no rule finds an answer of the truth's kind."""

    right: bool | None
    read: str | None
    rule: str


def polarity(text: str) -> str | None:
    """ "yes" or "no", or None if the text says neither or both (`extract.yes_no`)."""
    return yes_no(text)[0]


def leading_polarity(text: str) -> str | None:
    """ "yes" or "no" if the text begins with one that answers; "no one", "no idea" and a list of both don't."""
    found = words(text)
    return polarity(text) if found[:1] in (("yes",), ("no",)) and found[1:2] not in (("one",), ("idea",)) else None


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a text in order, in digits or English words up to ninety-nine; "none" is 0."""
    found: list[float] = []
    tens = False  # whether the previous word was a multiple of ten, which a unit completes
    for word in words(text):
        value = _NUMBERS.get(word)
        if value is not None and tens and 0 < value < 10:
            found[-1] += value
        elif value is not None:
            found.append(float(value))
        elif re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", word):
            found.append(float(word))
        elif word == "none":
            found.append(0.0)
        tens = word in _TENS
    return tuple(found)


def is_number(text: str) -> bool:
    """Whether the text is a number and nothing else."""
    found = words(text)
    numeral = all(word in _NUMBERS or word == "none" or re.fullmatch(r"[0-9.]+", word) for word in found)
    return numeral and len(numbers(text)) == 1


def colours(text: str) -> frozenset[str]:
    """The colours of a text, each by one name ("grey" is "gray"). Shades are ignored: "light blue" is blue."""
    return frozenset(_COLOURS[word] for word in words(text) if word in _COLOURS)


def is_colour(text: str) -> bool:
    """Whether the text names colours and nothing else ("black and white", "dark blue")."""
    found = answer_words(text)
    return bool(colours(text)) and all(word in _COLOURS or word in _BESIDE_COLOURS for word in found)


@lru_cache(maxsize=65536)
def canonical(text: str) -> Hashable:
    """A canonical form of a short answer, equal for equivalent answers; None if it has no words.

    A number's value, a set of colours, yes or no for a single word that says it, else the words without articles.
    """
    if is_number(text):
        return numbers(text)[0]
    if is_colour(text):
        return colours(text)
    found = answer_words(text)
    if len(found) == 1:
        return polarity(text) or found
    return found or None


def same_answer(reply: str, reference: str) -> bool:
    """Whether two short answers are equivalent as wholes: the same words, number, colours, or yes and no."""
    return canonical(reply) is not None and canonical(reply) == canonical(reference)


def mentions(reply: str, reference: str) -> bool:
    """Whether the reply contains the reference as whole words in order, not negated just before ("not a car")."""
    found, expected = answer_words(reply), answer_words(reference)
    return any(
        found[i : i + len(expected)] == expected and not denied(found, i)
        for i in range(len(found) - len(expected) + 1)
        if expected
    )


def denied(found: Sequence[str], position: int) -> bool:
    """Whether one of the words shortly before the position negates it."""
    return any(word in _DENIALS for word in found[max(0, position - _DENIAL_REACH) : position])


def read_against(reply: str, references: Sequence[str]) -> Reading:
    """Read a reply of any length against short references, by the first rule that applies.

    1. The reply as a whole is the same answer. 2. If every reference is a yes or no, a number, or a colour: the value
    of that kind in the reply (exactly one number; None without a value). 3. The reply contains a reference of up to
    four words, not negated. Otherwise it is wrong. Rules don't recognise synonyms and inflections: that takes a judge.
    """
    if not words(reply):
        return Reading(None, None, "no words")
    if not references:
        return Reading(False, " ".join(reply.split()), "the answer is withheld")
    for reference in references:
        if same_answer(reply, reference):
            return Reading(True, reference, "same answer")
    if all(words(reference) in (("yes",), ("no",)) for reference in references):
        said = polarity(reply)
        if said is None:
            return Reading(None, None, "neither yes nor no")
        return Reading(said in {words(text)[0] for text in references}, said, "yes or no")
    if all(map(is_number, references)):
        counted = sorted(set(numbers(reply)))
        if len(counted) != 1:
            return Reading(None, None, "several numbers" if counted else "no number")
        return Reading(any(numbers(text) == (counted[0],) for text in references), f"{counted[0]:g}", "number")
    if all(map(is_colour, references)):
        seen = colours(reply)
        if not seen:
            return Reading(None, None, "no colour")
        return Reading(any(colours(text) == seen for text in references), " and ".join(sorted(seen)), "colour")
    for reference in references:
        if len(answer_words(reference)) <= _LONGEST_MENTION and mentions(reply, reference):
            return Reading(True, reference, "named in the reply")
    return Reading(False, " ".join(reply.split()), "other words")
