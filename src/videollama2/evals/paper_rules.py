"""How published scorers read a choice, flaws included: the `paper` setting (spec §7).

The first capital letter anywhere is the answer ("A man…" chooses A, "Based on…" B), and a reply without one counts as
the third option. These rules exist to reproduce published figures.
"""

import re
from collections.abc import Callable, Sequence

from .extract import LETTERS, NUMBER_WORDS, Read

PaperRule = Callable[[str, Sequence[str]], Read]
"""Takes a reply and the options without letters."""

_THIRD: Read = ("C", "unparsable counts as C")
_ENGLISH = {str(number): word for number, word in enumerate(NUMBER_WORDS)}


def egoschema(reply: str, choices: Sequence[str]) -> Read:
    """The first of A to E after removing the word "answer"; else the third option."""
    return _first_capital(_without_answer(reply), "ABCDE") or _THIRD


def mvbench(reply: str, choices: Sequence[str]) -> Read:
    """The first of the item's letters; else the first option whose text is in the reply; else the third option."""
    return _first_capital(reply, LETTERS[: len(choices)]) or _contained(reply, choices) or _THIRD


def perception_test(reply: str, choices: Sequence[str]) -> Read:
    """The first of A to C after removing "answer"; else the option that equals the reply; else the third option."""
    left = _without_answer(reply)
    found = _first_capital(left, "ABC")
    if found is not None:
        return found
    said = left.strip().lower()
    same = (LETTERS[i] for i, choice in enumerate(choices) if choice.lower() == said)
    letter = next(same, None)
    return _THIRD if letter is None else (letter, "option text")


def video_mme(reply: str, choices: Sequence[str]) -> Read:
    """The first of A to D; else the first option whose text, without its last character, is in the reply; else C.

    An option that is a number is also found as an English word.
    """
    return _first_capital(reply, "ABCD") or _contained(reply, [choice[:-1] for choice in choices]) or _THIRD


def daily_omni(reply: str, choices: Sequence[str]) -> Read:
    """The first character as a capital, if it is one of A to D: "because" is B, and "(B)" nothing."""
    first = reply.strip()[:1].upper()
    return (first, "first character") if first and first in "ABCD" else (None, "first character is no letter")


def worldsense(reply: str, choices: Sequence[str]) -> Read:
    """The first capital of A to D; without one the published evaluator asks a judge, which is not done here."""
    return _first_capital(reply, "ABCD") or (None, "no capital letter")


def cmm(reply: str) -> Read:
    """ "yes" or "no" within the first five characters: "I know" says no."""
    head = reply.lower()[:5]
    found = next((word for word in ("yes", "no") if word in head), None)
    return found, "first five characters" if found else "neither yes nor no"


def _first_capital(reply: str, letters: str) -> Read | None:
    found = re.search(f"[{letters}]", reply)
    return None if found is None else (found[0], "first capital letter")


def _without_answer(reply: str) -> str:
    return reply.replace("answer", "").replace("Answer", "")


def _contained(reply: str, choices: Sequence[str]) -> Read | None:
    text = reply.lower()
    for letter, choice in zip(LETTERS, choices, strict=False):
        if any(form and form in text for form in (choice.lower(), _ENGLISH.get(choice, ""))):
            return letter, "option text in the reply"
    return None
