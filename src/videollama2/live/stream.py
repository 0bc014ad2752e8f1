"""Frames and sound that are pushed as they come, and questions about the last seconds of them.

    push_frame, push_sound ──► the last N seconds ── Recording ──► Engine ──► answer + receipt

stream = Stream(engine, seconds=10)
stream.push_frame(frame, time)                   # from one thread
stream.push_sound(samples, 48000)                # from another
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
from .sounds import SoundBuffer

if TYPE_CHECKING:
    from ..engine import Engine
    from ..generation.session import AnswerStream, Session
    from ..receipt import Answer

MOST_SECONDS = 600.0
_SAME = 1e-3  # seconds between frames that are one


class Stream:
    """The last `seconds` of something that goes on. Safe to use from several threads.

    Memory is bounded: by `most_fps` frames a second, 16 kHz of sound, and `most_bytes` of frames; where these would be
    more, every second frame goes, over the whole of the time. What was left out stands in the receipt.
    """

    def __init__(
        self,
        engine: "Engine",
        *,
        seconds: float = 10.0,
        most_fps: float = 8.0,
        most_bytes: int = 512 << 20,
        limits: Limits = DEFAULT_LIMITS,
        name: str = "<stream>",
    ) -> None:
        """Nothing is there yet.

        Args:
            seconds: how far back questions reach.
            most_fps: frames that come faster are left out.
            most_bytes: of all frames that are held.
            limits: what one frame may be.
            name: for receipts.
        """
        if not (isinstance(seconds, int | float) and 0 < seconds <= MOST_SECONDS):
            raise UsageError(f"seconds={seconds!r}; expected more than 0, and at most {MOST_SECONDS:g}")
        if not (most_fps > 0 and math.isfinite(most_fps)) or most_bytes < 1:
            raise UsageError(f"most_fps={most_fps!r}, most_bytes={most_bytes!r}; expected more than 0")
        self.engine, self.seconds = engine, float(seconds)
        self._most_bytes, self._limits, self._name = most_bytes, limits, name
        self._gap = 1 / most_fps  # least seconds between two frames that are held
        self._frames: list[tuple[float, Frame]] = []
        self._bytes = 0
        self._due = -math.inf  # second of the next frame that is held
        self._last_frame: float | None = None
        self._sound = SoundBuffer(self.seconds)
        self._lock = threading.Lock()

    @property
    def now(self) -> float | None:
        """Seconds of the latest frame, or the end of the latest sound; None before anything came."""
        with self._lock:
            return self._now()

    def wants(self, time: float) -> bool:
        """Whether a frame of this second would be held, or left out because others are near; saves converting it."""
        with self._lock:
            return self._wants(time)

    def push_frame(self, frame: NDArray[np.uint8], time: float) -> None:
        """Take a frame.

        Args:
            frame: u8[H, W, 3] RGB; also [H, W], [H, W, 1] and [H, W, 4].
            time: seconds on any clock; later than the frame before.

        Raises:
            UsageError: it is no frame, or not later. MediaTooLarge: it is over the limits.
        """
        picture = array_to_rgb(frame)
        self._limits.check_pixels(picture.shape[1], picture.shape[0], "a frame")
        when = _second(time)
        with self._lock:
            if self._last_frame is not None and when < self._last_frame:
                raise UsageError(f"a frame of {when:g} s came after one of {self._last_frame:g} s; times must ascend")
            self._last_frame = when
            if not self._wants(when):
                return
            following = self._due + self._gap  # on average so many a second, whatever rate they come at
            self._due = following if following > when else when + self._gap
            kept = picture.copy()  # the caller may use its array for the next frame
            self._frames.append((when, kept))
            self._bytes += kept.nbytes
            self._forget()

    def push_sound(self, samples: NDArray[np.generic], rate: int, time: float | None = None) -> None:
        """Take sound.

        Args:
            samples: float [S] or [S, channels] (±1), or int16 of these shapes; 1, 2 or 6 channels.
            rate: samples per second.
            time: seconds of the first sample, on the clock of the frames; None: where the sound before ended, or at
                the latest frame. Where sound is missing silence stands, and what comes twice is used once.

        Raises:
            UsageError: another shape, type or rate. NumericsError: NaN or infinity.
        """
        given = None if time is None else _second(time)
        with self._lock:
            if given is None:
                given = self._sound.end if self._sound.end is not None else (self._last_frame or 0.0)
            self._sound.push(samples, rate, given)
            self._forget()

    def recording(self) -> Recording:
        """The last seconds, as they are now; a copy, which does not change.

        Raises:
            EmptyMedia: nothing was pushed yet.
        """
        with self._lock:
            now = self._now()
            if now is None:
                raise EmptyMedia(f"{self._name}: no frame and no sound was pushed yet")
            start = now - self.seconds
            kept = [(time, frame) for time, frame in self._frames if time >= start - _SAME]
            samples, begins = self._sound.last(start)
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
        """A question about the last seconds.

        Args:
            question: the user's words.
            kwargs: as for `Engine.answer`.

        Raises:
            EmptyMedia: nothing was pushed yet. VideoLlama2Error: see errors.py.
        """
        return self.engine.answer(self.recording(), question, **kwargs)

    def stream(self, question: str, **kwargs: Any) -> "AnswerStream":
        """As `ask`, in pieces; about the seconds before this call, however long it is read."""
        return self.engine.stream(self.recording(), question, **kwargs)

    def open(self, **kwargs: Any) -> "Session":
        """The last seconds, for several questions about the same ones."""
        return self.engine.open(self.recording(), **kwargs)

    def _wants(self, time: float) -> bool:
        return time >= self._due - _SAME and (not self._frames or time > self._frames[-1][0])

    def _now(self) -> float | None:
        ends = [end for end in (self._last_frame, self._sound.end) if end is not None]
        return max(ends, default=None)

    def _forget(self) -> None:
        """Let go of what is too old, and of every second frame while there are too many bytes of them."""
        start = (self._now() or 0.0) - self.seconds
        first = next((i for i, (time, _) in enumerate(self._frames) if time >= start - _SAME), len(self._frames))
        del self._frames[:first]
        self._bytes = sum(frame.nbytes for _, frame in self._frames)
        while self._bytes > self._most_bytes and len(self._frames) > 1:
            del self._frames[-2::-2]  # the latest stays
            self._gap *= 2
            self._due = self._frames[-1][0] + self._gap
            self._bytes = sum(frame.nbytes for _, frame in self._frames)

    def _notes(self) -> tuple[str, ...]:
        notes = [
            f"the last {self.seconds:g} s of a stream, of which at most {1 / self._gap:g} frames a second are held"
        ]
        if self._sound.filled > 0:
            notes.append(f"{self._sound.filled:.1f} s of sound did not come since the beginning: silence stands there")
        if self._sound.dropped > 0:
            notes.append(f"{self._sound.dropped:.1f} s of sound came twice since the beginning, and were used once")
        return tuple(notes)


def _second(time: float) -> float:
    if isinstance(time, bool) or not isinstance(time, int | float | np.floating) or not math.isfinite(time):
        raise UsageError(f"time={time!r}; expected seconds as a finite number")
    return float(time)
