"""From a camera, an RTSP address, a pipe or a file into a Stream, by PyAV, in a thread.

For people at their own machine: what is read here is named on their command line or in their program. Nothing that
answers requests of others may import this module (tests/live/test_reader.py holds it to that): for those, media come
through serve/ and media/, where no address but an allowed one is ever opened.
"""

import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import av
import av.error

from ..errors import MediaError, MediaNotFound, NoAudioStream, NoVideoStream, UnreadableMedia, UsageError
from ..media.audio import RATE, audio_stream
from ..media.frame_decoder import FrameDecoder, video_stream
from ..media.limits import DEFAULT_LIMITS, Limits
from ..media.source import FORMATS, MediaSource, local_path
from .stream import Stream

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"^(rtsps?)://", re.IGNORECASE)
_SECRET = re.compile(r"(?<=://)[^/@\s]*@")
_CAMERA = re.compile(r"^camera(?::(.+))?$")
_WAIT = (15.0, 15.0)  # seconds for an address to answer, and for the next of its data
_JUMP = 5.0  # seconds between time stamps that mean a new clock
_MOST_BROKEN = 500  # packets in a row that can't be decoded

# what each system calls its cameras: format, name of the first one, form of others
_CAMERAS = {
    "linux": ("v4l2", "/dev/video0", "/dev/video{}"),
    "darwin": ("avfoundation", "0", "{}"),
    "win32": ("dshow", None, "video={}"),
}


