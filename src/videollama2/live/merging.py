"""Answers about parts of a clip to one answer about all of it, by text alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ContextOverflow
from ..receipt import Answer

if TYPE_CHECKING:
    from ..engine import Engine
    from ..generation.request import Request

Part = tuple[float, float, str]  # start, end, what was answered

_PROMPT = """These are notes about the parts of one video, in their order.

{notes}

Each of them answers this: {question}
Answer it in a few sentences for the whole video, from these notes alone."""


def merged(engine: "Engine", parts: Sequence[Part], request: "Request") -> Answer:
    """One answer from those about the parts; where they are too many for the model's context, from answers about
    each half of them, and so on.

    Raises:
        ContextOverflow: even two of them are too long.
    """
    asked = replace(
        request, media=None, start=None, end=None, video=True, audio=True, num_frames=None, protocol=None,
        question=_PROMPT.format(notes="\n".join(map(_note, parts)), question=request.question),
    )  # fmt: skip
    try:
        answer = engine.answer(asked)
    except ContextOverflow:
        if len(parts) <= 2:
            raise
    else:
        if len(parts) <= 2 or not _cramped(answer, request):
            return answer
    half = len(parts) // 2
    halves = [(some[0][0], some[-1][1], _one(engine, some, request)) for some in (parts[:half], parts[half:])]
    answer = merged(engine, halves, request)
    note = f"{len(parts)} answers are too many for the model's context: it was given summaries of them"
    return replace(answer, receipt=replace(answer.receipt, notes=tuple(dict.fromkeys([*answer.receipt.notes, note]))))


def clock(seconds: float) -> str:
    """A time as people write it: "1:05", "1:00:05"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _one(engine: "Engine", parts: Sequence[Part], request: "Request") -> str:
    return parts[0][2] if len(parts) == 1 else merged(engine, parts, request).text


def _note(part: Part) -> str:
    start, end, text = part
    return f"[{clock(start)}-{clock(end)}] {' '.join(text.split())}"


def _cramped(answer: Answer, request: "Request") -> bool:
    """Whether the answer was cut off because the notes left no room for it."""
    return answer.finish_reason == "length" and answer.receipt.generated_tokens < request.options.max_new_tokens
