"""The part of a video that a question is about: from seconds in its record, or a frame at which the video is cut."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..data.annotations import Row, read_json
from ..errors import DataError
from .items import FoundMedia
from .sources import Items

_MAX_FRAMES = 10**9  # of a video; a number with thousands of digits can't become a float

Cut = Callable[[FoundMedia, str, Row], FoundMedia]
"""Cuts a video, given its name and a record with its frame_rate."""


def between_seconds(items: Items, row: Row, found: FoundMedia) -> FoundMedia:
    """The media item from the record's start to its end; the original's repair if they are not in this order.

    Raises:
        DataError: the record has no start or no end.
    """
    start, end = row.seconds("start"), row.seconds("end")
    if start >= end:
        start, end = (start, start + 1) if start == end else (end, start)
        items.repair("ranges whose end is not after their start, repaired", f"{row.origin}: {start:g} to {end:g} s")
    media, missing = found
    return (None if media is None else replace(media, start=start, end=end)), missing


def cut_at_frames(items: Items, name: str) -> Cut:
    """A function that cuts videos at the frames of a file (an object: video id → frame), if the file exists."""
    path = items.optional(name)
    frames: Any = {} if path is None else read_json(path)
    if not isinstance(frames, dict):
        raise DataError(f"{path}: expected an object of frames by video id, got {frames!r:.60}.")
    if path is None:
        items.notes.append(f"{name} not found: videos are used to their end, which gives some answers away")

    def cut(found: FoundMedia, video: str, about: Row) -> FoundMedia:
        media, missing = found
        if video not in frames:
            return found
        end = _seconds(about, frames[video])
        return (None if media is None else replace(media, end=end)), missing

    return cut


def _seconds(about: Row, frame: Any) -> float:
    if isinstance(frame, bool) or not isinstance(frame, int) or not 1 <= frame <= _MAX_FRAMES:
        raise about.error(f"expected a frame from 1 to {_MAX_FRAMES} to cut its video at, got {frame!r:.60}.")
    rate = about.seconds("frame_rate")
    if not rate:
        raise about.error("frame_rate: expected frames per second above 0, got 0.")
    return frame / rate
