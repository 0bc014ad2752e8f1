"""What goes to the terminal: answers and JSON on standard output; progress, notes and errors on standard error."""

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.text import Text

from ..json_lines import dumps_line

if TYPE_CHECKING:
    from ..progress import Progress

Update = Callable[[int, int, str], None]
"""Shows the number of finished tasks, their total, and a few words."""
STAGES = {"loading": "loading the model", "decoding": "decoding media", "encoding": "encoding media"}


@cache
def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, emoji=False, soft_wrap=True)


def console() -> Console:
    """Standard error; coloured only if it is a terminal and NO_COLOR is not set."""
    return _console(sys.stderr)


def harmless(text: str) -> str:
    """Text from files, users or models with control characters escaped, so that it can't control the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def say(text: str, style: str = "") -> None:
    """A note on standard error, verbatim: no markup, no control characters."""
    console().print(Text(harmless(text), style=style))


def complain(message: str) -> None:
    """An error on standard error."""
    console().print(Text("error: ", style="bold red") + Text(harmless(message), style="not bold default"))


def write(text: str) -> None:
    """Text on standard output, flushed at once: an answer while it is generated."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """One line of JSON on standard output, in ASCII, which every reader and terminal accepts."""
    sys.stdout.write(dumps_line(value) + "\n")
    sys.stdout.flush()


def tolerate_any_text() -> None:
    """Escape unencodable characters, so that any file name, question or answer can be read and printed."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """A line with the stage and its time, if standard error is a terminal; yields `on_stage`."""
    if quiet or not console().is_terminal:
        yield lambda stage: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console(), transient=True
    ) as bar:
        task = bar.add_task("starting", total=None)

        def on_stage(stage: str) -> None:
            if stage == "thinking":  # from here on the answer is printed where the bar was
                bar.stop()
            else:
                bar.update(task, description=STAGES.get(stage, stage))

        yield on_stage


@contextlib.contextmanager
def counting(noun: str, *, quiet: bool) -> Iterator[Update | None]:
    """A bar, or a line now and then, for a long job; yields `update`, or None if quiet.

    Args:
        noun: what is counted ("file").
    """
    if quiet:
        yield None
        return
    from ..progress import show_progress

    bars: list[Progress] = []

    def update(done: int, total: int, words: str) -> None:
        if not bars:
            bars.append(show_progress(done, total, noun))
        bars[0].update(done, harmless(words))

    try:
        yield update
    finally:
        for bar in bars:
            bar.close()


@contextlib.contextmanager
def resumable(folder: Path, file: str | None = None, *errors: type[BaseException]) -> Iterator[None]:
    """If the job inside is interrupted, report that its results are kept and how to resume it.

    Args:
        file: exists in the folder once there are results; None: there always are.
        errors: more exceptions after which the job can be resumed.
    """
    resumable_after: tuple[type[BaseException], ...] = (KeyboardInterrupt, *errors)
    try:
        yield
    except resumable_after:
        if file is None or (folder / file).is_file():
            say(f"results so far are kept in {folder}; run the same command again to resume")
        raise


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        say(f"{record.levelname.lower()}: {record.getMessage()}", style)


def log_to_terminal(verbose: bool) -> None:
    """Show this package's log (with -v) or only its warnings."""
    root = logging.getLogger("videollama2")
    root.handlers[:] = [_Handler()]
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    root.propagate = False


@contextlib.contextmanager
def without_losses(verbose: bool) -> Iterator[None]:
    """For jobs with many answers: don't log each answer's losses; the receipts list them."""
    log = logging.getLogger("videollama2.engine")
    before = log.level
    log.setLevel(before if verbose else logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
