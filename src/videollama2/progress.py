"""How far a long job is: a bar with the time left on a terminal, else a line now and then, for logs."""

import time
from typing import Protocol

from rich.console import Console

LINE_SECONDS = 60.0  # between two lines of progress where standard error is no terminal


class Progress(Protocol):
    """Progress that is shown."""

    def update(self, done: int, words: str) -> None:
        """So many are done; `words` say what else there is to say."""

    def close(self) -> None:
        """Put it away."""


def begin(first: int, last: int, noun: str) -> Progress:
    """Progress from `first` done to `last`, on standard error.

    Args:
        noun: what is counted ("step").
    """
    console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
    return _Bar(console, first, last, noun) if console.is_terminal else _Lines(console, first, last, noun)


class _Bar:
    """A bar with the time left, for a terminal. Log lines go above it."""

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
    """A line a minute, and one for the last, for logs."""

    def __init__(self, console: Console, first: int, last: int, noun: str) -> None:
        self._console, self._first, self._last, self._noun = console, first, last, noun
        self._began = self._said = time.monotonic()

    def update(self, done: int, words: str) -> None:
        now = time.monotonic()
        if now - self._said < LINE_SECONDS and done < self._last:
            return
        self._said = now
        left = (now - self._began) / max(done - self._first, 1) * (self._last - done)
        hours, minutes = divmod(round(left / 60), 60)
        self._console.print(f"{self._noun} {done} of {self._last}  {words}  {hours}:{minutes:02} h left", markup=False)

    def close(self) -> None:
        """Nothing to put away."""
