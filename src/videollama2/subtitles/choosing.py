"""Which of many lines matter: those of a time range, or those that stand there at some moments."""

from collections.abc import Sequence

from .lines import Line


def between(lines: Sequence[Line], start: float | None, end: float | None) -> tuple[Line, ...]:
    """The lines that are said, in part at least, from `start` to `end` seconds; None: the beginning, the end."""
    first, last = 1000 * (start or 0.0), float("inf") if end is None else 1000 * end
    return tuple(line for line in lines if line.end > first and line.start < last)


def picked(lines: Sequence[Line], at: Sequence[float], *, published: bool) -> tuple[str, ...]:
    """What is said at the moments, in their order.

    Args:
        at: milliseconds.
        published: as Video-MME's authors do it: a line is not said at its very beginning, and a long one is said again
            at each moment. Else from its beginning on, and each once.
    """
    found: list[Line] = []
    for moment in at:
        said = (x for x in lines if (x.start < moment if published else x.start <= moment) and moment < x.end)
        line = next(said, None)
        if line is not None and (published or line not in found):
            found.append(line)
    return tuple(line.text for line in found)


def quoted(question: str, said: Sequence[str]) -> str:
    """The question with what is said before it; the question alone where nothing is."""
    return f'This is said in the video: "{" ".join(said)}"\n{question}' if said else question
