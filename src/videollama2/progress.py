"""Progress of a long job: a bar with the time left on a terminal, else a line per minute, for logs."""

import time
from typing import Protocol

from rich.console import Console

LINE_SECONDS = 60.0  # between two lines, if standard error is not a terminal


class Progress(Protocol):
    """A progress display."""

    def update(self, done: int, words: str) -> None:
        """Show that `done` items are finished; `words` is free text next to it."""

    def close(self) -> None:
        """Remove the display."""


def show_progress(first: int, last: int, noun: str) -> Progress:
    """A progress display on standard error, from `first` items done to `last`.

    Args:
        noun: what is counted, like "step".
    """
    console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
    return _Bar(console, first, last, noun) if console.is_terminal else _Lines(console, first, last, noun)


class _Bar:
    """A bar with the time left, for a terminal. Log lines appear above it."""

    def __init__(self, console: Console, first: int, last: int, noun: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        words = TextColumn("{task.description}", markup=False)
        columns = (BarColumn(), MofNCompleteColumn(), words, TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, speed_estimate_period=300)
        self._task = self._bar.add_task(f"first {noun} …", total=last, completed=first)
        self._bar.start()

    def update(self, done: int, words: str) -> None:
        self._bar.update(self._task, completed=done, description=words)

    def close(self) -> None:
        self._bar.stop()


class _Lines:
    """A line per minute, and one for the last item, for logs."""

    def __init__(self, console: Console, first: int, last: int, noun: str) -> None:
        self._console, self._first, self._last, self._noun = console, first, last, noun
        self._began = self._printed = time.monotonic()

    def update(self, done: int, words: str) -> None:
        now = time.monotonic()
        if now - self._printed < LINE_SECONDS and done < self._last:
            return
        self._printed = now
        left = (now - self._began) / max(done - self._first, 1) * (self._last - done)
        hours, minutes = divmod(round(left / 60), 60)
        self._console.print(f"{self._noun} {done} of {self._last}  {words}  {hours}:{minutes:02} h left", markup=False)

    def close(self) -> None:
        """Nothing to remove."""
