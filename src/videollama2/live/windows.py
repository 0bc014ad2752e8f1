"""Long clips: ask about one window of seconds after another, and summarise the answers.

0      30      60      90                 windows of 30 s
├──────┼───────┼───────┤
answer   answer  answer  ──► summary      from the text of the answers alone; its receipt lists what each window used
"""

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import ContextOverflow, MediaError, TimeRangeError, UsageError
from ..generation.request import Request, as_request
from ..media.sampling import check_range
from ..protocols import FULL
from ..receipt import Answer, Receipt
from ..subtitles import Subtitle
from ..text.media_parts import Media
from .subtitle_prompts import answer_with_subtitles

if TYPE_CHECKING:
    from ..engine import Engine

logger = logging.getLogger(__name__)

MAX_WINDOWS = 20_000
_MERGED_REMAINDER = 0.2  # a last window shorter than this share of a step is merged into the one before
_LENGTH_PROBE = replace(FULL, name="length", audio_seconds=1.0)  # decodes little, and reports the length of all streams

SummaryPart = tuple[float, float, str]  # start, end, answer
_SUMMARY_PROMPT = """These are notes about the parts of one video, in their order.

{notes}

Each of them answers this: {question}
Answer it in a few sentences for the whole video, from these notes alone."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The answer about `start` to `end` seconds, or the error that prevented it.

    A still image has no duration: its only window is from 0 to 0.
    """

    start: float
    end: float
    answer: Answer | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """The text of the answer; empty if there is none."""
        return "" if self.answer is None else self.answer.text

    def subtitle(self) -> Subtitle:
        """The answer as a subtitle."""
        return Subtitle(round(1000 * self.start), round(1000 * self.end), self.text)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class WatchResult:
    """The answers about a whole clip.

    Attributes:
        seconds: length of the clip; 0 for a still image.
        summary: made from the windows' answers; its receipt lists what each window used. None if not requested.
    """

    question: str
    seconds: float
    windows: tuple[Window, ...]
    summary: Answer | None

    @property
    def subtitles(self) -> tuple[Subtitle, ...]:
        """The answers as subtitles (`subtitles_of`)."""
        return subtitles_of([(w.start, w.end, w.text) for w in self.windows if w.answer is not None])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)


def subtitles_of(parts: Sequence[SummaryPart]) -> tuple[Subtitle, ...]:
    """The answers about parts of a clip as subtitles; where parts overlap, a subtitle ends where the next begins."""
    shown = [Subtitle(round(1000 * start), round(1000 * end), text) for start, end, text in parts if end > start]
    ends = [min(a.end, b.start) for a, b in itertools.pairwise(shown)] + [s.end for s in shown[-1:]]
    return tuple(replace(s, end=end) for s, end in zip(shown, ends, strict=True))


def watch(
    engine: "Engine",
    media: Any,
    question: str | None = None,
    *,
    window: float | None = 30.0,
    overlap: float = 0.0,
    summary: bool = True,
    subtitles: Sequence[Subtitle] = (),
    on_window: Callable[[Window, int], None] | None = None,
    **kwargs: Any,
) -> WatchResult:
    """Ask the same question about every window of a long clip, and summarise the answers.

    A window that can't be decoded gets an error, and the remaining windows are still answered; in strict mode, or if
    every window fails, the error is raised.

    Args:
        media: one media item, as for `Engine.answer`; or a Request with one.
        window: seconds per window; the last one may be shorter, or longer by a fifth of a step. None: a single window.
        overlap: seconds that a window shares with the one before.
        summary: whether to summarise, by asking the model about the answers alone, without the clip.
        subtitles: subtitles of the clip; each window's question quotes its own.
        on_window: called with each window when it is done, and their number; an exception it raises ends the run.
        kwargs: as for `Engine.answer`; `start` and `end` apply to the whole clip.

    Raises:
        UsageError: invalid window or overlap. VideoLlama2Error: see errors.py.
    """
    _check_window(window, overlap)
    request = as_request(media, question, kwargs)
    item = _single_item(request)
    seconds = clip_seconds(engine, item)
    spans = [(0.0, 0.0)] if seconds is None else windows(item.start, item.end, seconds, window, overlap)
    single = len(spans) == 1  # then the request equals one without windows
    done: list[Window] = []
    first_error: MediaError | None = None
    for start, end in spans:
        part = item if single else replace(item, start=start, end=end)
        part_request = replace(request, media=part, start=None, end=None, video=True, audio=True, num_frames=None)
        try:
            finished = Window(start=start, end=end, answer=answer_with_subtitles(engine, part_request, subtitles))
        except MediaError as error:
            if request.strict:
                raise
            first_error = first_error or error
            finished = Window(start=start, end=end, error=f"{type(error).__name__}: {error}")
            logger.warning("%s to %s s: %s", f"{start:g}", f"{end:g}", error)
        done.append(finished)
        if on_window is not None:
            on_window(finished, len(spans))
    if first_error is not None and all(w.answer is None for w in done):
        raise first_error
    summarised = _summary(engine, request, done) if summary else None
    return WatchResult(question=request.question or "", seconds=seconds or 0.0, windows=tuple(done), summary=summarised)


