"""The subtitles that a video's sampled frames show, for questions that quote them."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError, MediaError
from ..media.limits import DEFAULT_LIMITS
from ..media.source import MediaSource
from ..subtitles import Subtitle, read_subtitles, shown_at
from ..text.media_parts import Media
from .sources import Items


class FrameSubtitles:
    """The subtitles at the times of the sampled frames of each video.

    Args:
        folders: that may hold NAME.srt, each with its "/".
        frames: sampled from a video.
    """

    def __init__(self, items: Items, folders: Sequence[str], frames: int) -> None:
        self._finder = items.data.media(*(folder.rstrip("/") for folder in folders), suffixes=(".srt", ".vtt"))
        self._frames, self._published = frames, items.setting == "paper"
        self._known: dict[tuple[str, ...], str | DataError | None] = {}
        self._without, self._unreadable = 0, 0

    def of(self, names: tuple[str, ...], video: Media | None) -> str | None:
        """The lines for a video of these names, or None without any.

        Raises:
            DataError: the subtitle file can't be read.
        """
        if names not in self._known:
            try:
                self._known[names] = self._find(names, video)
            except DataError as error:
                self._known[names] = error
        known = self._known[names]
        if isinstance(known, DataError):
            raise known
        return known

    def _find(self, names: tuple[str, ...], video: Media | None) -> str | None:
        path, _ = self._finder.find(*names)
        lines: tuple[Subtitle, ...] = () if path is None else read_subtitles(path, published=self._published)
        self._without += path is None
        found: tuple[str, ...] = ()
        if lines and video is not None:
            try:
                found = shown_at(lines, moments(Path(video.source), self._frames), published=self._published)
            except MediaError:
                self._unreadable += 1  # the item's own failure will say why
        # the original shows the heading in any case
        return "\n".join(found) if found or self._published else None

    def notes(self) -> list[str]:
        """For the manifest."""
        without = [f"{self._without} of {len(self._known)} videos have no subtitles"] if self._without else []
        unreadable = [f"no subtitles for {self._unreadable} videos that can't be opened"] if self._unreadable else []
        return [*without, *unreadable]


def moments(path: Path, frames: int) -> tuple[float, ...]:
    """Milliseconds of the frames that an evaluation samples: the middles of equal segments, in whole frames (spec §7).

    Only the header is read: number of frames, and frames per second.

    Raises:
        MediaError: the file can't be opened, or has no video.
    """
    with MediaSource.of(path, DEFAULT_LIMITS).container() as container:
        stream = next(iter(container.streams.video), None)
        rate = 0.0 if stream is None else float(stream.average_rate or 0)
        if stream is None or not rate:
            raise DataError(f"{path}: the header has no video frame rate.")
        seconds = float((container.duration or 0) / 1_000_000)
        count = stream.frames or int(seconds * rate + 0.5)
    size = (count - 1) / frames
    places = [(round(size * i) + round(size * (i + 1))) // 2 for i in range(frames)]
    return tuple(1000 * place / rate for place in places)
