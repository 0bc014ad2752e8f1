"""What is wrong with a request's body, in words: the field by its name, never its content."""

from collections.abc import Sequence
from typing import Any

from .problems import Problem

_LENGTHS = ("too_long", "too_short")  # of a list: it is one, so that it is no string does not matter


def problem_of_validation(errors: Sequence[Any]) -> Problem:
    """The error of what is wrong: of several, that which is deepest inside."""
    worst = max(errors, key=lambda error: (len(error["loc"]), error["type"] in ("extra_forbidden", *_LENGTHS)))
    name = place_of(worst["loc"])
    kind = worst["type"]
    if name is None and (kind == "missing" or kind.endswith("attributes_type")):
        words = "the body is no JSON object; expected one, and Content-Type: application/json"
        return Problem(400, "invalid_json", words)
    if kind == "extra_forbidden":
        return Problem(400, "unsupported_parameter", f"{name} is not supported by this server", param=name)
    if kind == "missing":
        return Problem(400, "missing_parameter", f"{name} is missing", param=name)
    if kind == "json_invalid":
        return Problem(400, "invalid_json", "the body is no JSON")
    if kind == "value_error":  # pydantic's words for it are those of Python's classes
        return Problem(400, "invalid_value", f"{name} is no file; expected a part with a filename", param=name)
    words = worst["msg"][:200].replace("Input should", "it should")
    return Problem(400, "invalid_value", f"{name or 'the body'} has an impossible value: {words}", param=name)


def place_of(loc: Sequence[int | str]) -> str | None:
    """A field as messages.0.content; pydantic also tells the kinds of unions, which no request has."""
    parts = []
    for before, part in zip((None, *loc), loc, strict=False):
        of_union = isinstance(before, int) or str(part).startswith(("list[", "function-", "constrained-str"))
        if isinstance(part, int) or not (of_union or (before is None and part in ("body", "query", "path"))):
            parts.append(str(part) if isinstance(part, int) else ascii(part)[1:-1][:60])
    return ".".join(parts) or None