def windows(
    start: float | None, end: float | None, seconds: float, window: float | None, overlap: float = 0.0
) -> list[tuple[float, float]]:
    """(start, end) seconds of each window from `start` to `end` of a clip that is `seconds` long.

    Raises:
        TimeRangeError: the range is outside the clip. UsageError: far too many windows.
    """
    check_range(start, end)
    first, last = start or 0.0, seconds if end is None else min(end, seconds)
    if first >= last:
        raise TimeRangeError(f"start={first:g}, but the clip ends at {seconds:.3f} s; choose a range within it.")
    if window is None:
        return [(first, last)]
    step = window - overlap
    count = max(math.ceil((last - first - overlap) / step - _MERGED_REMAINDER), 1)
    if count > MAX_WINDOWS:
        raise UsageError(f"{count:,} windows; the limit is {MAX_WINDOWS:,}. Make them longer.")
    begins = [round(first + i * step, 6) for i in range(count)]
    return [(begin, round(min(begin + window, last), 6)) for begin in begins[:-1]] + [(begins[-1], round(last, 6))]


def clip_seconds(engine: "Engine", item: Media) -> float | None:
    """Length of a clip in seconds (Clip.seconds); None for a still image.

    Raises:
        MediaError: it can't be opened.
    """
    probe = _LENGTH_PROBE if item.fps is None else replace(_LENGTH_PROBE, folder_fps=item.fps)
    clip = engine.opener(
        item.source,
        num_frames=1,
        protocol=probe,
        want_video=item.video,
        want_audio=item.audio,
        times=item.times,
        **item.tracks,
    )
    return clip.seconds


def summarise(engine: "Engine", parts: Sequence[SummaryPart], request: Request) -> Answer:
    """One answer from the answers about the parts. If they exceed the model's context, summarise each half first.

    Raises:
        ContextOverflow: even two answers are too long.
    """
    text_only = replace(
        request, media=None, start=None, end=None, video=True, audio=True, num_frames=None, protocol=None,
        question=_SUMMARY_PROMPT.format(notes="\n".join(map(_as_note, parts)), question=request.question),
    )  # fmt: skip
    try:
        answer = engine.answer(text_only)
    except ContextOverflow:
        if len(parts) <= 2:
            raise
    else:
        if len(parts) <= 2 or not _was_cut_short(answer, request):
            return answer
    middle = len(parts) // 2
    halves = [
        (half[0][0], half[-1][1], half[0][2] if len(half) == 1 else summarise(engine, half, request).text)
        for half in (parts[:middle], parts[middle:])
    ]
    answer = summarise(engine, halves, request)
    note = f"{len(parts)} answers exceed the model's context: they were summarised in parts first"
    return replace(answer, receipt=replace(answer.receipt, notes=tuple(dict.fromkeys([*answer.receipt.notes, note]))))


def clock_time(seconds: float) -> str:
    """A readable time: "1:05", "1:00:05"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _check_window(window: float | None, overlap: float) -> None:
    if window is None:
        if overlap:
            raise UsageError(f"overlap={overlap!r} without a window; drop the overlap, or set a window.")
        return
    if not (isinstance(window, int | float) and 0 < window < math.inf):
        raise UsageError(f"window={window!r}; expected more than 0 seconds.")
    if not (isinstance(overlap, int | float) and 0 <= overlap <= 0.9 * window):
        raise UsageError(f"overlap={overlap!r}; expected seconds from 0 to nine tenths of the window ({window:g} s).")


def _single_item(request: Request) -> Media:
    media = request.media_items()
    if len(media) != 1 or request.question is None:
        raise UsageError(f"{len(media)} media items; expected one, and a question about it.")
    return media[0]


def _summary(engine: "Engine", request: Request, done: Sequence[Window]) -> Answer:
    """One answer that merges the windows' answers; with a single window, its answer."""
    if len(done) == 1 and done[0].answer is not None:
        return done[0].answer
    answered = [window for window in done if window.answer is not None]
    answers = [window.answer for window in answered if window.answer is not None]
    summary = summarise(engine, [(w.start, w.end, w.text) for w in answered], request)
    notes = [
        f"a summary of {len(answered)} windows' answers, made from their text alone; media lists what each window "
        "used, prompt_tokens counts the summary's prompt"
    ]
    notes += [f"{w.start:g} to {w.end:g} s are missing: {w.error}" for w in done if w.answer is None]
    receipt: Receipt = replace(
        summary.receipt,
        protocol=answers[0].receipt.protocol,
        video=next((a.receipt.video for a in answers if a.receipt.video), None),
        audio=next((a.receipt.audio for a in answers if a.receipt.audio), None),
        media=tuple(entry for answer in answers for entry in answer.receipt.media),
        notes=(*summary.receipt.notes, *notes),
    )
    return replace(summary, receipt=receipt)


def _as_note(part: SummaryPart) -> str:
    start, end, text = part
    return f"[{clock_time(start)}-{clock_time(end)}] {' '.join(text.split())}"


def _was_cut_short(answer: Answer, request: Request) -> bool:
    """Whether the answers filled the context, so that the summary was cut off."""
    return answer.finish_reason == "length" and answer.receipt.generated_tokens < request.options.max_new_tokens
