"""Parts of official annotations that a benchmark and a training set read alike."""

import re
from collections.abc import Sequence

from .annotations import Row

VOCALSOUND = {
    "/m/01j3sz": "Laughter", "/m/07plz5l": "Sigh", "/m/01b_21": "Cough", "/m/0dl9sf8": "Throat clearing",
    "/m/01hsr_": "Sneeze", "/m/07ppn3j": "Sniff",
}  # fmt: skip
"""Class by its id, in the order of the paper's options (class_labels_indices_vs.csv)."""
_PLACE = re.compile(r"<[A-Za-z]+>")


def filled_template(row: Row, template: str, values: str, *, by_word: bool = False) -> str:
    """A question's template with its values, from left to right (MUSIC-AVQA).

    Args:
        template, values: keys of the row. A list without values is written as "[]".
        by_word: replace whole words, as the official code does, which loses a "?" behind a place.

    Raises:
        DataError: places and values differ in number.
    """
    text = row.text(template)
    places = _PLACE.findall(text)
    given = row.texts(values) if places else ()
    if len(given) != len(places):
        raise row.error(f"{values}: expected {len(places)} values, for {', '.join(places)}, got {len(given)}")
    left = iter(given)
    if by_word:
        return " ".join(next(left, word) if "<" in word else word for word in text.split(" "))
    return _PLACE.sub(lambda _: next(left), text)


def option_index(row: Row, key: str, options: Sequence[str]) -> int:
    """The right option of a row, given as its index from 0, its letter, or its words (NExT-GQA gives the words).

    Raises:
        DataError: it is none of the options, or several.
    """
    text = row.text(key).strip()
    if text.isascii() and text.isdigit() and int(text) < len(options):
        return int(text)
    same = [k for k, option in enumerate(options) if option.strip().lower() == text.lower()]
    if len(same) == 1:
        return same[0]
    if len(text) == 1 and 0 <= ord(text) - ord("A") < len(options):
        return ord(text) - ord("A")
    raise row.error(f"{key}: expected one of {len(options)} options, got {text!r:.40}")


def disk_names(name: str) -> tuple[str, ...]:
    """The names under which a sound may be stored: as written, and with UTF-8 that was read as Latin-1 (ClothoAQA)."""
    try:
        other = name.encode("latin1").decode("utf-8")
    except UnicodeError:
        other = name
    return (name,) if other == name else (other, name)
