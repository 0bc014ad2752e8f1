"""Long clips: a window slides over them, each is asked about alone, and the answers are merged.

0      30      60      90                 windows of 30 s
├──────┼───────┼───────┤
answer   answer  answer  ──► summary      text alone: made of the answers, whose receipts it carries
"""

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import MediaError, TimeRangeError, UsageError
from ..generation.request import as_request
from ..media.sampling import check_range
from ..protocols import FULL
from ..receipt import Answer, Receipt
from ..subtitles import Line
from ..text.conversations import Media
from .merging import merged
from .subtitled import asked_with

if TYPE_CHECKING:
    from ..engine import Engine
    from ..generation.request import Request

logger = logging.getLogger(__name__)

MOST_WINDOWS = 20_000
_REST = 0.2  # a last window shorter than this share of a step belongs to the one before
_PROBE = replace(FULL, name="length", sound_seconds=1.0)  # little is decoded, and all is counted


@dataclass(frozen=True, kw_only=True)
class Window:
    """What was answered about the seconds from `start` to `end`; without an answer, why there is none.

    A still picture has no seconds: its only window is from 0 to 0.
    """

    start: float
    end: float
    answer: Answer | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """Of the answer; empty without one."""
        return "" if self.answer is None else self.answer.text

    def line(self) -> Line:
        """As a subtitle."""
        return Line(round(1000 * self.start), round(1000 * self.end), self.text)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A whole clip, window by window.

    Attributes:
        seconds: of the clip; 0 of a still picture.
        summary: made of the windows' answers. Its receipt lists what each window saw and heard. None: not asked for.
    """

    question: str
    seconds: float
    windows: tuple[Window, ...]
    summary: Answer | None

    @property
    def lines(self) -> tuple[Line, ...]:
        """The answers as subtitles: of windows that overlap each ends where the next begins."""
        told = [window.line() for window in self.windows if window.answer is not None and window.end > window.start]
        ends = [min(a.end, b.start) for a, b in itertools.pairwise(told)] + [line.end for line in told[-1:]]
        return tuple(replace(line, end=end) for line, end in zip(told, ends, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return asdict(self)


def watch(
    engine: "Engine",
    media: Any,
    question: str | None = None,
    *,
    window: float | None = 30.0,
    overlap: float = 0.0,
    summary: bool = True,
    subtitles: Sequence[Line] = (),
    on_window: Callable[[Window, int], None] | None = None,
    **kwargs: Any,
) -> Watched:
    """Ask the same about every window of a long clip, and merge the answers.

    Args:
        media: one medium, as for `Engine.answer`; or a whole Request about one.
        window: seconds of each; the last one may be shorter, or by a fifth of a step longer. None: one over all of it.
        overlap: seconds that a window shares with the one before.
        summary: whether the answers are merged, by asking the model about them alone, without the clip.
        subtitles: what is said in the clip; each window is asked with its own.
        on_window: told each window as it is done, and how many there are; what it raises ends the watching.
        kwargs: as for `Engine.answer`; `start` and `end` are those of the whole.

    A window that can't be decoded is told as such, and the others go on; in strict mode, or where every one fails,
    the error is raised.

    Raises:
        UsageError: a window or an overlap that makes no sense. VideoLlama2Error: see errors.py.
    """
    _check(window, overlap)
    request = as_request(media, question, kwargs)
    medium = _only(request)
    seconds = length(engine, medium)
    spans = [(0.0, 0.0)] if seconds is None else windows(medium.start, medium.end, seconds, window, overlap)
    whole = len(spans) == 1  # asked as it would be without windows
    done: list[Window] = []
    first_error: MediaError | None = None
    for start, end in spans:
        part = medium if whole else replace(medium, start=start, end=end)
        asked = replace(request, media=part, start=None, end=None, video=True, audio=True, num_frames=None)
        try:
            found = Window(start=start, end=end, answer=asked_with(engine, asked, subtitles))
        except MediaError as error:
            if request.strict:
                raise
            first_error = first_error or error
            found = Window(start=start, end=end, error=f"{type(error).__name__}: {error}")
            logger.warning("%s to %s s: %s", f"{start:g}", f"{end:g}", error)
        done.append(found)
        if on_window is not None:
            on_window(found, len(spans))
    if first_error is not None and all(w.answer is None for w in done):
        raise first_error
    total = _summary(engine, request, done) if summary else None
    return Watched(question=request.question or "", seconds=seconds or 0.0, windows=tuple(done), summary=total)


def windows(
    start: float | None, end: float | None, seconds: float, window: float | None, overlap: float = 0.0
) -> list[tuple[float, float]]:
    """(start, end) of each window in seconds, of what lies from `start` to `end` of a clip of so many `seconds`.

    Raises:
        TimeRangeError: nothing does. UsageError: there would be far too many.
    """
    check_range(start, end)
    first, last = start or 0.0, seconds if end is None else min(end, seconds)
    if first >= last:
        raise TimeRangeError(f"the clip lasts {seconds:.3f} s, and start is {first:g} s. Choose a range inside it.")
    if window is None:
        return [(first, last)]
    step = window - overlap
    count = max(math.ceil((last - first - overlap) / step - _REST), 1)
    if count > MOST_WINDOWS:
        raise UsageError(f"{count:,} windows; at most {MOST_WINDOWS:,} are asked about: take longer ones")
    begins = [round(first + i * step, 6) for i in range(count)]
    return [(begin, round(min(begin + window, last), 6)) for begin in begins[:-1]] + [(begins[-1], round(last, 6))]


def length(engine: "Engine", medium: Media) -> float | None:
    """Seconds of a clip, by its pictures and its sound, whichever is longer; None of a still picture.

    Raises:
        MediaError: it can't be opened.
    """
    clip = engine.opener(
        medium.source,
        num_frames=1,
        protocol=_PROBE,
        want_video=medium.video,
        want_audio=medium.audio,
        times=medium.times,
    )
    if clip.kind == "image":
        return None
    pictures = clip.frames_total / clip.fps if clip.fps > 0 else 0.0
    sound = 0.0 if clip.wave is None else clip.wave.start_seconds + clip.wave.available_seconds
    return max(pictures, sound)


def _check(window: float | None, overlap: float) -> None:
    if window is None:
        if overlap:
            raise UsageError(f"overlap={overlap!r} of one window over all of the clip; leave it out")
        return
    if not (isinstance(window, int | float) and 0 < window < math.inf):
        raise UsageError(f"window={window!r}; expected seconds, more than 0")
    if not (isinstance(overlap, int | float) and 0 <= overlap <= 0.9 * window):
        raise UsageError(f"overlap={overlap!r}; expected seconds from 0 to nine tenths of the window ({window:g} s)")


def _only(request: "Request") -> Media:
    media = request.media_items()
    if len(media) != 1 or request.question is None:
        raise UsageError(f"{len(media)} media; a window slides over one, and each is asked a question")
    return media[0]


def _summary(engine: "Engine", request: "Request", done: Sequence[Window]) -> Answer:
    """The windows' answers as one; of one window, its own."""
    told = [window for window in done if window.answer is not None]
    if len(done) == 1 and done[0].answer is not None:
        return done[0].answer
    answers = [window.answer for window in told if window.answer is not None]
    made = merged(engine, [(w.start, w.end, w.text) for w in told], request)
    notes = [
        f"a summary of {len(told)} windows' answers, made of their text alone; media lists what each window saw and "
        "heard, prompt_tokens are the summary's own"
    ]
    notes += [f"nothing is known of {w.start:g} to {w.end:g} s: {w.error}" for w in done if w.answer is None]
    entries = tuple(entry for answer in answers for entry in answer.receipt.media)
    receipt: Receipt = replace(
        made.receipt,
        protocol=answers[0].receipt.protocol,
        video=next((a.receipt.video for a in answers if a.receipt.video), None),
        audio=next((a.receipt.audio for a in answers if a.receipt.audio), None),
        media=entries,
        notes=(*made.receipt.notes, *notes),
    )
    return replace(made, receipt=receipt)
