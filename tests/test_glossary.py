"""The glossary of CONTRIBUTING.md, held: one word per thing.

The words in code marks at the right of its table stand in no identifier and in no text that a user reads; the phrases
below it in no such text. Identifiers: files, classes, functions, parameters, attributes. Texts: what argparse shows,
what is raised, what is logged.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .test_house import MODULES, PACKAGE, name_of, tree

# Where a word stands although the table says otherwise: word, beginning of the place, and the reason.
ALLOWED: tuple[tuple[str, str, str], ...] = ()


@cache
def glossary() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words and the phrases to avoid."""
    text = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    rows = [line.split("|")[3] for line in text.splitlines() if line.startswith("|")]
    phrases = re.search(r"^Avoid in help texts and errors: (.*?)\n\n", text + "\n\n", re.MULTILINE | re.DOTALL)
    assert phrases, "CONTRIBUTING lists the phrases to avoid under its glossary"
    return tuple(word for row in rows for word in quoted(row)), tuple(quoted(phrases[1]))


def quoted(text: str) -> list[str]:
    return re.findall("`([^`]+)`", text)


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """Names that a file gives to others: its own, classes, functions, parameters, attributes; and their lines."""
    yield path.stem, 1
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
            fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
            yield from ((ast.unparse(field.target), field.lineno) for field in fields)
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def texts(path: Path) -> Iterator[tuple[str, int]]:
    """What a user may read of a file: help, errors, log lines; and their lines."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.keyword) and node.arg in ("help", "description", "epilog", "metavar"):
            shown: ast.AST = node.value
        elif isinstance(node, ast.Raise) and node.exc is not None:
            shown = node.exc
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
            shown = node
        else:
            continue
        for part in ast.walk(shown):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value, part.lineno


def words_of(name: str) -> set[str]:
    """`SoundPatches`, `sound_patches` → sound, patches."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def found(words: tuple[str, ...], *, names: bool) -> list[str]:
    places = []
    for path in MODULES:
        for text, line in (identifiers if names else texts)(path):
            for word in words:
                hit = word in words_of(text) if names else re.search(rf"(?<!\w){word}(?!\w)", text, re.IGNORECASE)
                where = f"{name_of(path)}:{line}"
                if hit and not any(word == w and where.startswith(place) for w, place, _ in ALLOWED):
                    places.append(f"{where} {word}: {' '.join(text.split())[:80]}")
    return places


@pytest.mark.parametrize("word", glossary()[0])
def test_word(word: str) -> None:
    assert not found((word,), names=True), "CONTRIBUTING's glossary has the word to use"
    assert not found((word, f"{word}s"), names=False), "CONTRIBUTING's glossary has the word to use"


def test_phrases() -> None:
    assert not found(glossary()[1], names=False), "say it plainly: what was found, what was expected, the next move"
