"""Packets to chosen frames: the part of reading a video that runs FFmpeg's decoder.

packets from a key frame on  --drop unreferenced ones-->  decoder  --keep the wanted frames-->  RGB, upright
"""

import os
from collections.abc import Iterator

import av
import av.error

from ..errors import NoVideoStream, UnreadableMedia
from .appearance import Appearance
from .clip import Frame
from .limits import Limits
from .source import VIDEO_CODECS, MediaSource
from .timeline import Timeline
from .tracks import choose_track
from .unreferenced import unreferenced

THREADS = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


class FrameDecoder:
    """The video stream of an open container.

    errors   FFmpeg's messages about packets that it could not decode or read
    damaged  indices of frames that are used although the decoder marked them as corrupt
    appearance  how its frames become RGB, and notes on that
    """

    def __init__(
        self,
        container: "av.container.InputContainer",
        source: MediaSource,
        limits: Limits,
        timeline: Timeline | None = None,
        *,
        first: "FrameDecoder | None" = None,
    ) -> None:
        """With a `timeline`, packets have its stamps; where it has joins, read from the start, without seeking.

        `first`: another decoder of this stream, if the container was opened without probing it.
        """
        self.container: av.container.InputContainer = container
        self.stream: av.VideoStream = (
            video_stream(container, source) if first is None else container.streams.video[first._place]
        )
        self._place: int = container.streams.video.index(self.stream)
        self._timeline = timeline
        self._name, self._limits, self._taken = source.name, limits, 0
        self.errors: list[str] = []
        self.damaged: list[int] = []
        stated = None if first is None else first.appearance.stated
        self.appearance: Appearance = Appearance(self.stream, as_shown=source.as_shown, stated=stated)
        codec = self.stream.codec_context
        self._unreferenced = unreferenced(codec)
        limits.check_pixels(codec.width, codec.height, source.name)
        codec.options = {"max_pixels": str(limits.max_pixels)}  # FFmpeg rejects frames larger than the header says
        self.use_threads(THREADS)

    def use_threads(self, threads: int) -> None:
        """Set the number of decoding threads; no effect after the first packet."""
        codec = self.stream.codec_context
        if not codec.is_open:
            codec.thread_type, codec.thread_count = ("AUTO" if threads > 1 else "NONE"), threads

    def merge(self, other: "FrameDecoder") -> None:
        """Take over what another decoder of the same stream found out."""
        self.errors += other.errors
        self.appearance.merge(other.appearance)

    def seek(self, pts: int) -> None:
        """Seek to the last key frame at or before `pts` (in the stream's time base)."""
        self.container.seek(pts, stream=self.stream, backward=True)

    def collect(self, targets: dict[int, int]) -> dict[int, Frame]:
        """Frames of one group (timestamp -> index), decoded from its key frame; frames not found are missing.

        Every frame that a target refers to precedes it in decoding order, so nothing after the last target is needed.
        Frames that no other refers to are skipped. Frames marked as corrupt are dropped: after a seek, that can mean
        that it landed in the wrong place.
        """
        self.seek(min(targets))
        got: dict[int, Frame] = {}
        unsent = set(targets)
        for packet in self.packets():
            if self._unreferenced is not None and packet.pts not in targets and self._unreferenced(packet):
                continue
            unsent.discard(packet.pts)
            for frame in self._decode(packet):
                if frame.pts in targets and not frame.is_corrupt:
                    got[targets[frame.pts]] = self.rgb(frame)
            if not unsent:
                break
        for frame in self._decode(None):
            if frame.pts in targets and not frame.is_corrupt:
                got[targets[frame.pts]] = self.rgb(frame)
        return got

    def rgb(self, frame: "av.VideoFrame") -> Frame:
        """u8[H, W, 3], upright: the display matrix of the file is applied.

        Raises:
            MediaTooLarge: with the frames before it, it exceeds the limit (frames can be larger than the header says).
        """
        self._taken += 1
        self._limits.check_held(frame.width, frame.height, self._taken, self._name)
        return self.upright(frame)

    def upright(self, frame: "av.VideoFrame") -> Frame:
        """As `rgb`, for a frame that does not count towards the frames held."""
        self._limits.check_pixels(frame.width, frame.height, self._name)
        return self.appearance.rgb(frame)

    def frames(self) -> "Iterator[av.VideoFrame]":
        """Every frame from here on, in presentation order."""
        for packet in self.packets():
            yield from self._decode(packet)

    def packets(self) -> "Iterator[av.Packet]":
        """Every packet from here on, and the one that drains the decoder; ends early if the file is truncated."""
        demuxed = self.container.demux(self.stream)
        try:
            yield from demuxed if self._timeline is None else self._timeline.corrected(self.stream.index, demuxed)
        except av.error.FFmpegError as error:
            self.errors.append(str(error.strerror))

    def _decode(self, packet: "av.Packet | None") -> "list[av.VideoFrame]":
        """Frames that this packet completes (None: drain the decoder); errors are collected in `errors`."""
        if packet is not None and not packet.size and (packet.pts is not None or packet.dts is not None):
            return []  # no bytes: the frame before is shown again; to a decoder it would mean the end
        try:
            frames: list[av.VideoFrame] = self.stream.codec_context.decode(packet)
            return frames
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            self.errors.append(str(error.strerror))
            return []


def video_stream(container: "av.container.InputContainer", source: MediaSource) -> "av.VideoStream":
    """The chosen video stream (tracks.py), with an allowed codec.

    Raises:
        NoVideoStream. UsageError: the caller's choice is not in the file. UnreadableMedia: its codec is not allowed.
    """
    track = choose_track(container, source, "video")
    if track is None:
        raise NoVideoStream(f"{source.name} has no video stream; use only its audio, or pass a video.")
    stream: av.VideoStream = track.stream
    codec = stream.codec_context
    if codec is None or codec.name not in VIDEO_CODECS & source.decoders():
        name = "unknown" if codec is None else codec.name
        raise UnreadableMedia(
            f"{source.name}: video codec {name!r} is not supported; re-encode it, for example as H.264."
        )
    return stream
