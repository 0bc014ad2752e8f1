"""Reading ratings from judges' replies. A reply is data: parsed as JSON or a Python literal, never evaluated."""

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
_LONGEST = 100_000  # characters of a reply that are read


@dataclass(frozen=True)
class Rating:
    """A judge's score (0 to 5), and yes or no if the question asks for a verdict."""

    score: float
    verdict: Literal["yes", "no"] | None


class Unclear(Exception):
    """The reply holds no rating; the message says why."""


def read(reply: str, kind: QuestionKind, setting: Setting) -> Rating:
    """The rating in a reply.

    `strict`: the reply must contain exactly one rating, alone, in a code block or among words; of two different ones
    neither counts, since one may be quoted from the prediction. `paper`: the whole reply is a Python dictionary, scores
    are truncated to integers, and scores above 5 are kept.

    Raises:
        Unclear: there is none.
    """
    reply = reply[:_LONGEST].strip()
    try:
        return _paper(reply, kind) if setting == "paper" else _strict(reply, kind)
    except (ValueError, RecursionError) as error:  # values that can't even be shown: endless numbers, deep nesting
        raise Unclear(f"the reply holds values that can't be read ({type(error).__name__})") from error


def _strict(reply: str, kind: QuestionKind) -> Rating:
    reply = re.sub(r"\A<think>.*?</think>", "", reply, count=1, flags=re.DOTALL).strip()
    whole = _dictionary(reply)
    inside = [_dictionary(text) for text in re.findall(r"\{[^{}]*\}", reply)]
    candidates = [whole] if whole is not None else [d for d in inside if d is not None and "score" in d]
    if not candidates:
        raise Unclear("the reply holds no dictionary with a score")
    found = {_rating(candidate, kind) for candidate in candidates}
    if len(found) > 1:
        raise Unclear("the reply holds different ratings")
    return found.pop()


def _rating(found: Mapping[Any, Any], kind: QuestionKind) -> Rating:
    value = found.get("score")
    try:
        score = (
            math.nan if isinstance(value, bool) else float(value) if isinstance(value, int | float | str) else math.nan
        )
    except (ValueError, OverflowError):
        score = math.nan
    if not 0 <= score <= BEST:
        raise Unclear(f"expected a score from 0 to {BEST}, got {value!r:.40}")
    if not kind.verdict:
        return Rating(score, None)
    pred = found.get("pred", found.get("binary_pred"))
    word = {True: "yes", False: "no"}[pred] if isinstance(pred, bool) else str(pred).strip(" .'\"").lower()
    if word == "yes":
        return Rating(score, "yes")
    if word == "no":
        return Rating(score, "no")
    raise Unclear(f"expected a verdict of yes or no, got {pred!r:.40}")


def _paper(reply: str, kind: QuestionKind) -> Rating:
    found = _literal(reply)
    if not isinstance(found, dict) or not found:
        raise Unclear("the reply is not a Python dictionary")
    value = next(iter(found.values())) if kind.first_value else found.get("score")
    try:
        score = int(value)  # type: ignore[arg-type]  # other types are caught below
    except (TypeError, ValueError, OverflowError) as error:
        raise Unclear(f"expected a number as the score, got {value!r:.40}") from error
    if not kind.verdict:
        return Rating(score, None)
    word = str(found.get(kind.verdict_key)).lower()
    if kind.all_count:  # only an exact yes counts
        return Rating(score, "yes" if word == "yes" else "no")
    if "yes" in word or "no" in word:
        return Rating(score, "yes" if "yes" in word else "no")
    raise Unclear(f"expected a verdict of yes or no, got {word!r:.40}")


def _dictionary(text: str) -> dict[Any, Any] | None:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = _literal(text)
    return found if isinstance(found, dict) else None


def _literal(text: str) -> Any:
    """The value of a Python literal; None if the text is not one."""
    # Python warns of unknown escapes and keeps their backslash; doubling it gives the same text without a warning
    known = re.sub(r"\\(?![\\'\"abfnrtvxuU\n])|(\\\\)", lambda m: m[1] or r"\\", text)
    try:
        return ast.literal_eval(known)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
