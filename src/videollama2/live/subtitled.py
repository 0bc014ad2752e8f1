"""A question about a clip together with what is said in it, as its subtitles have it.

The language model reads what the sound encoder can't: BEATs hears that someone speaks, not what.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..generation.request import Request, as_request
from ..receipt import Answer
from ..subtitles import Line, between, picked, quoted

if TYPE_CHECKING:
    from ..engine import Engine
    from ..generation.session import Session

MOST_CHARACTERS = 4_000  # of subtitles in a question; of longer ones those at the frames


def ask_with_subtitles(engine: "Engine", media: Any, question: str, lines: Sequence[Line], **kwargs: Any) -> Answer:
    """As `Engine.answer`, with the subtitles of the asked time range before the question.

    Where they are longer than 4,000 characters, those that stand there at the frames which the model sees. The receipt
    says which were used.

    Args:
        media: one medium.
        lines: subtitles of the whole clip (`subtitles.read_subtitles`).
        kwargs: as for `Engine.answer`.

    Raises:
        UsageError: not one medium. VideoLlama2Error: see errors.py.
    """
    return asked_with(engine, as_request(media, question, kwargs), lines)


def asked_with(engine: "Engine", request: Request, lines: Sequence[Line]) -> Answer:
    """The answer to a request, with what is said in its time range; without lines, as the engine gives it."""
    if not lines:
        return engine.answer(request)
    session, question, note = opened_with(engine, request, lines)
    return noted(session.ask(question), note)


def opened_with(
    engine: "Engine", request: Request, lines: Sequence[Line], on_stage: Any = None
) -> tuple["Session", str, str]:
    """The open medium of a request, its question with what is said, and what the receipt is to say of that.

    Raises:
        UsageError: not one medium, or no question beside it.
    """
    media = request.media_items()
    if len(media) != 1 or request.question is None:
        raise UsageError(f"subtitles belong to one clip and a question about it; there are {len(media)} media")
    extra = {} if on_stage is None else {"on_stage": on_stage}
    session = engine.open(request, **extra)
    said = between(lines, media[0].start, media[0].end)
    where, texts = "in the asked range", tuple(line.text for line in said)
    if sum(map(len, texts)) > MOST_CHARACTERS:
        seen = next((r.video for r in session.media.receipts if r.video), None)
        times = () if seen is None or seen.times_seconds is None else seen.times_seconds
        if times:
            where, texts = "at the frames", picked(said, [1000 * t for t in times], published=False)
        texts = _fitting(texts)
    note = f"subtitles: {len(texts)} of {len(said)} lines of the asked range were given, {_where(where, texts, said)}"
    return session, quoted(request.question, texts), note


def noted(answer: Answer, *notes: str) -> Answer:
    """The answer with more notes in its receipt."""
    return replace(answer, receipt=replace(answer.receipt, notes=(*answer.receipt.notes, *notes)))


def _fitting(texts: Sequence[str]) -> tuple[str, ...]:
    """The first ones, as many as may be."""
    kept, left = [], MOST_CHARACTERS
    for text in texts:
        left -= len(text)
        if left < 0:
            break
        kept.append(text)
    return tuple(kept)


def _where(where: str, texts: Sequence[str], said: Sequence[Line]) -> str:
    return "all of them" if len(texts) == len(said) else f"those {where}, as far as {MOST_CHARACTERS:,} characters go"
