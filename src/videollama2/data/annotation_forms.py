"""Forms in which people publish the same annotations: objects around a list, options as lettered lines."""

import re
from typing import Any

_ABOUT_A_FILE = frozenset(
    "version info license licence type name split task date year description data_type data_subtype url count".split()
)
_LETTER = re.compile(r"\s*\(?([A-Z])[.):]\s*\S.*")


def records_in(held: Any) -> Any:
    """Of an object: its only list of records, if the rest is about the file; else its members, if all are records."""
    if not isinstance(held, dict) or not held:
        return held
    lists = [key for key, value in held.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) == 1 and {key.lower() for key in held} - {lists[0].lower()} <= _ABOUT_A_FILE:
        return held[lists[0]]
    return list(held.values()) if all(isinstance(value, dict) for value in held.values()) else held


def lettered_lines_of(text: str) -> list[str] | None:
    """The lines of a text, if each begins with the next letter: A., (B), C: …"""
    lines = [line for line in text.splitlines() if line.strip()]
    found = [match[1] for line in lines if (match := _LETTER.fullmatch(line))]
    return lines if found == [chr(ord("A") + k) for k in range(len(lines))] and len(lines) > 1 else None
