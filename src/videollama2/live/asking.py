"""The same question again and again, while a stream goes on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..receipt import Answer
from .reader import Reader
from .stream import Stream

_LOOK = 0.05  # seconds between two looks at the stream's clock


@dataclass(frozen=True, kw_only=True)
class Moment:
    """An answer about the seconds before `end`, of the stream's clock.

    Attributes:
        start: where the stream's last seconds began.
        late: seconds that the stream was ahead when the answer was there.
    """

    start: float
    end: float
    answer: Answer
    late: float


def every(stream: Stream, reader: Reader, question: str, seconds: float, **kwargs: Any) -> Iterator[Moment]:
    """Ask every so many `seconds` of the stream's clock, and once more at its end about what no answer saw.

    Where answering takes longer, the moments that passed meanwhile are left out: every answer is about the latest
    seconds.

    Args:
        reader: what fills the stream; its error is raised when what came before was asked about.
        kwargs: as for `Engine.answer`.

    Raises:
        UsageError: seconds that make no sense. VideoLlama2Error: see errors.py.
    """
    if not seconds > 0:
        raise UsageError(f"every {seconds!r} seconds; expected more than 0")
    asked, due = 0.0, seconds
    while True:
        ended = reader.ended.wait(_LOOK)  # looked at before the clock: what came last is not missed
        now = stream.now
        if now is not None and (now >= due or (ended and now - asked > _LOOK)):
            answer = stream.ask(question, **kwargs)
            ahead = (stream.now or now) - now
            yield Moment(start=max(now - stream.seconds, 0.0), end=now, answer=answer, late=ahead)
            asked, due = now, max(due + seconds, now + seconds)
        if ended:
            reader.check()
            return
