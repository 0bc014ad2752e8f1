"""Push frames and audio as they arrive, and ask questions about the last seconds.

    push_frame, push_audio ──► the last N seconds ── Recording ──► Engine ──► answer + receipt

stream = LiveStream(engine, seconds=10)
stream.push_frame(frame, time)                   # from one thread
stream.push_audio(samples, 48000)                # from another
stream.ask("What happens?")                      # from a third
"""

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EmptyMedia, UsageError
from ..media import DEFAULT_LIMITS, Limits, Recording
from ..media.clip import Frame
from ..media.images import array_to_rgb
from .audio_buffer import AudioBuffer

if TYPE_CHECKING:
    from ..engine import Engine
    from ..generation.session import AnswerStream, Session
    from ..receipt import Answer

MAX_SECONDS = 600.0
_SAME_TIME = 1e-3  # frames closer than this many seconds count as one


class LiveStream:
    """The last `seconds` of a live source. Thread-safe.

    Memory is bounded: `max_fps` frames per second, audio at 16 kHz, and `max_bytes` of frames. Above `max_bytes`, every
    other frame is dropped across the whole buffer. The receipt reports what was dropped.
    """

    def __init__(
        self,
        engine: "Engine",
        *,
        seconds: float = 10.0,
        max_fps: float = 8.0,
        max_bytes: int = 512 << 20,
        limits: Limits = DEFAULT_LIMITS,
        name: str = "<stream>",
    ) -> None:
        """Create an empty buffer.

        Args:
            seconds: how far back a question reaches.
            max_fps: frames above this rate are dropped.
            max_bytes: total size of the buffered frames.
            limits: limits on one frame.
            name: for receipts.
        """
        if not (isinstance(seconds, int | float) and 0 < seconds <= MAX_SECONDS):
            raise UsageError(f"seconds={seconds!r}; expected more than 0 and up to {MAX_SECONDS:g}")
        if not (max_fps > 0 and math.isfinite(max_fps)) or max_bytes < 1:
            raise UsageError(f"max_fps={max_fps!r}, max_bytes={max_bytes!r}; expected more than 0.")
        self.engine, self.seconds = engine, float(seconds)
        self._max_bytes, self._limits, self._name = max_bytes, limits, name
        self._gap = 1 / max_fps  # minimum seconds between two held frames
        self._frames: list[tuple[float, Frame]] = []
        self._bytes = 0
        self._due = -math.inf  # time from which the next frame is held
        self._last_frame: float | None = None
        self._audio = AudioBuffer(self.seconds)
        self._lock = threading.Lock()

    @property
    def now(self) -> float | None:
        """Time of the latest frame or of the end of the audio, in seconds; None before the first push."""
        with self._lock:
            return self._now()

    def wants(self, time: float) -> bool:
        """Whether a frame at this time would be kept, not dropped as too close to others; saves converting it."""
        with self._lock:
            return self._wants(time)

    def push_frame(self, frame: NDArray[np.uint8], time: float) -> None:
        """Add a frame.

        Args:
            frame: u8[H, W, 3] RGB; also [H, W], [H, W, 1] or [H, W, 4].
            time: seconds on any clock, not earlier than the previous frame.

        Raises:
            UsageError: not a frame, or earlier than the one before. MediaTooLarge: over the limits.
        """
        rgb = array_to_rgb(frame)
        self._limits.check_pixels(rgb.shape[1], rgb.shape[0], "a frame")
        when = _seconds(time)
        with self._lock:
            if self._last_frame is not None and when < self._last_frame:
                raise UsageError(
                    f"a frame at {when:g} s after one at {self._last_frame:g} s; expected ascending times."
                )
            self._last_frame = when
            if not self._wants(when):
                return
            following = self._due + self._gap  # keeps the average at max_fps, at any input rate
            self._due = following if following > when else when + self._gap
            kept = rgb.copy()  # the caller may reuse its array
            self._frames.append((when, kept))
            self._bytes += kept.nbytes
            self._drop_old()

    def push_audio(self, samples: NDArray[np.generic], rate: int, time: float | None = None) -> None:
        """Add audio.

        Args:
            samples: float [S] or [S, channels] (±1), or int16 of these shapes; 1, 2 or 6 channels.
            rate: samples per second.
            time: the time in seconds of the first sample, on the frames' clock; None: where the previous audio ended,
                or at the latest frame. Gaps are filled with silence, and repeated audio is dropped.

        Raises:
            UsageError: another shape, dtype or rate. NumericsError: NaN or infinity.
        """
        given = None if time is None else _seconds(time)
        with self._lock:
            if given is None:
                given = self._audio.end if self._audio.end is not None else (self._last_frame or 0.0)
            self._audio.push(samples, rate, given)
            self._drop_old()

    def recording(self) -> Recording:
        """A snapshot of the last seconds.

        Raises:
            EmptyMedia: nothing has been pushed yet.
        """
        with self._lock:
            now = self._now()
            if now is None:
                raise EmptyMedia(f"{self._name}: no frames or audio have been pushed yet.")
            start = now - self.seconds
            kept = [(time, frame) for time, frame in self._frames if time >= start - _SAME_TIME]
            samples, begins = self._audio.last(start)
            notes = self._notes()
        return Recording(
            frames=tuple(frame for _, frame in kept),
            times=tuple(time for time, _ in kept),
            samples=samples,
            audio_start=begins,
            name=self._name,
            notes=notes,
        )

    def ask(self, question: str, **kwargs: Any) -> "Answer":
        """Ask about the last seconds.

        Args:
            question: the question.
            kwargs: as for `Engine.answer`.

        Raises:
            EmptyMedia: nothing has been pushed yet. VideoLlama2Error: see errors.py.
        """
        return self.engine.answer(self.recording(), question, **kwargs)

    def stream(self, question: str, **kwargs: Any) -> "AnswerStream":
        """Like `ask`, but streams the answer. It covers the seconds before this call, however slowly it is read."""
        return self.engine.stream(self.recording(), question, **kwargs)

    def open(self, **kwargs: Any) -> "Session":
        """A session for several questions about the same last seconds."""
        return self.engine.open(self.recording(), **kwargs)

    def _wants(self, time: float) -> bool:
        return time >= self._due - _SAME_TIME and (not self._frames or time > self._frames[-1][0])

    def _now(self) -> float | None:
        ends = [end for end in (self._last_frame, self._audio.end) if end is not None]
        return max(ends, default=None)

    def _drop_old(self) -> None:
        """Drop old frames, and every second frame while they exceed `max_bytes`."""
        start = (self._now() or 0.0) - self.seconds
        first = next((i for i, (time, _) in enumerate(self._frames) if time >= start - _SAME_TIME), len(self._frames))
        del self._frames[:first]
        self._bytes = sum(frame.nbytes for _, frame in self._frames)
        while self._bytes > self._max_bytes and len(self._frames) > 1:
            del self._frames[-2::-2]  # keep the latest
            self._gap *= 2
            self._due = self._frames[-1][0] + self._gap
            self._bytes = sum(frame.nbytes for _, frame in self._frames)

    def _notes(self) -> tuple[str, ...]:
        notes = [f"the last {self.seconds:g} s of a stream, at up to {1 / self._gap:g} frames per second"]
        if self._audio.filled > 0:
            notes.append(f"{self._audio.filled:.1f} s of audio missing since the start; filled with silence")
        if self._audio.dropped > 0:
            notes.append(
                f"{self._audio.dropped:.1f} s of audio arrived twice since the start; the repeats were dropped"
            )
        return tuple(notes)


def _seconds(time: float) -> float:
    if isinstance(time, bool) or not isinstance(time, int | float | np.floating) or not math.isfinite(time):
        raise UsageError(f"time={time!r}; expected a finite number of seconds.")
    return float(time)
