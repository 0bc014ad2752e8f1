"""The pages of docs/ as things to run: their blocks in order, their command lines, their Python.

```sh        commands of ours: parsed, and run where the page is run
```shell     parsed only: they stay, take long, or need what is not here
```bash      run by bash, where that and curl are
```python    run, all of a page in one namespace; `print(…)  # → text` must print that text
"""

import contextlib
import io
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from videollama2 import cli

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "decisions" and path.name != "log.md")
ADDRESS = "http://127.0.0.1:8000"  # of the server, on the pages


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line on which it begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """In the order of the page."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text[: m.start()].count("\n") + 2) for m in found]


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Lines of a block that call videollama2, whole, and the words behind its name."""
    if block.language not in ("sh", "shell", "bash"):
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        yield from ((line.strip(), words) for words in _calls(line))


def _calls(line: str) -> Iterator[list[str]]:
    reader = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    reader.whitespace_split = True
    try:
        words = list(reader)
    except ValueError:  # a quotation that goes on in the next line, as in curl's; no call of ours has one
        assert "videollama2 " not in line, line
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if not re.fullmatch(r"[|;&<>]+", word):
            command.append(word)
            continue
        while command and re.match(r"[A-Z_0-9]+=", command[0]):
            command.pop(0)
        if command and command[0] in ("torchrun", "python") and "videollama2" in command:
            command = command[command.index("videollama2") :]
        if command and command[0] == "videollama2":
            yield command[1:]
        command = []


def has_flag(words: list[str], flag: str) -> bool:
    """Whether the command that the words name has the flag."""
    return any(flag in parser._option_string_actions for parser in parsers_of(words))


def parsers_of(words: list[str]) -> list[Any]:
    """The parser of the command, and that of its action."""
    found: list[Any] = [cli.build_parser()]
    for word in words:
        choices = [a.choices for a in found[-1]._actions if isinstance(a.choices, dict) and word in a.choices]
        if not choices:
            break
        found.append(choices[0][word])
    return found


def run_page(page: Path, model: Path, address: str = ADDRESS) -> list[str]:
    """Run a page from its top to its end in the working folder; returns what was run."""
    space: dict[str, Any] = {}
    ran = []
    for block in blocks(page):
        place = f"{page.name}:{block.line}"
        if "schema" in block.text and not find_spec("llguidance"):
            continue
        if block.language == "python":
            _run_python(block, space, place, model, address)
            ran.append("python")
        elif block.language == "bash" and shutil.which("bash") and shutil.which("curl"):
            text = block.text.replace(ADDRESS, address)
            done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0 and '"error"' not in done.stdout, (place, done.stdout, done.stderr)
            ran.append("bash")
        elif block.language == "sh":
            for line, words in commands(block):
                assert cli.main(_small(words, model)) == 0, (place, line)
                ran.append(words[0])
    return ran


def _run_python(block: Block, space: dict[str, Any], place: str, model: Path, address: str) -> None:
    file = Path(place.replace(".md:", "-line-") + ".py")
    file.write_text(block.text.replace('"nano"', repr(str(model))).replace(ADDRESS, address), encoding="utf-8")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        space |= runpy.run_path(str(file), space)
    wanted = re.findall(r"# → (.*)$", block.text, re.MULTILINE)
    printed = said.getvalue().splitlines()
    for text in wanted:
        assert text in printed, f"{place} should print {text!r}; it printed {printed}"
        printed = printed[printed.index(text) + 1 :]


def _small(words: list[str], model: Path) -> list[str]:
    """The words, for the small model, with few and short answers."""
    words = [str(model) if word == "nano" else word for word in words]
    for flag, value in (("--model", str(model)), ("--device", "cpu"), ("--max-new-tokens", "4"), ("--limit", "2")):
        if has_flag(words, flag) and flag not in words:
            words += [flag, value]
    return words
