"""One JSON value stays one line, whatever its strings contain."""

import json
import sys

import pytest

from videollama2.json_lines import dumps_line

SPLITTING = [c for c in map(chr, range(sys.maxunicode + 1)) if len(f"a{c}b".splitlines()) > 1]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("compact", [True, False])
def test_no_character_splits_a_line(ascii_only: bool, compact: bool) -> None:
    value = {"".join(SPLITTING): ["".join(SPLITTING), "né 日本 😀 \\u2028"]}
    line = dumps_line(value, ascii_only=ascii_only, compact=compact)
    assert {"\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"} <= set(SPLITTING)
    assert line.splitlines() == [line] and json.loads(line) == value
    assert line.isascii() == ascii_only and (", " in line) != compact


def test_plain_values_are_written_as_json_writes_them() -> None:
    value = {"a": [1, 2.5, None, True], "text": "né\n"}
    assert dumps_line(value) == json.dumps(value)


def test_nan_is_rejected_on_request() -> None:
    assert dumps_line(float("nan")) == "NaN"
    with pytest.raises(ValueError):
        dumps_line(float("nan"), allow_nan=False)
