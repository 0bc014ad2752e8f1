"""What a message may say to a stranger: words, and nothing that helps to attack the machine or names its files."""

import re

_MOST = 600  # characters
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}\b|\b[0-9a-fA-F]{12,16}\b(?=[>\]])")
_OBJECT = re.compile(r"<[\w.]+ (?:object )?at [^>]*>")
# An absolute path of two or more parts; the server's own addresses are no paths.
_PATH = re.compile(
    r"(?<![\w.:/<])(?:file:)?(?:/(?!v1/)[\w.+@~%-]+){2,}/?|\b[A-Za-z]:\\[^\s'\",;)]*|\\\\[\w.$-]+\\[^\s'\",;)]*"
)
_TRACE = re.compile(r"Traceback \(most recent call last\).*", re.DOTALL)


def public(message: str) -> str:
    """The message on one line, without memory addresses, paths of this machine or stack traces."""
    text = _TRACE.sub("…", message)
    text = _PATH.sub("…", _ADDRESS.sub("…", _OBJECT.sub("an object", text)))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
