"""The moments of a video at which Video-MME picks its subtitles (spec §7)."""

from pathlib import Path

from ..errors import DataError
from ..media.limits import DEFAULT_LIMITS
from ..media.source import MediaSource


def moments(path: Path, frames: int) -> tuple[float, ...]:
    """Milliseconds of the frames that an evaluation samples: the middles of equal segments, in whole frames.

    Only the header is read: how many pictures there are, and how many a second.

    Raises:
        MediaError: the file can't be opened, or has no video.
    """
    with MediaSource.of(path, DEFAULT_LIMITS).container() as container:
        stream = next(iter(container.streams.video), None)
        rate = 0.0 if stream is None else float(stream.average_rate or 0)
        if stream is None or not rate:
            raise DataError(f"{path} says nothing about its pictures")
        seconds = float((container.duration or 0) / 1_000_000)
        count = stream.frames or int(seconds * rate + 0.5)
    size = (count - 1) / frames
    places = [(round(size * i) + round(size * (i + 1))) // 2 for i in range(frames)]
    return tuple(1000 * place / rate for place in places)
