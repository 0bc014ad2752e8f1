"""Read a camera, an RTSP address, a pipe or a file into a LiveStream, in a thread, and ask about it at intervals.

For local use only: the source comes from the user's own command line or program. Nothing that serves requests may
import this module (tests/live/test_reader.py checks that); the server's media go through serve/ and media/, which open
only allowed addresses.
"""

import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import av.error

from ..errors import MediaError, MediaNotFound, NoAudioStream, NoVideoStream, UnreadableMedia, UsageError
from ..media.audio_decoder import audio_stream
from ..media.frame_decoder import FrameDecoder, video_stream
from ..media.limits import DEFAULT_LIMITS, Limits
from ..media.mixing import RATE, mono_resampler
from ..media.source import FORMATS, MediaSource, local_path
from ..receipt import Answer
from .stream import LiveStream

logger = logging.getLogger(__name__)

_ADDRESS = re.compile(r"^(rtsps?)://", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_CAMERA = re.compile(r"^camera(?::(.+))?$")
_TIMEOUTS = (15.0, 15.0)  # seconds to open an address, and to wait for its next data
_CLOCK_JUMP = 5.0  # a timestamp jump of this many seconds means a new clock
_MAX_UNDECODABLE = 500  # packets in a row

_POLL_SECONDS = 0.05  # between two checks of the stream's clock

# cameras on each system: FFmpeg's format, name of the first camera, pattern for others
_CAMERAS = {
    "linux": ("v4l2", "/dev/video0", "/dev/video{}"),
    "darwin": ("avfoundation", "0", "{}"),
    "win32": ("dshow", None, "video={}"),
}


class StreamReader:
    """Reads a source and pushes its frames and audio into a stream, until it ends or is stopped.

        with StreamReader("rtsp://camera.local/main", stream) as reader:
            …                                                       # stream.ask(…), from any thread
        reader.check()

    Attributes:
        name: the source without credentials, for messages.
        ended: set when the source has ended.
        error: the error that ended it, if any.
    """

    def __init__(
        self,
        source: str | Path | IO[bytes],
        stream: LiveStream,
        *,
        speed: float = 1.0,
        video: bool = True,
        audio: bool = True,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """The source is not opened yet.

        Args:
            source: `camera`, `camera:1` (a number or a name), an rtsp:// or rtsps:// address, the path of a file or a
                named pipe, or an open binary file (`sys.stdin.buffer`).
            speed: playback speed of a file; inf: no pacing. Other sources are read as they arrive.
            video, audio: which streams to push.
        """
        if not speed > 0:
            raise UsageError(f"speed={speed!r}; expected more than 0 (1: real time).")
        if not (video or audio):
            raise UsageError("video and audio are both false; request at least one.")
        self.name = _CREDENTIALS.sub("", str(source)) if isinstance(source, str | Path) else "<pipe>"
        self.ended = threading.Event()
        self.error: MediaError | None = None
        self._source, self._stream, self._limits = source, stream, limits
        self._paced = isinstance(source, str | Path) and _is_file(source)
        self._speed, self._video, self._audio = speed, video, audio
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._clock = _Clock()

    def __enter__(self) -> "StreamReader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop reading. A thread still waiting for its source after one second is left to end with the process."""
        self._stop.set()
        self._thread.join(1.0)

    def check(self) -> None:
        """Raise the error that ended the reading, if any.

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
            self.error = UnreadableMedia(f"{self.name} can't be read ({words}); expected a video or audio source.")
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
            raise UnreadableMedia(f"{self.name} has none of the requested streams (video, audio).")
        resampler = mono_resampler()
        began, undecodable = time.monotonic(), 0
        for packet in container.demux(streams):
            if self._stop.is_set():
                return
            try:
                frames = packet.decode()
                undecodable = 0
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:  # the next packet of a live source may be good
                undecodable += 1
                if undecodable == _MAX_UNDECODABLE:
                    raise
                logger.info("%s: undecodable packet: %s", self.name, error.strerror)
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
                self._stream.push_audio(part.to_ndarray().reshape(-1), RATE, at)
                at += part.samples / RATE
        elif decoder is not None and self._stream.wants(at):
            self._stream.push_frame(decoder.upright(frame), at)

    def _wait(self, seconds: float) -> bool:
        """Wait until a frame is due; False if the reader was stopped."""
        return not self._stop.wait(seconds) if seconds > 0 else not self._stop.is_set()


@dataclass(frozen=True, kw_only=True)
class LiveAnswer:
    """An answer about the seconds from `start` to `end`, on the stream's clock.

    Attributes:
        late: seconds by which the stream had moved on when the answer was ready.
    """

    start: float
    end: float
    answer: Answer
    late: float


def ask_every(
    stream: LiveStream, reader: StreamReader, question: str, seconds: float, **kwargs: Any
) -> Iterator[LiveAnswer]:
    """Ask every `seconds` of the stream's clock, and once more at its end about the part that no answer covers.

    If answering takes longer, questions that came due meanwhile are skipped, so each answer is about the latest
    seconds.

    Args:
        reader: fills the stream; its error is raised after the last answer.
        kwargs: as for `Engine.answer`.

    Raises:
        UsageError: invalid `seconds`. VideoLlama2Error: see errors.py.
    """
    if not seconds > 0:
        raise UsageError(f"seconds={seconds!r} between questions; expected more than 0.")
    asked, due = 0.0, seconds
    while True:
        ended = reader.ended.wait(_POLL_SECONDS)  # before reading the clock, so that the last frames count
        now = stream.now
        if now is not None and (now >= due or (ended and now - asked > _POLL_SECONDS)):
            answer = stream.ask(question, **kwargs)
            late = (stream.now or now) - now
            yield LiveAnswer(start=max(now - stream.seconds, 0.0), end=now, answer=answer, late=late)
            asked, due = now, max(due + seconds, now + seconds)
        if ended:
            reader.check()
            return


class _Clock:
    """Timestamps to seconds since reading began. Timestamps may start anywhere, and start over."""

    def __init__(self) -> None:
        self._zero: float | None = None
        self._last: dict[str, float] = {}

    def seconds(self, stamp: float | None, kind: str) -> float:
        """Time of a stream's next frame, never before its previous one."""
        last = self._last.get(kind)
        latest = max(self._last.values(), default=0.0)
        if stamp is None:
            at = latest
        else:
            self._zero = stamp if self._zero is None else self._zero
            at = stamp - self._zero
            if self._last and abs(at - latest) > _CLOCK_JUMP:  # a reconnected camera, or a file that starts over
                self._zero = stamp - latest
                at = latest
        self._last[kind] = at = max(at, last or 0.0)
        return at


@contextmanager
def _opened(source: str | Path | IO[bytes], name: str) -> "Iterator[av.container.InputContainer]":
    """The container of a source; raises UnreadableMedia, MediaNotFound."""
    whitelist = {"format_whitelist": FORMATS}
    target, arguments = (
        _named(source, name, whitelist) if isinstance(source, str | Path) else (source, {"options": whitelist})
    )
    with av.open(target, **arguments) as container:
        yield container


def _named(source: str | Path, name: str, whitelist: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """FFmpeg's URL and arguments for a source."""
    if (camera := _CAMERA.match(str(source))) and not Path(source).exists():
        target, form = _camera(camera[1])
        return target, {"format": form, "timeout": _TIMEOUTS}
    if _ADDRESS.match(str(source)):
        return str(source), {"format": "rtsp", "timeout": _TIMEOUTS, "options": {"rtsp_transport": "tcp"}}
    path = local_path(source)  # rejects every other address
    if not path.exists() or path.is_dir():
        raise MediaNotFound(f"{name} is not a file, pipe, camera or rtsp:// address.")
    if path.is_file():
        with MediaSource.of(path, DEFAULT_LIMITS).container():  # rejects playlists and scripts
            pass
    return f"file:{path.absolute()}", {"options": {**whitelist, "protocol_whitelist": "file"}}


def _camera(name: str | None) -> tuple[str, str]:
    """FFmpeg's name of a camera on this system, and the format that reads it."""
    form, first, others = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
    if name is None and first is None:
        raise UsageError("no default camera on this system; name one, such as camera:Integrated Camera.")
    found = first if name is None else name if name.startswith("/dev/") else others.format(name)
    return str(found), form


def _is_file(source: str | Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return Path(source).is_file()
    return False
