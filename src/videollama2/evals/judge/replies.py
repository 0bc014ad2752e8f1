"""What a judge's reply says. It is data: read as JSON or as a Python literal, never evaluated."""

import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..items import Setting
from .prompts import QuestionKind

BEST = 5
_LONGEST = 100_000  # characters of a reply that are looked at


@dataclass(frozen=True)
class Rating:
    """A verdict: the score (0 to 5), and a yes or no where one is asked for."""

    score: float
    verdict: Literal["yes", "no"] | None


class Unclear(Exception):
    """The reply holds no verdict; it says why."""


def read(reply: str, kind: QuestionKind, setting: Setting) -> Rating:
    """The verdict of a reply.

    `strict`: exactly one verdict must stand in it, alone, in a code block or among words; of two that differ none
    is taken, since one may be quoted from the prediction. `paper`: the whole reply is a Python dictionary, scores are
    cut to integers, and what is beyond 5 stays.

    Raises:
        Unclear: there is none.
    """
    reply = reply[:_LONGEST].strip()
    try:
        return _paper(reply, kind) if setting == "paper" else _strict(reply, kind)
    except (ValueError, RecursionError) as error:  # values that can't even be shown: numbers without end, deep nests
        raise Unclear(f"the reply holds values that can't be read ({type(error).__name__})") from error


def _strict(reply: str, kind: QuestionKind) -> Rating:
    reply = re.sub(r"\A<think>.*?</think>", "", reply, count=1, flags=re.DOTALL).strip()
    whole = _dictionary(reply)
    inside = [_dictionary(text) for text in re.findall(r"\{[^{}]*\}", reply)]
    candidates = [whole] if whole is not None else [d for d in inside if d is not None and "score" in d]
    if not candidates:
        raise Unclear("the reply holds no dictionary with a score")
    found = {_said(candidate, kind) for candidate in candidates}
    if len(found) > 1:
        raise Unclear("the reply holds verdicts that differ")
    return found.pop()


def _said(found: Mapping[Any, Any], kind: QuestionKind) -> Rating:
    value = found.get("score")
    try:
        score = (
            math.nan if isinstance(value, bool) else float(value) if isinstance(value, int | float | str) else math.nan
        )
    except (ValueError, OverflowError):
        score = math.nan
    if not 0 <= score <= BEST:
        raise Unclear(f"the score is {value!r:.40}; expected a number from 0 to {BEST}")
    if not kind.verdict:
        return Rating(score, None)
    pred = found.get("pred", found.get("binary_pred"))
    word = {True: "yes", False: "no"}[pred] if isinstance(pred, bool) else str(pred).strip(" .'\"").lower()
    if word == "yes":
        return Rating(score, "yes")
    if word == "no":
        return Rating(score, "no")
    raise Unclear(f"the verdict is {pred!r:.40}; expected yes or no")


def _paper(reply: str, kind: QuestionKind) -> Rating:
    found = _literal(reply)
    if not isinstance(found, dict) or not found:
        raise Unclear("the reply is no Python dictionary")
    value = next(iter(found.values())) if kind.first_value else found.get("score")
    try:
        score = int(value)  # type: ignore[arg-type]  # what else it may be is caught
    except (TypeError, ValueError, OverflowError) as error:
        raise Unclear(f"the score is {value!r:.40}; expected a number") from error
    if not kind.verdict:
        return Rating(score, None)
    word = str(found.get(kind.verdict_key)).lower()
    if kind.all_count:  # exactly yes counts, and anything else doesn't
        return Rating(score, "yes" if word == "yes" else "no")
    if "yes" in word or "no" in word:
        return Rating(score, "yes" if "yes" in word else "no")
    raise Unclear(f"the verdict is {word!r:.40}; expected yes or no")


def _dictionary(text: str) -> dict[Any, Any] | None:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = _literal(text)
    return found if isinstance(found, dict) else None


def _literal(text: str) -> Any:
    """A Python literal, None if it is none."""
    # Python warns of escapes that it doesn't know, and takes them as they are; so written, there is nothing to warn of
    known = re.sub(r"\\(?![\\'\"abfnrtvxuU\n])|(\\\\)", lambda m: m[1] or r"\\", text)
    try:
        return ast.literal_eval(known)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
