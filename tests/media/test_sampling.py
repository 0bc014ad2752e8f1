"""Choosing frames and windows of audio."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videollama2.errors import TimeRangeError, UsageError
from videollama2.media import FrameIndex
from videollama2.media.sampling import (
    candidates_by_index,
    candidates_by_time,
    check_range,
    choose_frames,
    eight_windows,
    per_second,
    released_range,
    uniform,
    window_samples,
)
from videollama2.protocols import FULL, RELEASED


def test_uniform_examples() -> None:
    assert uniform(100, 8) == [6, 19, 31, 43, 56, 68, 80, 93]
    assert uniform(8, 8) == list(range(8))
    assert uniform(5, 8) == [0, 1, 1, 2, 2, 3, 3, 4]
    assert uniform(1, 4) == [0, 0, 0, 0]


@given(st.integers(1, 5000), st.integers(1, 64))
def test_uniform_is_ascending_and_inside(duration: int, frames: int) -> None:
    indices = uniform(duration, frames)
    assert len(indices) == frames and indices == sorted(indices)
    assert indices[0] >= 0 and indices[-1] < duration


@given(st.integers(1, 5000), st.floats(0.01, 240))
def test_per_second_is_ascending_and_inside(duration: int, fps: float) -> None:
    indices = per_second(duration, fps)
    assert indices == sorted(set(indices)) and indices[0] >= 0 and indices[-1] < duration


def test_sampling_from_nothing() -> None:
    with pytest.raises(UsageError):
        uniform(0, 8)
    with pytest.raises(UsageError):
        per_second(0, 25)


@pytest.mark.parametrize(
    ("start", "end"),
    [(-1, None), (None, -1), (3, 3), (5, 2), (math.nan, None), (None, math.inf), (True, None), (None, 0), ("1", None)],
)
def test_invalid_ranges(start: float | None, end: float | None) -> None:
    with pytest.raises(TimeRangeError):
        check_range(start, end)


def test_released_range() -> None:
    assert released_range(2.5, 1.0) == (1.0, 2.5)
    assert released_range(2, 2) == (2, 3)
    assert released_range(-4, 2) == (0, 2)
    assert released_range(None, -4) == (None, -4)  # the public code repairs only pairs


def test_candidates_by_index() -> None:
    assert candidates_by_index(100, 25.0, None, None) == range(0, 100)
    assert candidates_by_index(100, 25.0, 1, 2) == range(24, 50)
    assert candidates_by_index(100, 25.0, 1, 900) == range(24, 100)
    with pytest.raises(TimeRangeError, match=r"4\.000 s"):
        candidates_by_index(100, 25.0, 5, None)
    with pytest.raises(TimeRangeError):
        candidates_by_index(100, 25.0, None, 0.01)


def test_candidates_by_time() -> None:
    times = [0.0, 0.1, 0.2, 2.0, 2.1]
    assert candidates_by_time(times, 0.1, 2.0, 2.6) == range(1, 3)
    assert candidates_by_time(times, 1.0, 1.5, 2.6) == range(2, 3)  # the frame on screen
    assert candidates_by_time(times, None, 0.05, 2.6) == range(0, 1)
    assert candidates_by_time([0.0], 0.5, None, 1.0) == range(0, 1)
    with pytest.raises(TimeRangeError):
        candidates_by_time(times, 3.0, None, 2.6)


def test_eight_windows() -> None:
    ten = [window_samples(w, 160_000, 16_000) for w in eight_windows(160_000, 16_000)]
    assert [w.start for w in ten] == list(range(0, 112_001, 16_000))
    assert all(w.stop - w.start == 32_000 for w in ten)
    short = eight_windows(16_000, 16_000)
    assert set(short) == {(Fraction(0), Fraction(2))}
    assert window_samples(short[0], 16_000, 16_000) == slice(0, 16_000)


@given(st.integers(1, 10_000_000))
def test_windows_stay_inside(samples: int) -> None:
    for window in eight_windows(samples, 16_000):
        piece = window_samples(window, samples, 16_000)
        assert 0 <= piece.start < piece.stop <= samples


def test_choosing_frames() -> None:
    index = FrameIndex(times=np.arange(100) / 10, fps=10.0)
    whole = {"num_frames": 4, "start": None, "end": None}
    assert choose_frames(index, RELEASED, **whole) == ([12, 37, 62, 87], ())
    assert choose_frames(index, FULL, num_frames=2, start=2, end=3) == ([22, 27], ())
    assert choose_frames(index, RELEASED, num_frames=2, start=2, end=3) == ([22, 27], ())  # of 19..29
    assert choose_frames(index, RELEASED, **whole, kind="list") == (
        list(range(32)),
        ("only the first 32 of 100 frames are used",),
    )
    assert choose_frames(index, FULL, **whole, kind="list") == ([12, 37, 62, 87], ())
    one_per_second = {**whole, "num_frames": None}
    assert choose_frames(index, RELEASED, **one_per_second)[0] == list(range(5, 100, 10))
    long = FrameIndex(times=np.arange(4000) / 10, fps=10.0)
    spread, losses = choose_frames(long, FULL, **one_per_second)
    assert len(spread) == 32 and losses == ("32 of 400 frames are used, spread evenly",)
    short = FrameIndex(times=np.arange(3) / 10, fps=10.0)
    assert choose_frames(short, RELEASED, num_frames=8, start=None, end=None, kind="animation")[0] == [0, 1, 2]
    with pytest.raises(TimeRangeError):
        choose_frames(index, FULL, num_frames=8, start=50, end=None)
