"""Frames of a video file: exactly those asked for, at the cost of those (spec §4.3).

    file --index-->  presentation times of all frames     (container index or packets; nothing is decoded)
    indices --pick-->  RGB frames                         (jump to key frames; skip frames that no other refers to)

A frame's index is its place in presentation order. Frames are matched by their time stamps, so a wrong guess of the
index can't give a wrong picture: it is noticed, and the file is decoded from the start.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from ..errors import EmptyMedia, NoVideoStream, UnreadableMedia
from .clip import Frame, FrameIndex, Picked
from .limits import Limits
from .source import VIDEO_CODECS, Source

THREADS = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


@dataclass(frozen=True, kw_only=True)
class VideoIndex(FrameIndex):
    """A FrameIndex with what is needed to find the frames.

    pts      i64[N] `times` in the stream's time base, or None where the file has no usable time stamps
    key_pts  i64[K] time stamps at which decoding can begin, ascending
    """

    pts: NDArray[np.int64] | None
    key_pts: NDArray[np.int64]


class VideoReader:
    """An open video file: `index` lists its frames, `pick` decodes some."""

    def __init__(self, container: "av.container.InputContainer", source: Source, limits: Limits) -> None:
        self._container, self._source, self._limits = container, source, limits
        self._stream = video_stream(container, source)
        codec = self._stream.codec_context
        limits.check_pixels(codec.width, codec.height, source.name)
        codec.options = {"max_pixels": str(limits.max_pixels)}  # FFmpeg itself refuses frames that outgrow the header
        codec.thread_type, codec.thread_count = "AUTO", THREADS
        self._errors: list[str] = []  # FFmpeg's words on packets that it could not decode
        self.index = self._read_index()

    def pick(self, indices: Sequence[int]) -> Picked:
        """Decode these frames, in any order, with repeats.

        A frame that can't be decoded is replaced by the nearest asked for (earlier first) and named in `losses`.

        Raises:
            MediaTooLarge: they can't all be held. UnreadableMedia: not one can be decoded.
        """
        wanted = sorted(set(indices))
        codec = self._stream.codec_context
        self._limits.check_held(codec.width, codec.height, len(wanted), self._source.name)
        got = self._by_time_stamp(wanted) if self.index.pts is not None else self._by_counting(wanted)
        if not got:
            raise UnreadableMedia(
                f"{self._source.name}: none of the {len(wanted)} frames asked for can be decoded; it is corrupt."
            )
        have = sorted(got)
        shown = [have[max(bisect_right(have, i) - 1, 0)] for i in indices]
        losses = [
            f"frame {i} can't be decoded; frame {j} stands in" for i, j in zip(indices, shown, strict=True) if i != j
        ]
        if self._errors:
            losses.append(f"{len(self._errors)} video packets are corrupt: frames near them may be damaged")
        return Picked(frames=tuple(got[i] for i in shown), indices=tuple(shown), losses=tuple(losses))

    def _by_time_stamp(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Jump to the key frame before each group of frames; what is not found so is sought from the beginning."""
        index = self.index
        assert index.pts is not None
        pts = {int(index.pts[i]): i for i in wanted}
        groups: dict[int, dict[int, int]] = {}
        for stamp, i in pts.items():
            key = max(int(np.searchsorted(index.key_pts, stamp, side="right")) - 1, 0)
            groups.setdefault(key, {})[stamp] = i
        got: dict[int, Frame] = {}
        for group in groups.values():
            self._container.seek(min(group), stream=self._stream, backward=True)
            got |= self._collect(group, drop=True)
        missing = {stamp: i for stamp, i in pts.items() if i not in got}
        if missing:
            self._container.seek(min(int(index.pts[0]), 0), stream=self._stream, backward=True)
            got |= self._collect(missing, drop=False)
        return got

    def _collect(self, targets: dict[int, int], *, drop: bool) -> dict[int, Frame]:
        """Decode from here until all targets (time stamp -> index) have been given to the decoder, then drain it.

        Every frame that a target refers to precedes it in decoding order, so nothing after the last target is needed;
        nor, if `drop`, is a frame that no other refers to.
        """
        codec = self._stream.codec_context
        prefix = _nal_prefix(codec) if drop else 0
        got: dict[int, Frame] = {}
        unsent = set(targets)
        for packet in self._packets():
            if prefix and packet.pts not in targets and _is_unreferenced(packet, prefix):
                continue
            unsent.discard(packet.pts)
            for frame in self._decode(packet):
                if frame.pts in targets:
                    got[targets[frame.pts]] = to_rgb(frame)
            if not unsent:
                break
        for frame in self._decode(None):
            if frame.pts in targets:
                got[targets[frame.pts]] = to_rgb(frame)
        return got

    def _by_counting(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Decode everything and count, for files without usable time stamps."""
        self._container.seek(0)
        need = set(wanted)
        return {i: to_rgb(frame) for i, frame in enumerate(self._all_frames()) if i in need}

    def _all_frames(self) -> "Iterator[av.VideoFrame]":
        """Every frame from here on, in presentation order."""
        for packet in self._packets():
            yield from self._decode(packet)

    def _packets(self) -> "Iterator[av.Packet]":
        """Every packet from here on, and the one that drains the decoder; ends where the file breaks off."""
        try:
            yield from self._container.demux(self._stream)
        except av.error.FFmpegError as error:
            self._errors.append(str(error.strerror))

    def _decode(self, packet: "av.Packet | None") -> "list[av.VideoFrame]":
        """Frames that this packet completes (None: all that are left); a packet that can't be decoded is remembered."""
        try:
            frames: list[av.VideoFrame] = self._stream.codec_context.decode(packet)
            return frames
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            self._errors.append(str(error.strerror))
            return []

    def _read_index(self) -> VideoIndex:
        stream, name = self._stream, self._source.name
        notes: list[str] = []
        losses: list[str] = []
        listed = _container_index(self._container, stream, self._source.size) or self._packet_index()
        pts, keys = listed
        if stream.frames and stream.frames != len(pts):
            losses.append(f"the header promises {stream.frames} video frames, {len(pts)} are in the file")
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        known = [p for p in pts if p is not None]
        times: NDArray[np.float64]
        order: NDArray[np.int64] | None
        if len(set(known)) != len(pts):
            notes.append("video frames without usable time stamps: counted by decoding, times from the mean rate")
            self._container.seek(0)
            count, fps = sum(1 for _ in self._all_frames()), fps or 25.0
            times, order = np.arange(count, dtype=np.float64) / fps, None
            self._errors.clear()
        else:
            order = np.sort(np.array(known, dtype=np.int64))
            times = np.multiply(order - _zero(self._container, stream), float(stream.time_base or 0), dtype=np.float64)
            notes += _holes(times)
        if not len(times):
            raise EmptyMedia(f"{name} has a video stream without a frame in it; it is truncated or corrupt.")
        self._limits.check_frames(len(times), name)
        return VideoIndex(
            times=times,
            pts=order,
            key_pts=np.sort(np.array([k for k in keys if k is not None], dtype=np.int64)),
            fps=fps or (len(times) - 1) / max(float(times[-1] - times[0]), 1e-9) or 1.0,
            notes=tuple(notes),
            losses=tuple(losses + [f"the file breaks off: {e}" for e in self._errors]),
        )

    def _packet_index(self) -> tuple[list[int | None], list[int | None]]:
        """Time stamps of all packets and of the key packets, read but not decoded."""
        pts: list[int | None] = []
        keys: list[int | None] = []
        for packet in self._packets():
            if packet.size and not packet.is_discard:
                pts.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        return pts, keys


@contextmanager
def open_video(source: Source, limits: Limits) -> Iterator[VideoReader]:
    """A VideoReader for the duration of the block.

    Raises:
        NoVideoStream, EmptyMedia (no frame), MediaTooLarge, UnreadableMedia.
    """
    with source.container() as container:
        yield VideoReader(container, source, limits)


def video_stream(container: "av.container.InputContainer", source: Source) -> "av.VideoStream":
    """The best video stream that is no cover picture and that we decode.

    Raises:
        NoVideoStream, UnreadableMedia (codec not allowed).
    """
    real = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not real:
        raise NoVideoStream(f"{source.name} has no video stream; ask about its sound only, or give a video.")
    best = container.streams.best("video")
    stream = best if best in real else real[0]
    codec = stream.codec_context
    if codec is None or codec.name not in VIDEO_CODECS:
        name = "unknown" if codec is None else codec.name
        raise UnreadableMedia(
            f"{source.name}: video codec {name!r} is not decoded. Re-encode it, for example as H.264."
        )
    return stream


def to_rgb(frame: "av.VideoFrame") -> Frame:
    """u8[H, W, 3], upright: the display matrix of the file is applied."""
    picture = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # degrees counter-clockwise
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _holes(times: NDArray[np.float64]) -> list[str]:
    """A remark on the longest stretch without frames in a video of otherwise constant rate."""
    steps = np.diff(times)
    if len(steps) < 10:
        return []
    usual, longest = float(np.median(steps)), int(np.argmax(steps))
    constant = float((np.abs(steps - usual) < 0.1 * usual).mean()) > 0.95
    if not constant or steps[longest] < max(0.5, 5 * usual):
        return []
    return [f"no frames for {steps[longest]:.1f} s after {times[longest]:.2f} s: some may be missing from the file"]


def _zero(container: "av.container.InputContainer", stream: "av.VideoStream") -> int:
    """The file's beginning in the stream's time base (transport streams begin anywhere)."""
    if container.start_time is None or stream.time_base is None:
        return stream.start_time or 0
    ticks: int = round(container.start_time / av.time_base / stream.time_base)
    return ticks


def _container_index(
    container: "av.container.InputContainer", stream: "av.VideoStream", size: int
) -> tuple[list[int | None], list[int | None]] | None:
    """Time stamps from an mp4's own table, when its frames are evenly spaced and all in the file; else None.

    The table has decoding times only. Evenly spaced, they are the presentation times but for order and a constant,
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


def _nal_prefix(codec: "av.VideoCodecContext") -> int:
    """Bytes of the length before each NAL unit of an H.264 stream in mp4 or matroska; 0 for other streams."""
    extra = codec.extradata or b""
    return (extra[4] & 3) + 1 if codec.name == "h264" and len(extra) > 6 and extra[0] == 1 else 0


def _is_unreferenced(packet: "av.Packet", prefix: int) -> bool:
    """Whether an H.264 picture is referred to by no other: `nal_ref_idc` 0 in its first slice (ITU-T H.264 §7.4.1)."""
    data = memoryview(packet)
    at = 0
    while at + prefix < len(data):
        unit = data[at + prefix]
        if unit & 31 in (1, 5):  # a slice, not parameters or remarks
            return unit & 0x60 == 0
        at += prefix + int.from_bytes(data[at : at + prefix], "big")
    return False
