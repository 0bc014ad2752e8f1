"""How published scorers read a choice, flaws included: the `paper` setting (spec §7).

Each rule is that of one published script. Most take the first capital letter anywhere ("A man…" chooses A, "Based on…"
B), and several count a reply without one as the third option. They exist to reproduce published figures.
"""

import re
from collections.abc import Callable, Sequence

from .extract import LETTERS, NUMBER_WORDS, Read

PaperRule = Callable[[str, Sequence[str]], Read]
"""Takes a reply and the options without letters."""

_THIRD: Read = ("C", "unparsable counts as C")
_DIGITS = {str(number): word for number, word in enumerate(NUMBER_WORDS[:10])}
_WORLDSENSE_PREFIXES = (  # some are joined, since the published list lacks commas
    "The best answer is", "The correct answer is", "The answer is", "The answer",
    "The best option isThe correct option is", "Best answer:Best option:", "Answer:", "Option:",
)  # fmt: skip


def egoschema(reply: str, choices: Sequence[str]) -> Read:
    """The first of A to E, with its brackets, after removing the word "answer"; else the third option."""
    return _bracketed(_without_answer(reply), r"[( ]*[A-E][) ]*", "ABCDE") or _THIRD


def mvbench(reply: str, choices: Sequence[str]) -> Read:
    """The first of the item's letters after removing "answer"; else an option's text in the reply; else the third.

    A comma beside the letter stays with it, and makes it no letter: "Well, B." is the third option.
    """
    left, letters = _without_answer(reply), LETTERS[: len(choices)]
    found = _bracketed(left, rf"[(, ]*[A-{letters[-1]}][), ]*", letters)
    return found or _contained(left, [(choice,) for choice in choices]) or _THIRD


def perception_test(reply: str, choices: Sequence[str]) -> Read:
    """The first of A to C after removing "answer"; else the option that equals the rest; else the third option."""
    left = _without_answer(reply)
    found = re.search("[A-C]", left)
    if found is not None:
        return found[0], "first capital letter"
    same = (LETTERS[i] for i, choice in enumerate(choices) if choice.lower() == left.lower())
    letter = next(same, None)
    return _THIRD if letter is None else (letter, "option text")


def video_mme(reply: str, choices: Sequence[str]) -> Read:
    """The first of A to D after removing "answer"; else the first option in the reply; else the third option.

    Options lose their last character, a full stop in the file, and a digit is also found as an English word. An option
    of one character is thereby empty, and in every reply.
    """
    left = _without_answer(reply)
    found = re.search("[A-D]", left)
    if found is not None:
        return found[0], "first capital letter"
    cut = [choice[:-1] for choice in choices]
    return _contained(left, [(choice, _DIGITS.get(choice, choice)) for choice in cut]) or _THIRD


def daily_omni(reply: str, choices: Sequence[str]) -> Read:
    """The first character as a capital, if it is one of A to D: "because" is B, and "(B)" nothing."""
    first = reply.strip()[:1].upper()
    return (first, "first character") if first and first in "ABCD" else (None, "first character is no letter")


def worldsense(reply: str, choices: Sequence[str]) -> Read:
    """The first of A to D after removing some openings; without one the evaluator asks a judge, which is not done."""
    left = reply.strip()
    for prefix in _WORLDSENSE_PREFIXES:
        left = left.replace(prefix, "")
    found = re.search("[ABCD]", left)
    return (None, "no capital letter") if found is None else (found[0], "first capital letter")


def video_holmes(reply: str, choices: Sequence[str]) -> Read:
    """Of the last <answer>, else the reply: the first of A to F that is before " " or ":", or after "["; else any."""
    tagged = re.findall(r"<answer>\s*(.*?)\s*</answer>", reply, re.DOTALL)
    said = tagged[-1].strip() if tagged else reply
    for rule, forms in (("letter with a mark", ("{} ", "{}:", "[{}")), ("letter anywhere", ("{}",))):
        for letter in "ABCDEF":
            if any(form.format(letter) in said for form in forms):
                return letter, rule
    return None, "no letter"


def lvomnibench(reply: str, choices: Sequence[str]) -> Read:
    """In capitals, in this order: a letter first, before ".", ")", ":", " ", ","; after "answer"; alone; anywhere."""
    said = reply.upper().strip()
    first = next((a for a in "ABCDEF" if said.startswith(a) and (len(said) == 1 or said[1] in ".): ,")), None)
    if first is not None:
        return first, "letter first"
    stated = re.search(r"(?:THE\s+)?ANSWER\s*(?:IS|:)\s*([A-F])", said)
    if stated is not None:
        return stated[1], "answer is"
    alone = next((a for a in "ABCDEF" if re.search(rf"\b{a}\b", said)), None)
    if alone is not None:
        return alone, "letter alone"
    found = re.search("[A-F]", said)
    return (None, "no letter") if found is None else (found[0], "first letter of all")


def cmm(reply: str, truth: Sequence[str]) -> Read:
    """The right word, if it is within the first five characters; else the other one: "I know" says no."""
    head = reply.strip().lower()[:5]
    found = next((word for word in (*truth, "yes", "no") if word in head), None)
    return found, "first five characters" if found else "neither yes nor no"


def _bracketed(reply: str, pattern: str, letters: str) -> Read | None:
    """The letter in the first match, stripped of blanks, then of brackets; the third option if more is left."""
    found = re.search(pattern, reply)
    if found is None:
        return None
    letter = found[0].strip().strip("()")
    return (letter, "first capital letter") if letter in letters and len(letter) == 1 else _THIRD


def _without_answer(reply: str) -> str:
    return reply.strip().replace("answer", "").replace("Answer", "")


def _contained(reply: str, forms: Sequence[Sequence[str]]) -> Read | None:
    """The first option that has a form in the reply."""
    text = reply.lower()
    for letter, each in zip(LETTERS, forms, strict=False):
        if any(form.lower() in text for form in each):
            return letter, "option text in the reply"
    return None
