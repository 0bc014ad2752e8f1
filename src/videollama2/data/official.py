"""Parts of official annotations that a benchmark and a training set read alike."""

import re

from .annotations import Row

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
