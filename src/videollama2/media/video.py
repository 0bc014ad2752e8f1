"""Frames of a video file: exactly the requested ones, decoding little else (spec §4.3).

    file --index-->      presentation times of all frames   (container index or packets; nothing is decoded)
    indices --decode-->  RGB frames                         (seek to key frames; skip unreferenced frames)

A frame's index is its place in presentation order. Frames are matched by timestamp, so a wrong index can't return a
wrong frame: it is noticed, and the file is decoded from the start.
"""

from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import EmptyMedia, UnreadableMedia
from .clip import Frame
from .frame_decoder import THREADS, FrameDecoder
from .frames import DecodedFrames, FrameIndex
from .limits import Limits
from .source import MediaSource


@dataclass(frozen=True, kw_only=True)
class VideoIndex(FrameIndex):
    """A FrameIndex with the timestamps that locate the frames in the file.

    pts      i64[N] `times` in the stream's time base; None if the file has no usable timestamps
    key_pts  i64[K] timestamps of key frames, where decoding can begin; ascending
    """

    pts: NDArray[np.int64] | None
    key_pts: NDArray[np.int64]


class VideoReader:
    """An open video file: `index` lists its frames, `decode` decodes some."""

    def __init__(self, container: "av.container.InputContainer", source: MediaSource, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self._decoder = FrameDecoder(container, source, limits)
        self.index = self._read_index()

    def decode(self, indices: Sequence[int]) -> DecodedFrames:
        """Decode these frames, in any order, with repeats.

        A frame that can't be decoded is replaced by the nearest requested one (earlier first) and listed in `losses`.

        Raises:
            MediaTooLarge: too many to hold. UnreadableMedia: none can be decoded.
        """
        wanted = sorted(set(indices))
        codec = self._decoder.stream.codec_context
        self._limits.check_held(codec.width, codec.height, len(wanted), self._source.name)
        got = self._by_timestamp(wanted) if self.index.pts is not None else self._by_counting(wanted)
        if not got:
            raise UnreadableMedia(
                f"{self._source.name}: none of the {len(wanted)} requested frames can be decoded; the file is corrupt."
            )
        have = sorted(got)
        shown = [i if i in got else have[max(bisect_right(have, i) - 1, 0)] for i in indices]
        pairs = sorted(set(zip(indices, shown, strict=True)))
        losses = [f"frame {i} can't be decoded; frame {j} is used instead" for i, j in pairs if i != j]
        losses += [f"frame {j} is damaged" for j in sorted(set(shown)) if j in self._decoder.damaged]
        if self._decoder.errors:
            losses.append(f"{len(self._decoder.errors)} video packets are corrupt: frames near them may be damaged")
        return DecodedFrames(frames=tuple(got[i] for i in shown), indices=tuple(shown), losses=tuple(losses))

    def _by_timestamp(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Seek to the key frame before each group of frames; frames not found that way are decoded from the start."""
        index = self.index
        assert index.pts is not None
        groups: dict[int, dict[int, int]] = {}  # key frame -> timestamp -> index
        for i in wanted:
            key = int(np.searchsorted(index.key_pts, index.pts[i], side="right")) - 1
            groups.setdefault(max(key, 0), {})[int(index.pts[i])] = i
        got = self._decode_groups(list(groups.values()))
        missing = [i for i in wanted if i not in got]
        return got | self._from_the_start(missing, index.pts) if missing else got

    def _from_the_start(self, missing: Sequence[int], pts: NDArray[np.int64]) -> dict[int, Frame]:
        """Decode up to these frames; for a frame that never comes, take the one before it (else the one after)."""
        self._decoder.seek(min(int(pts[0]), 0))
        got: dict[int, Frame] = {}
        awaited, before = list(missing), None
        for frame in self._decoder.frames():
            place = int(np.searchsorted(pts, frame.pts)) if frame.pts is not None else -1
            if not (0 <= place < len(pts)) or pts[place] != frame.pts:
                continue
            while awaited and awaited[0] <= place:
                at, shown = (place, frame) if awaited[0] == place or before is None else before
                got[at] = self._decoder.rgb(shown)
                if shown.is_corrupt:
                    self._decoder.damaged.append(at)
                awaited.pop(0)
            before = (place, frame)
            if not awaited:
                break
        if awaited and before is not None:
            got[before[0]] = self._decoder.rgb(before[1])
        return got

    def _decode_groups(self, groups: list[dict[int, int]]) -> dict[int, Frame]:
        """Decode groups in parallel: each begins at a key frame, and each thread opens the container itself."""
        workers = min(len(groups), THREADS)
        self._decoder.use_threads(max(THREADS // workers, 1))

        def decode_some(first: int) -> tuple[dict[int, Frame], list[str]]:
            if first == 0:
                return self._decoder.collect_groups(groups[::workers]), []
            with self._source.container() as container:
                extra = FrameDecoder(container, self._source, self._limits)
                extra.use_threads(max(THREADS // workers, 1))
                return extra.collect_groups(groups[first::workers]), extra.errors

        got: dict[int, Frame] = {}
        with ThreadPoolExecutor(workers) as pool:
            for frames, errors in pool.map(decode_some, range(workers)):
                got |= frames
                self._decoder.errors += errors
        return got

    def _by_counting(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Decode everything and count frames, for files without usable timestamps."""
        self._decoder.seek(0)
        need = set(wanted)
        return {i: self._decoder.rgb(frame) for i, frame in enumerate(self._decoder.frames()) if i in need}

    def _read_index(self) -> VideoIndex:
        container, stream, name = self._decoder.container, self._decoder.stream, self._source.name
        notes: list[str] = []
        losses: list[str] = []
        listed = _container_index(container, stream, self._source.size) or self._packet_index()
        pts, keys = listed
        if stream.frames and stream.frames != len(pts):
            losses.append(f"the header lists {stream.frames} video frames, the file has {len(pts)}")
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        known = [p for p in pts if p is not None]
        times: NDArray[np.float64]
        order: NDArray[np.int64] | None
        if len(set(known)) != len(pts):
            notes.append("no usable timestamps: frames are counted by decoding, times follow from the mean rate")
            self._decoder.seek(0)
            count, fps = sum(1 for _ in self._decoder.frames()), fps or 25.0
            times, order = np.arange(count, dtype=np.float64) / fps, None
            self._decoder.errors.clear()
        else:
            order = np.sort(np.array(known, dtype=np.int64))
            times = np.multiply(order - _start_pts(container, stream), float(stream.time_base or 0), dtype=np.float64)
            notes += _gap_note(times)
        if not len(times):
            raise EmptyMedia(f"{name} has a video stream without frames; the file is truncated or corrupt.")
        self._limits.check_frames(len(times), name)
        return VideoIndex(
            times=times,
            pts=order,
            key_pts=np.sort(np.array([k for k in keys if k is not None], dtype=np.int64)),
            fps=fps or (len(times) - 1) / max(float(times[-1] - times[0]), 1e-9) or 1.0,
            notes=tuple(notes),
            losses=tuple(losses + [f"the file is truncated: {e}" for e in self._decoder.errors]),
        )

    def _packet_index(self) -> tuple[list[int | None], list[int | None]]:
        """Timestamps of all packets and of the key packets, without decoding."""
        pts: list[int | None] = []
        keys: list[int | None] = []
        for packet in self._decoder.packets():
            if packet.size and not packet.is_discard:
                pts.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        return pts, keys


def _gap_note(times: NDArray[np.float64]) -> list[str]:
    """A note on the longest gap in a video of otherwise constant rate."""
    steps = np.diff(times)
    if len(steps) < 10:
        return []
    usual, longest = float(np.median(steps)), int(np.argmax(steps))
    constant = float((np.abs(steps - usual) < 0.1 * usual).mean()) > 0.95
    if not constant or steps[longest] < max(0.5, 5 * usual):
        return []
    return [f"no frames for {steps[longest]:.1f} s after {times[longest]:.2f} s: some may be missing from the file"]


def _start_pts(container: "av.container.InputContainer", stream: "av.VideoStream") -> int:
    """The start of the file in the stream's time base (transport streams start at any time)."""
    if container.start_time is None or stream.time_base is None:
        return stream.start_time or 0
    ticks: int = round(container.start_time / av.time_base / stream.time_base)
    return ticks


def _container_index(
    container: "av.container.InputContainer", stream: "av.VideoStream", size: int
) -> tuple[list[int | None], list[int | None]] | None:
    """Timestamps from an mp4's sample table, if its frames are evenly spaced and all in the file; else None.

    The table has decoding times only. If evenly spaced, they equal the presentation times up to order and a constant,
    which `start_time` gives. (A matroska table lists key frames only.)
    """
    entries = getattr(stream, "index_entries", ())
    n = len(entries)
    if "mp4" not in container.format.name or stream.start_time is None or n < 2 or n != stream.frames:
        return None
    table = [(e.timestamp, e.is_keyframe) for e in entries if not e.is_discard and e.pos + e.size <= size]
    first, step = table[0][0] if table else 0, (stream.duration or 0) // n
    if len(table) != n or step <= 0 or any(stamp != first + i * step for i, (stamp, _) in enumerate(table)):
        return None
    shown = [stream.start_time + i * step for i in range(n)]
    return list(shown), [stamp for stamp, (_, key) in zip(shown, table, strict=True) if key]