class Reader:
    """Reads a source and pushes what it holds, until it ends or is told to stop.

        with Reader("rtsp://camera.local/main", stream) as reader:
            …                                                       # stream.ask(…), from any thread
        reader.check()

    Attributes:
        name: the source without a password in it, for messages.
        ended: set when nothing more will come.
        error: why it ended, if not by itself.
    """

    def __init__(
        self,
        source: str | Path | IO[bytes],
        stream: Stream,
        *,
        speed: float = 1.0,
        video: bool = True,
        audio: bool = True,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Nothing is opened yet.

        Args:
            source: `camera`, `camera:1` (a number or a name), an rtsp:// or rtsps:// address, the path of a file or of
                a named pipe, or an open binary file (`sys.stdin.buffer`).
            speed: how much faster than its clock a file is read; inf: as fast as it goes. Others come as they come.
            video, audio: what is pushed.
        """
        if not speed > 0:
            raise UsageError(f"speed={speed!r}; expected more than 0 (1: as fast as it plays)")
        if not (video or audio):
            raise UsageError("neither pictures nor sound are wanted of the source; want at least one")
        self.name = _SECRET.sub("", str(source)) if isinstance(source, str | Path) else "<pipe>"
        self.ended = threading.Event()
        self.error: MediaError | None = None
        self._source, self._stream, self._limits = source, stream, limits
        self._paced = isinstance(source, str | Path) and _is_file(source)
        self._speed, self._video, self._audio = speed, video, audio
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._clock = _Clock()

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Read no more. A source that keeps silent is left alone after a second; its thread ends with the process."""
        self._stop.set()
        self._thread.join(1.0)

    def check(self) -> None:
        """Raise what ended the reading, if it was an error.

        Raises:
            MediaError: the source can't be opened or read.
        """
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            with _opened(self._source, self.name) as container:
                self._read(container)
        except MediaError as error:
            self.error = error
        except (av.error.FFmpegError, EOFError, OSError, ValueError) as error:
            words = str(getattr(error, "strerror", None) or type(error).__name__).lower()
            self.error = UnreadableMedia(
                f"{self.name} can't be read ({words}). Is it there, and is it a video or a sound?"
            )
        finally:
            self.ended.set()

    def _read(self, container: "av.container.InputContainer") -> None:
        source = MediaSource(self.name)
        streams: list[Any] = []
        decoder = None
        if self._video:
            with contextlib.suppress(NoVideoStream):
                streams.append(video_stream(container, source))
                decoder = FrameDecoder(container, source, self._limits)
        if self._audio:
            with contextlib.suppress(NoAudioStream):
                streams.append(audio_stream(container, source))
        if not streams:
            raise UnreadableMedia(f"{self.name} holds nothing of what is wanted of it: pictures, sound or both")
        resampler = av.AudioResampler("s16", "mono", RATE)
        began, broken = time.monotonic(), 0
        for packet in container.demux(streams):
            if self._stop.is_set():
                return
            try:
                frames = packet.decode()
                broken = 0
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:  # of a live source: the next one may be good
                broken += 1
                if broken == _MOST_BROKEN:
                    raise
                logger.info("%s: a packet can't be decoded: %s", self.name, error.strerror)
                continue
            for frame in frames:
                at = self._clock.seconds(frame.time, packet.stream.type)
                if self._paced and not self._wait(at / self._speed - (time.monotonic() - began)):
                    return
                self._push(frame, at, decoder, resampler)

    def _push(self, frame: Any, at: float, decoder: FrameDecoder | None, resampler: "av.AudioResampler") -> None:
        if isinstance(frame, av.AudioFrame):
            frame.pts = None
            for part in resampler.resample(frame):
                self._stream.push_sound(part.to_ndarray().reshape(-1), RATE, at)
                at += part.samples / RATE
        elif decoder is not None and self._stream.wants(at):
            self._stream.push_frame(decoder.upright(frame), at)

    def _wait(self, seconds: float) -> bool:
        """Wait for the frame's moment; False when it is time to stop."""
        return not self._stop.wait(seconds) if seconds > 0 else not self._stop.is_set()


class _Clock:
    """Time stamps to seconds since the reading began: they may begin anywhere, and begin anew."""

    def __init__(self) -> None:
        self._zero: float | None = None
        self._last: dict[str, float] = {}

    def seconds(self, stamp: float | None, kind: str) -> float:
        """Of a stream's next frame; never before its last one."""
        last = self._last.get(kind)
        latest = max(self._last.values(), default=0.0)
        if stamp is None:
            at = latest
        else:
            self._zero = stamp if self._zero is None else self._zero
            at = stamp - self._zero
            if self._last and abs(at - latest) > _JUMP:  # a camera that was away, a file that begins anew
                self._zero = stamp - latest
                at = latest
        self._last[kind] = at = max(at, last or 0.0)
        return at


@contextmanager
def _opened(source: str | Path | IO[bytes], name: str) -> "Iterator[av.container.InputContainer]":
    """The container of a source; raises UnreadableMedia, MediaNotFound."""
    whitelist = {"format_whitelist": FORMATS}
    target, wanted = (
        _named(source, name, whitelist) if isinstance(source, str | Path) else (source, {"options": whitelist})
    )
    with av.open(target, **wanted) as container:
        yield container


def _named(source: str | Path, name: str, whitelist: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """What FFmpeg is to open, and how."""
    if (camera := _CAMERA.match(str(source))) and not Path(source).exists():
        target, form = _camera(camera[1])
        return target, {"format": form, "timeout": _WAIT}
    if _ADDRESS.match(str(source)):
        return str(source), {"format": "rtsp", "timeout": _WAIT, "options": {"rtsp_transport": "tcp"}}
    path = local_path(source)  # refuses every other address
    if not path.exists() or path.is_dir():
        raise MediaNotFound(f"{name} is no file, pipe, camera or rtsp:// address.")
    if path.is_file():
        with MediaSource.of(path, DEFAULT_LIMITS).container():  # playlists and the like are refused there
            pass
    return f"file:{path.absolute()}", {"options": {**whitelist, "protocol_whitelist": "file"}}


def _camera(name: str | None) -> tuple[str, str]:
    """What FFmpeg calls a camera here, and the format that reads it."""
    form, first, others = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
    if name is None and first is None:
        raise UsageError("say which camera, by its name: camera:Integrated Camera")
    found = first if name is None else name if name.startswith("/dev/") else others.format(name)
    return str(found), form


def _is_file(source: str | Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return Path(source).is_file()
    return False
