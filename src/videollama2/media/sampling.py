"""Which frames and which seconds of audio: pure arithmetic, no I/O (spec §4.2, §4.3, §4.5).

FrameIndex, protocol, num_frames, start, end  ─ choose_frames ─►  frame indices
samples of audio                              ─ eight_windows ─►  windows in seconds
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from ..errors import TimeRangeError, UsageError
from ..protocols import Protocol
from .frames import FrameIndex

WINDOW_SECONDS = 2
WINDOWS_PER_VIDEO = 8


def choose_frames(
    index: FrameIndex,
    protocol: Protocol,
    *,
    num_frames: int | None,
    start: float | None,
    end: float | None,
    kind: Literal["video", "animation", "list"] = "video",
) -> tuple[list[int], tuple[str, ...]]:
    """Choose frames: the indices of those that the model will see.

    Args:
        index: all frames.
        num_frames: how many to sample; None: about one per second.
        start, end: seconds from the beginning.
        kind: "list" for images passed one by one, which a protocol may keep all; "animation" for GIF, WebP, APNG.

    Returns:
        The indices, ascending, with repeats if there are too few frames; and the losses: requested frames beyond the
        protocol's maximum.

    Raises:
        TimeRangeError: no frame is in the range.
    """
    fps = protocol.gif_fps if kind == "animation" and protocol.gif_fps is not None else index.fps
    if kind == "list" or protocol.frame_clock == "time":
        candidates = candidates_by_time(index.times, start, end, index.end_seconds)  # type: ignore[arg-type]
    else:
        candidates = candidates_by_index(index.frames, fps, start, end)
    keep_all = kind == "list" and protocol.given_frames == "keep"
    if keep_all:
        chosen = list(candidates)
    elif num_frames is not None and protocol.sampling == "uniform":
        chosen = [candidates[i] for i in uniform(len(candidates), num_frames)]
    else:
        chosen = [candidates[i] for i in per_second(len(candidates), fps)]
    if kind == "animation" and protocol.gif_fps is not None:
        chosen = list(dict.fromkeys(chosen))  # the public reader of animations yields each frame once
    limit, count = protocol.max_frames, len(chosen)
    if count <= limit:
        return chosen, ()
    if protocol.given_frames == "keep":
        return chosen[:limit], (f"only the first {limit} of {count} frames are used",)
    return [chosen[i] for i in uniform(count, limit)], (f"{limit} of {count} frames are used, spread evenly",)


def uniform(duration: int, num_frames: int) -> list[int]:
    """Indices of the centres of `num_frames` equal segments of 0..duration-1; repeats where duration < num_frames.

    Exact halves round up: 1e-6 is added before rounding half to even (spec §4.2).
    """
    if duration < 1 or num_frames < 1:
        raise UsageError(f"sampling {num_frames} of {duration} frames; expected 1 or more of each.")
    segment = (duration - 1) / num_frames
    return [round((segment * i + segment * (i + 1)) / 2 + 1e-6) for i in range(num_frames)]


def per_second(duration: int, fps: float) -> list[int]:
    """One index per second: arange(s // 2, duration, s) with s = min(floor(fps), duration) (spec §4.2).

    Below one frame per second, frames are more than a second apart and all are taken.
    """
    if duration < 1:
        raise UsageError(f"sampling from {duration} frames; expected 1 or more.")
    if not fps >= 1:
        return list(range(duration))
    segment = min(fps // 1, duration)
    start = segment // 2
    return [int(start + i * segment) for i in range(math.ceil((duration - start) / segment))]


def check_range(start: float | None, end: float | None) -> None:
    """Check that a range is finite, not negative, and ends after it starts.

    Raises:
        TimeRangeError: it is not; the message names the wrong bound.
    """
    for name, value in (("start", start), ("end", end)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise TimeRangeError(f"{name}={value!r}; expected a finite number of seconds from the beginning.")
        if value < 0:
            raise TimeRangeError(f"{name}={value:g} s is before the beginning; expected 0 or more.")
    if end is not None and end <= (start or 0):
        raise TimeRangeError(f"the range {start or 0:g}..{end:g} s is empty; expected end greater than start.")


def released_range(start: float | None, end: float | None) -> tuple[float | None, float | None]:
    """A range as the public implementation corrects it, for interfaces that promise its behaviour (spec §4.3.1).

    Only if both are given: negative values become 0, reversed ones are swapped, an empty range becomes 1 s long.
    """
    if start is None or end is None:
        return start, end
    start, end = max(start, 0), max(end, 0)
    if start > end:
        start, end = end, start
    return start, (start + 1 if start == end else end)


def candidates_by_index(duration: int, fps: float, start: float | None, end: float | None) -> range:
    """Frame indices of a range by mean frame rate, as the public implementation computes them (spec §4.3.3).

    Raises:
        TimeRangeError: no frame is in the range.
    """
    first = 0 if start is None else max(int(start * fps) - 1, 0)
    last = duration - 1 if end is None else min(int(end * fps) - 1, duration - 1)
    if first > last:
        raise TimeRangeError(_empty(start, end, duration / fps if fps > 0 else 0.0))
    return range(first, last + 1)


def candidates_by_time(times: Sequence[float], start: float | None, end: float | None, end_seconds: float) -> range:
    """Frame indices whose time lies in [start, end) seconds; for a range between two frames, the one on screen.

    Args:
        end_seconds: at which the last frame ends.

    Raises:
        TimeRangeError: the range ends before the first frame or begins after the last one.
    """
    n = len(times)
    if start is not None and start >= max(end_seconds, times[-1] + 1e-3):
        raise TimeRangeError(_empty(start, end, end_seconds))
    first = 0 if start is None else bisect_left(times, start - 1e-6)
    stop = n if end is None else bisect_left(times, end - 1e-6)
    if not stop:
        raise TimeRangeError(f"no frame in {_shown(start, end)}: the video's first frame is at {times[0]:.3f} s.")
    if first >= stop:
        first = stop - 1
    return range(first, stop)


def _empty(start: float | None, end: float | None, seconds: float) -> str:
    return f"no frame in {_shown(start, end)}: the video's last frame ends at {seconds:.3f} s."


def _shown(start: float | None, end: float | None) -> str:
    return f"{start or 0:g}..{'end' if end is None else f'{end:g}'} s"


def eight_windows(samples: int, rate: int) -> list[tuple[Fraction, Fraction]]:
    """(start, end) seconds of the eight 2-second windows that the public implementation uses of a video (§4.5).

    step = max(D - 2, 0) / 8, so the last window ends before the audio does; D <= 2 s gives eight copies of all of it.
    """
    duration = Fraction(samples, rate)
    step = max(duration - WINDOW_SECONDS, Fraction(0)) / WINDOWS_PER_VIDEO
    return [(i * step, i * step + WINDOW_SECONDS) for i in range(WINDOWS_PER_VIDEO)]


def window_samples(window: tuple[Fraction, Fraction], samples: int, rate: int) -> slice:
    """A window as a range of samples, both ends truncated and clipped to the audio."""
    start, end = window
    return slice(min(int(start * rate), samples), min(int(end * rate), samples))
