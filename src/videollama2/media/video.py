"""Frames of a video file: exactly the requested ones, decoding little more (spec §4.3).

    file --index-->      presentation times of all frames   (container index or packets; nothing is decoded)
    indices --decode-->  RGB frames                         (seek to key frames; skip unreferenced frames)

A frame's index is its place in presentation order. Frames are matched by timestamp, so a wrong index can't return a
wrong frame: it is noticed, and the file is decoded from the start.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from queue import Empty, SimpleQueue

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import EmptyMedia, UnreadableMedia, UsageError
from .clip import Frame
from .frame_decoder import THREADS, FrameDecoder
from .frames import DecodedFrames, FrameIndex
from .limits import Limits
from .packets import read_timeline
from .source import MediaSource
from .timeline import UNKNOWN, Packets, Timeline

_LEAD = "{n} frame{s} before the first key frame can't be decoded: the recording begins between key frames"


@dataclass(frozen=True, kw_only=True)
class VideoIndex(FrameIndex):
    """A FrameIndex with the timestamps that locate the frames in the file.

    pts      i64[N] `times` in the stream's time base; None if frames can be found by counting only
    key_pts  i64[K] timestamps of key frames, where decoding can begin; ascending
    shown    i64[N] the frame that is shown: itself, or an earlier one that the file repeats
    """

    pts: NDArray[np.int64] | None
    key_pts: NDArray[np.int64]
    shown: NDArray[np.int64]


class VideoReader:
    """An open video file: `index` lists its frames, `decode` decodes some, `notes` are on their pictures."""

    def __init__(
        self,
        container: "av.container.InputContainer",
        source: MediaSource,
        limits: Limits,
        timeline: Timeline | None = None,
    ) -> None:
        """`timeline`: of this file, with its video stream; None to read it."""
        self._source, self._limits = source, limits
        self._decoder = FrameDecoder(container, source, limits)
        self._timeline = timeline or read_timeline(container, source, [self._decoder.stream])
        self.index = self._read_index()

    @property
    def notes(self) -> tuple[str, ...]:
        """How the frames decoded so far differ from the stored ones, or from a player's."""
        return self._decoder.appearance.notes

    def decode(self, indices: Sequence[int]) -> DecodedFrames:
        """Decode these frames, in any order, with repeats.

        A frame that can't be decoded is replaced by the nearest requested one (earlier first) and listed in `losses`.

        Raises:
            MediaTooLarge: too many to hold. UnreadableMedia: none can be decoded.
        """
        indices, requested = [int(self.index.shown[i]) for i in indices], indices
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
        used = [r if i == j else j for r, i, j in zip(requested, indices, shown, strict=True)]
        return DecodedFrames(frames=tuple(got[i] for i in shown), indices=tuple(used), losses=tuple(losses))

    def _by_timestamp(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Seek to the key frame before each group of frames; frames not found that way are decoded from the start."""
        index = self.index
        assert index.pts is not None
        if self._decoder.container.format.name == "mpeg":  # after a seek, FFmpeg gives frames their neighbours' stamps
            return self._from_the_start(wanted, index.pts)
        if self._decoder.stream.index in self._timeline.joins:  # stamps of the file are ambiguous: don't seek by them
            return self._from_the_start(wanted, index.pts)
        groups: dict[int, dict[int, int]] = {}  # key frame -> timestamp -> index
        for i in wanted:
            key = int(np.searchsorted(index.key_pts, index.pts[i], side="right")) - 1
            groups.setdefault(max(key, 0), {})[int(index.pts[i])] = i
        cost = {key: max(group) - int(index.key_pts[key] if len(index.key_pts) else 0) for key, group in groups.items()}
        got = self._decode_groups([groups[key] for key in sorted(groups, key=cost.__getitem__, reverse=True)])
        missing = [i for i in wanted if i not in got]
        return got | self._from_the_start(missing, index.pts) if missing else got

    def _from_the_start(self, missing: Sequence[int], pts: NDArray[np.int64]) -> dict[int, Frame]:
        """Decode up to these frames; a frame that never appears is replaced by its predecessor (else its successor)."""
        with self._reopened() as decoder:
            return self._scan(decoder, missing, pts)

    def _scan(self, decoder: FrameDecoder, missing: Sequence[int], pts: NDArray[np.int64]) -> dict[int, Frame]:
        got: dict[int, Frame] = {}
        awaited, before = list(missing), None
        for frame in decoder.frames():
            place = int(np.searchsorted(pts, frame.pts)) if frame.pts is not None else -1
            if not (0 <= place < len(pts)) or pts[place] != frame.pts:
                continue
            while awaited and awaited[0] <= place:
                at, shown = (place, frame) if awaited[0] == place or before is None else before
                got[at] = decoder.rgb(shown)
                if shown.is_corrupt:
                    self._decoder.damaged.append(at)
                awaited.pop(0)
            before = (place, frame)
            if not awaited:
                break
        if awaited and before is not None:
            got[before[0]] = decoder.rgb(before[1])
        return got

    def _decode_groups(self, groups: list[dict[int, int]]) -> dict[int, Frame]:
        """Decode groups in parallel, the costly ones first, as ordered; each begins at a key frame.

        Threads after the first open the file again. A decoder's own threads serve only where there are fewer groups.
        """
        workers = min(len(groups), THREADS)
        self._decoder.use_threads(max(THREADS // workers, 1))
        waiting = SimpleQueue[dict[int, int]]()
        for group in groups:
            waiting.put(group)
        got: dict[int, Frame] = {}

        def decode_some(decoder: FrameDecoder) -> FrameDecoder:
            with suppress(Empty):
                while True:
                    got.update(decoder.collect(waiting.get_nowait()))
            return decoder

        def decode_more() -> FrameDecoder:
            with self._source.container(probe=False) as container:
                extra = FrameDecoder(container, self._source, self._limits, first=self._decoder)
                extra.use_threads(max(THREADS // workers, 1))
                return decode_some(extra)

        with ThreadPoolExecutor(workers) as pool:
            others = [pool.submit(decode_more) for _ in range(1, workers)]
            decode_some(self._decoder)
            for other in others:
                self._decoder.merge(other.result())
        return got

    def _by_counting(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Decode from the start and count frames, for files whose timestamps don't tell them apart."""
        got: dict[int, Frame] = {}
        with self._reopened() as decoder:
            for i, frame in enumerate(decoder.frames()):
                if i in wanted:
                    got[i] = decoder.rgb(frame)
                if i >= wanted[-1]:
                    break
        return got

    @contextmanager
    def _reopened(self) -> Iterator[FrameDecoder]:
        """A decoder at the start of the file: not every format can seek there."""
        with self._source.container() as container:
            decoder = FrameDecoder(container, self._source, self._limits, self._timeline)
            yield decoder
            self._decoder.merge(decoder)

    def _read_index(self) -> VideoIndex:
        stream, timeline = self._decoder.stream, self._timeline
        even, table = timeline.even.get(stream.index), timeline.packets.get(stream.index)
        if even is not None:
            index = self._index(np.array(even.pts, np.int64), even.keys)
        elif table is not None:
            index = self._index_of_packets(table)
        else:
            raise UsageError("the timeline does not include the video stream; read it with that stream.")
        if not index.frames:
            raise EmptyMedia(
                f"{self._source.name} has a video stream without frames; the file is truncated or corrupt."
            )
        self._limits.check_frames(index.frames, self._source.name)
        return index

    def _index(
        self,
        pts: NDArray[np.int64],
        keys: Sequence[int],
        *,
        shown: NDArray[np.int64] | None = None,
        last: float = 0.0,
        notes: Sequence[str] = (),
        losses: Sequence[str] = (),
        counted: bool = False,
    ) -> VideoIndex:
        """The index of presentation times in ascending order; `last` is the duration of the last frame, if known."""
        stream = self._decoder.stream
        start = round(self._timeline.zero / (stream.time_base or 1))
        times = np.multiply(pts - start, float(stream.time_base or 0), dtype=np.float64)
        n = len(times)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        span = float(times[-1] - times[0]) if n else 0.0
        if "avi" in self._decoder.container.format.name and n > 1 and fps > 2 * (n - 1) / max(span, 1e-9):
            fps = 0.0  # the stated rate counts places, most of them empty
        return VideoIndex(
            times=times,
            pts=None if counted else pts,
            key_pts=np.sort(np.array(keys, dtype=np.int64)),
            shown=np.arange(n) if shown is None else shown,
            fps=fps or (n - 1) / max(span, 1e-9) or 1.0,
            stated_end=float(times[-1] + last) if n and last else None,
            notes=(*self._timeline.notes, *notes, *_gap_notes(times)),
            losses=tuple(losses),
        )

    def _index_of_packets(self, table: Packets) -> VideoIndex:
        stream = self._decoder.stream
        losses = self._missing_packets(table)
        first = table.key.find(1) if table.key.find(1) > 0 else 0
        rows = [i for i in range(first, len(table)) if not table.hidden[i]]
        skipped = sum(1 for i in range(first) if not table.hidden[i])
        notes = [_LEAD.format(n=skipped, s="s" if skipped > 1 else "")] if skipped else []
        pts = [table.pts[i] for i in rows]
        known = UNKNOWN not in pts and len(set(pts)) == len(pts)
        ascending = known and all(a < b for a, b in pairwise(pts))
        reordered = "avi" in self._decoder.container.format.name and ascending and stream.codec_context.has_b_frames
        if not known or reordered:
            rows = [i for i in rows if not table.empty[i]]
            return self._index_by_counting(table, rows, losses, reordered=bool(reordered))
        keys = [table.pts[i] for i in rows if table.key[i]]
        lead = {p for p in pts if p < keys[0]} if keys and table.pts[rows[0]] == keys[0] else set()
        if lead and (lost := self._undecodable(lead, keys[0])):
            notes = [_LEAD.format(n=skipped + len(lost), s="s" if skipped + len(lost) > 1 else "")]
            rows = [i for i in rows if table.pts[i] not in lost]
        rows.sort(key=table.pts.__getitem__)
        shown = np.maximum.accumulate([0 if table.empty[i] else k for k, i in enumerate(rows)]) if rows else None
        repeats = sum(table.empty[i] for i in rows)
        notes += [f"the file repeats {repeats} frames: each is the frame before it, shown again"] if repeats else []
        return self._index(
            np.array([table.pts[i] for i in rows], np.int64),
            keys,
            shown=shown,
            last=float(table.duration[rows[-1]] * table.tick) if rows else 0.0,
            notes=notes,
            losses=losses,
        )

    def _index_by_counting(
        self, table: Packets, rows: Sequence[int], losses: Sequence[str], *, reordered: bool
    ) -> VideoIndex:
        """For files whose stamps don't tell frames apart: decoding gives their order, the sorted stamps their times.

        `reordered`: presentation times are missing, or are those of decoding.
        """
        stream = self._decoder.stream
        with self._reopened() as decoder:
            count = sum(1 for _ in decoder.frames())
        self._decoder.errors.clear()
        repeated = "timestamps repeat in the file: frames are counted by decoding"
        decoding = "the file has only decoding times: frames are counted by decoding"
        for stamps, note in ((table.dts, decoding),) if reordered else ((table.pts, repeated), (table.dts, decoding)):
            times = sorted(stamps[i] for i in rows)
            if times and times[0] != UNKNOWN and len(times) == count:
                return self._index(np.array(times, np.int64), (), notes=[note], losses=losses, counted=True)
        fps = float(stream.codec_context.framerate or stream.guessed_rate or stream.average_rate or 25)
        note = (
            "no usable timestamps: frames are counted by decoding, and times assume the nominal rate of "
            f"{fps:g} frames per second"
        )
        return VideoIndex(
            times=np.arange(count, dtype=np.float64) / fps,
            pts=None,
            key_pts=np.empty(0, np.int64),
            shown=np.arange(count),
            fps=fps,
            stated_end=count / fps,
            notes=(*self._timeline.notes, note),
            losses=tuple(losses),
        )

    def _missing_packets(self, table: Packets) -> list[str]:
        """A loss if the header lists more frames than are in the file."""
        stream, size = self._decoder.stream, self._source.size
        if not stream.frames:
            return []
        if "mp4" in self._decoder.container.format.name:  # an edit list may leave frames out: only places tell
            entries = getattr(stream, "index_entries", ())
            there = stream.frames - sum(1 for e in entries if e.pos + e.size > size)
        else:  # a place in the list may be empty: the frame before stays
            covered, listed = table.covered(), float((stream.duration or 0) * table.tick)
            if covered is not None and covered[1] - covered[0] > listed - max(0.5, 0.02 * listed):
                return []
            there = len(table)
        if there >= stream.frames:
            return []
        return [f"the header lists {stream.frames} video frames, the file has {there}"]

    def _undecodable(self, lead: set[int], key: int) -> set[int]:
        """Timestamps before the first key frame's that decoding from there doesn't give: they refer to what was cut."""
        left = set(lead)
        with self._reopened() as decoder:
            for frame in decoder.frames():
                if frame.pts is not None and frame.pts > key:
                    break
                if not frame.is_corrupt:
                    left.discard(frame.pts or 0)
            decoder.errors.clear()
        return left


def _gap_notes(times: NDArray[np.float64]) -> list[str]:
    """A note on the longest gap in a video of otherwise constant rate, and how many there are."""
    steps = np.diff(times)
    if len(steps) < 10:
        return []
    usual, longest = float(np.median(steps)), int(np.argmax(steps))
    constant = float((np.abs(steps - usual) < 0.1 * usual).mean()) > 0.95
    least = max(0.5, 5 * usual)
    if not constant or steps[longest] < least:
        return []
    others = int((steps >= least).sum()) - 1
    more = f", and {others} more gap{'s' if others > 1 else ''}" if others else ""
    return [
        f"no frames for {steps[longest]:.1f} s after {times[longest]:.2f} s{more}: some may be missing from the file"
    ]
