"""JSON values written one per line: JSONL files, event streams, log lines, `--json` output."""

import json
from typing import Any

# json.dumps escapes control characters below 0x20 itself; str.splitlines also splits at these
_LINE_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def dumps_line(value: Any, *, ascii_only: bool = True, compact: bool = False, allow_nan: bool = True) -> str:
    """`value` as JSON on one line, without a newline at the end.

    No reader sees part of a value: every character at which `str.splitlines` splits is escaped.

    Args:
        ascii_only: escape everything outside ASCII; False keeps other scripts readable.
        compact: no spaces after commas and colons.
        allow_nan: write NaN and infinities, which strict JSON parsers reject.

    Raises:
        TypeError: `value` holds something that JSON can't represent.
        ValueError: it holds a NaN or an infinity, and `allow_nan` is False.
    """
    separators = (",", ":") if compact else None
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators, allow_nan=allow_nan)
    return text.translate(_LINE_BREAKS)  # such characters only occur inside strings, where an escape means the same
