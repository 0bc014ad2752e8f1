"""Which frames and which seconds: pure arithmetic, no I/O (spec §4.2, §4.3, §4.5).

duration in frames, policy  ->  frame indices
samples of sound, policy    ->  windows in seconds
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

from ..errors import TimeRangeError, UsageError

WINDOW_SECONDS = 2
WINDOWS_PER_VIDEO = 8


def uniform(duration: int, num_frames: int) -> list[int]:
    """Indices of the centres of `num_frames` equal segments of 0..duration-1; repeats where duration < num_frames.

    Exact halves round up: the 1e-6 is there for that, then rounding is half-to-even (spec §4.2).
    """
    if duration < 1 or num_frames < 1:
        raise UsageError(f"sampling {num_frames} of {duration} frames; both must be at least 1.")
    segment = (duration - 1) / num_frames
    return [round((segment * i + segment * (i + 1)) / 2 + 1e-6) for i in range(num_frames)]


def per_second(duration: int, fps: float) -> list[int]:
    """One index per second: arange(s // 2, duration, s) with s = min(floor(fps), duration) (spec §4.2).

    Below one frame per second every frame is at least a second apart, so all are taken.
    """
    if duration < 1:
        raise UsageError(f"sampling from {duration} frames; there must be at least 1.")
    if not fps >= 1:
        return list(range(duration))
    segment = min(fps // 1, duration)
    start = segment // 2
    return [int(start + i * segment) for i in range(math.ceil((duration - start) / segment))]


def check_range(start: float | None, end: float | None) -> None:
    """A range is finite, not negative, and ends after it starts.

    Raises:
        TimeRangeError: otherwise; the message says which bound is wrong.
    """
    for name, value in (("start", start), ("end", end)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise TimeRangeError(f"{name}={value!r}; expected seconds from the beginning, as a finite number.")
        if value < 0:
            raise TimeRangeError(f"{name}={value:g} s is before the beginning; expected 0 or more.")
    if end is not None and end <= (start or 0):
        raise TimeRangeError(f"the range {start or 0:g}..{end:g} s is empty; end must be greater than start.")


def released_range(start: float | None, end: float | None) -> tuple[float | None, float | None]:
    """The public implementation's repair of a range, for faces that promise its behaviour (spec §4.3.1).

    Only when both are given: negatives become 0, the two are swapped if reversed, an empty range becomes 1 s long.
    """
    if start is None or end is None:
        return start, end
    start, end = max(start, 0), max(end, 0)
    if start > end:
        start, end = end, start
    return start, (start + 1 if start == end else end)


def candidates_by_index(duration: int, fps: float, start: float | None, end: float | None) -> range:
    """Frame indices of a range by mean rate, as the public implementation counts them (spec §4.3.3).

    Raises:
        TimeRangeError: no frame is in the range.
    """
    first = 0 if start is None else max(int(start * fps) - 1, 0)
    last = duration - 1 if end is None else min(int(end * fps) - 1, duration - 1)
    if first > last:
        raise TimeRangeError(_empty(start, end, duration / fps if fps > 0 else 0.0))
    return range(first, last + 1)


def candidates_by_time(times: Sequence[float], start: float | None, end: float | None) -> range:
    """Frame indices whose time in seconds lies in [start, end); of a range between two, the frame on screen.

    Raises:
        TimeRangeError: the range begins after the last frame's end (taken as one mean frame after it).
    """
    n = len(times)
    step = (times[-1] - times[0]) / (n - 1) if n > 1 else 1.0
    if start is not None and start >= times[-1] + max(step, 1e-3):
        raise TimeRangeError(_empty(start, end, times[-1] + step))
    first = 0 if start is None else bisect_left(times, start - 1e-6)
    stop = n if end is None else bisect_left(times, end - 1e-6)
    if first >= stop:
        first = max(stop - 1, 0)
        stop = first + 1
    return range(first, stop)


def _empty(start: float | None, end: float | None, seconds: float) -> str:
    shown = f"{start or 0:g}..{'end' if end is None else f'{end:g}'} s"
    return f"no frame lies in {shown}: the medium lasts {seconds:.3f} s. Choose a range inside it."


def eight_windows(samples: int, rate: int) -> list[tuple[Fraction, Fraction]]:
    """(start, end) in seconds of the eight 2-second windows that the public implementation hears of a video (§4.5).

    step = max(D - 2, 0) / 8 exactly, so the last window ends before the sound does; D <= 2 s gives eight whole copies.
    """
    duration = Fraction(samples, rate)
    step = max(duration - WINDOW_SECONDS, Fraction(0)) / WINDOWS_PER_VIDEO
    return [(i * step, i * step + WINDOW_SECONDS) for i in range(WINDOWS_PER_VIDEO)]


def window_samples(window: tuple[Fraction, Fraction], samples: int, rate: int) -> slice:
    """The window as samples, both ends truncated and kept inside the sound."""
    start, end = window
    return slice(min(int(start * rate), samples), min(int(end * rate), samples))
