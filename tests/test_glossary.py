"""The code uses the glossary of CONTRIBUTING.md: one word per thing.

The words in code marks at the right of its table must not occur in identifiers or in texts for users, nor the phrases
below it in texts. Identifiers: files, classes, functions, parameters, attributes. Texts: help, errors, log lines, and
the notes and losses of receipts.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .test_house import MODULES, PACKAGE, name_of, tree

# Exceptions: word, beginning of the place, and the reason.
ALLOWED: tuple[tuple[str, str, str], ...] = ()
NOTES = ("note", "notes", "losses", "_losses")  # names of variables and parameters that hold a receipt's sentences

# The verbs that have one meaning each in the glossary, and where functions may begin with them.
VERBS = {
    "prepare": (
        "engine.py",
        "serve/scheduler.py",
        "train/strategy/",
        "media_generation.py",
    ),  # libraries chose the last two
    "encode": (
        "engine.py",
        "audio.py",
        "beats.py",
        "paired_audio.py",
        "vision.py",
        "media_features.py",
        "data/features.py",
    ),
    "decode": (
        "engine.py",
        "media/",
        "shared_media.py",
        "cli/ahead.py",
        "generation/",
        "backends/vllm/weightless.py",
        "serve/",
        "data/doctor/",
        "shared_media.py",
        "cli/ahead.py",
        "processor_calls.py",  # a transformers processor's
    ),
}


@cache
def glossary() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words and the phrases to avoid."""
    text = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    rows = [line.split("|")[3] for line in text.splitlines() if line.startswith("|")]
    phrases = re.search(r"^Avoid in help, errors and receipts: (.*?)\n\n", text + "\n\n", re.MULTILINE | re.DOTALL)
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
    """Texts for users with their lines: help, errors, log lines, notes and losses of receipts."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.keyword) and node.arg in ("help", "description", "epilog", "metavar", *NOTES):
            shown: ast.AST = node.value
        elif isinstance(node, ast.Call) and is_note(node.func):
            shown = node
        elif isinstance(node, ast.FunctionDef) and re.search("note|remark", node.name):
            shown = ast.List([n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value], ast.Load())
        elif isinstance(node, ast.Assign | ast.AugAssign) and any(map(is_note, targets(node))):
            shown = node.value
        elif isinstance(node, ast.Raise) and node.exc is not None:
            shown = node.exc
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
            shown = node
        else:
            continue
        for part in ast.walk(shown):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value, part.lineno


def targets(node: ast.Assign | ast.AugAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def is_note(node: ast.expr) -> bool:
    """Whether it is `notes`, `notes.append`, `Loss`, …"""
    if isinstance(node, ast.Attribute) and node.attr in ("append", "extend"):
        return is_note(node.value)
    return isinstance(node, ast.Name) and node.id in ("Loss", "_with_loss", "_with_losses", *NOTES)


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


@pytest.mark.parametrize("verb", VERBS)
def test_verb(verb: str) -> None:
    functions = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in MODULES
        if not name_of(path).startswith(VERBS[verb])
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and node.name.strip("_").partition("_")[0] == verb
    ]
    assert not functions, "CONTRIBUTING's glossary has the word to use"


def test_notes_and_losses_are_read() -> None:
    read = {text for path in MODULES for text, _ in texts(path)}
    assert {"it has no audio", "the media item has no audio", "its audio is digital silence"} <= read


def test_phrases() -> None:
    assert not found(glossary()[1], names=False), "say it plainly: what was found, what was expected, the next move"
