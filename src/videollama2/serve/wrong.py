"""What is wrong with a request's body, in words: the field by its name, never its content."""

from collections.abc import Sequence
from typing import Any

from .problems import Problem

# Parts of a place that pydantic adds and no request has: the kinds of a union.
_KINDS = {"str", "list[TextPart]", "list[constrained-str]", "body", "user", "assistant", "system", "developer"}


def problem_of_validation(errors: Sequence[Any]) -> Problem:
    """The error of what is wrong: of several, that which is deepest inside."""
    worst = max(errors, key=lambda error: len(error["loc"]))
    place = [part for part in worst["loc"] if isinstance(part, int) or not _is_kind(str(part))]
    name = ".".join(ascii(part)[1:-1][:60] if isinstance(part, str) else str(part) for part in place) or None
    kind = worst["type"]
    if kind == "extra_forbidden":
        return Problem(400, "unsupported_parameter", f"{name} is not supported by this server", param=name)
    if kind == "missing":
        return Problem(400, "missing_parameter", f"{name} is missing", param=name)
    if kind == "json_invalid":
        return Problem(400, "invalid_json", "the body is no JSON")
    words = worst["msg"][:200].replace("Input should", "it should")
    return Problem(400, "invalid_value", f"{name or 'the body'} has an impossible value: {words}", param=name)


def _is_kind(part: str) -> bool:
    return (
        part in _KINDS
        or "[" in part
        or (part.endswith(("_url", "input_audio", "file", "text")) and part == part.lower())
    )
