"""When something happens: a yes/no question about each window of a clip, scored by the model's own probabilities.

0    5    10   15   20          windows
├────┼────┼────┼────┤
 .02  .81  .93  .10              P(yes) ÷ (P(yes) + P(no)) of the answer's first token
      ├─────────┤                neighbouring windows at or above the threshold make a span; its score is their highest

Nothing is trained: results are as good as the model's answers to yes/no questions about a few seconds. Tune the
threshold on your clips.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..generation.request import as_request
from ..receipt import Answer
from ..subtitles import Subtitle
from .windows import Window, watch

if TYPE_CHECKING:
    from ..engine import Engine

QUESTION = 'Does this happen here: "{event}"? Answer yes or no.'
NO_ANSWER = "the model's first token was neither yes nor no"
_ALTERNATIVES = 20  # most likely first tokens among which yes and no are looked up
_NEXT_TO = 1e-3  # seconds between windows that still touch


@dataclass(frozen=True, kw_only=True)
class WindowScore:
    """The probability that the event happens between `start` and `end` seconds; None, with the error, if it is unknown.

    Attributes:
        answer: the answer to the question, one token long, with its receipt; None if the window can't be decoded.
    """

    start: float
    end: float
    score: float | None
    error: str | None = None
    answer: Answer | None = None


@dataclass(frozen=True, kw_only=True)
class EventSpan:
    """Seconds in which the event happens; `score` is the highest of its windows."""

    start: float
    end: float
    score: float

    def to_dict(self) -> dict[str, float]:
        """Plain data, ready for JSON."""
        return {"start": self.start, "end": self.end, "score": round(self.score, 4)}


@dataclass(frozen=True, kw_only=True)
class WhenResult:
    """When an event happens in a clip.

    Attributes:
        seconds: length of the clip; 0 for a still image.
        threshold: lowest score at which a window counts.
        spans: in order; adjacent and overlapping windows are merged.
    """

    event: str
    seconds: float
    threshold: float
    spans: tuple[EventSpan, ...]
    windows: tuple[WindowScore, ...]

    @property
    def subtitles(self) -> tuple[Subtitle, ...]:
        """The spans as subtitles."""
        text = "{} ({:.2f})"
        return tuple(
            Subtitle(round(1000 * s.start), round(1000 * s.end), text.format(self.event, s.score))
            for s in self.spans
            if s.end > s.start
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        windows = [
            {"start": w.start, "end": w.end, "score": None if w.score is None else round(w.score, 4), "error": w.error,
             "receipt": None if w.answer is None else asdict(w.answer.receipt)}
            for w in self.windows
        ]  # fmt: skip
        return {
            "event": self.event, "seconds": self.seconds, "threshold": self.threshold,
            "spans": [span.to_dict() for span in self.spans], "windows": windows,
        }  # fmt: skip


def when(
    engine: "Engine",
    media: Any,
    event: str | None = None,
    *,
    window: float | None = 5.0,
    overlap: float = 0.0,
    threshold: float = 0.5,
    subtitles: Sequence[Subtitle] = (),
    on_window: Callable[[WindowScore, int], None] | None = None,
    **kwargs: Any,
) -> WhenResult:
    """Find when an event happens in a clip.

    Args:
        media: one media item, as for `Engine.answer`; or a Request with one, whose question is the event.
        event: what happens, in words: "the door opens".
        window, overlap, subtitles, kwargs: as for `watch`; the answer's own options have no effect.
        threshold: lowest score (0 to 1) at which a window counts.
        on_window: called with each window when it is scored, and their number.

    Raises:
        UsageError: an invalid threshold, window or overlap, or no event. VideoLlama2Error: as `watch`.
    """
    if not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
        raise UsageError(f"threshold={threshold!r}; expected a number from 0 to 1.")
    request = as_request(media, event, kwargs)
    if not (request.question or "").strip():
        raise UsageError("no event; expected when(engine, media, event), with an event such as 'the door opens'.")
    asked = replace(
        request,
        question=QUESTION.format(event=request.question),
        options=replace(
            request.options, max_new_tokens=1, temperature=0.0, stop=(), schema=None, top_logprobs=_ALTERNATIVES
        ),
    )
    scored: list[WindowScore] = []

    def take(done: Window, total: int) -> None:
        scored.append(_scored(engine, done))
        if on_window is not None:
            on_window(scored[-1], total)

    found = watch(engine, asked, window=window, overlap=overlap, summary=False, subtitles=subtitles, on_window=take)
    return WhenResult(
        event=request.question or "",
        seconds=found.seconds,
        threshold=float(threshold),
        spans=merged_spans(scored, threshold),
        windows=tuple(scored),
    )


def merged_spans(scored: Sequence[WindowScore], threshold: float) -> tuple[EventSpan, ...]:
    """Windows at or above the threshold; those that touch or overlap are merged into one span."""
    spans: list[EventSpan] = []
    for window in scored:
        if window.score is None or window.score < threshold:
            continue
        last = spans[-1] if spans else None
        if last is not None and window.start <= last.end + _NEXT_TO:
            spans[-1] = replace(last, end=max(last.end, window.end), score=max(last.score, window.score))
        else:
            spans.append(EventSpan(start=window.start, end=window.end, score=window.score))
    return tuple(spans)


def _scored(engine: "Engine", window: Window) -> WindowScore:
    score, error = None, window.error
    if window.answer is not None:
        score = yes_score(window.answer, engine.processor.decode)
        error = NO_ANSWER if score is None else None
    return WindowScore(start=window.start, end=window.end, score=score, error=error, answer=window.answer)


def yes_score(answer: Answer, decode: Callable[[list[int]], str]) -> float | None:
    """P(yes) ÷ (P(yes) + P(no)) of an answer's first token, over all spellings; None if neither is likely."""
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in itertools.chain.from_iterable(first.top for first in (answer.logprobs or ())[:1]):
        word = decode([token]).strip().lower().rstrip(".,!")
        if word in mass:
            mass[word] += math.exp(logprob)
    total = sum(mass.values())
    return mass["yes"] / total if total > 0 else None
