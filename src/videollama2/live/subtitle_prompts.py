"""Questions about a clip together with its subtitles.

They supply the words that the audio encoder can't: BEATs recognises that someone speaks, but not what they say.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..generation.request import Request, as_request
from ..receipt import Answer
from ..subtitles import Subtitle, in_range, quote_before, shown_at

if TYPE_CHECKING:
    from ..engine import Engine
    from ..generation.session import Session

MAX_CHARACTERS = 4_000  # of subtitles in a question; beyond that, only those at the frames are quoted


def ask_with_subtitles(
    engine: "Engine", media: Any, question: str, subtitles: Sequence[Subtitle], **kwargs: Any
) -> Answer:
    """Like `Engine.answer`, with the subtitles of the requested range quoted before the question.

    Beyond 4,000 characters, only those shown at the sampled frames are quoted. The receipt reports which were used.

    Args:
        media: one media item.
        subtitles: subtitles of the whole clip (`read_subtitles`).
        kwargs: as for `Engine.answer`.

    Raises:
        UsageError: not exactly one media item. VideoLlama2Error: see errors.py.
    """
    return answer_with_subtitles(engine, as_request(media, question, kwargs), subtitles)


def answer_with_subtitles(engine: "Engine", request: Request, subtitles: Sequence[Subtitle]) -> Answer:
    """Answer a request with the subtitles of its range; without subtitles, like the engine."""
    if not subtitles:
        return engine.answer(request)
    session, question, note = open_with_subtitles(engine, request, subtitles)
    return with_notes(session.ask(question), note)


def open_with_subtitles(
    engine: "Engine", request: Request, subtitles: Sequence[Subtitle], on_stage: Any = None
) -> tuple["Session", str, str]:
    """A session about a request's media item, the question with its subtitles, and a note for the receipt.

    Raises:
        UsageError: not exactly one media item, or no question.
    """
    media = request.media_items()
    if len(media) != 1 or request.question is None:
        raise UsageError(f"subtitles need one clip and a question about it; got {len(media)} media items.")
    extra = {} if on_stage is None else {"on_stage": on_stage}
    session = engine.open(request, **extra)
    available = in_range(subtitles, media[0].start, media[0].end)
    which, texts = "in the requested range", tuple(subtitle.text for subtitle in available)
    if sum(map(len, texts)) > MAX_CHARACTERS:
        video = next((r.video for r in session.media.receipts if r.video), None)
        times = () if video is None or video.times_seconds is None else video.times_seconds
        if times:
            which, texts = "at the frames", shown_at(available, [1000 * t for t in times], published=False)
        texts = _that_fit(texts)
    which = "all" if len(texts) == len(available) else f"those {which}, up to {MAX_CHARACTERS:,} characters"
    if not available:
        note = f"subtitles: none of the {len(subtitles)} lines is in the requested range"
        return session, request.question, note
    note = f"subtitles: {len(texts)} of {len(available)} lines in the requested range are quoted: {which}"
    return session, quote_before(request.question, texts), note


def with_notes(answer: Answer, *notes: str) -> Answer:
    """The answer with more notes in its receipt."""
    return replace(answer, receipt=replace(answer.receipt, notes=(*answer.receipt.notes, *notes)))


def _that_fit(texts: Sequence[str]) -> tuple[str, ...]:
    """The first texts, up to the limit."""
    kept, left = [], MAX_CHARACTERS
    for text in texts:
        left -= len(text)
        if left < 0:
            break
        kept.append(text)
    return tuple(kept)
