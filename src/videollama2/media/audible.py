"""Which of a file's audio is used: the protocol's range, from a track and channels that have a signal.

    chosen track ── silent? ──► the first track with a signal      ── mix silent, channels not? ──► the loudest channel

If the protocol encodes silence unchanged (the released one), nothing is swapped; the notes report where a signal is.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ..errors import MediaError
from ..protocols import Protocol
from .audio_decoder import decode_audio
from .clip import Wave
from .limits import Limits
from .source import MediaSource
from .timeline import Timeline
from .tracks import Track, track_notes

_AUDIBLE = 1e-3  # of full scale, -60 dB: peaks below it are reported
_INAUDIBLE = 2.0**-13  # -78 dB: dither, and what codecs make of silence
_NEARLY_SILENT = 0.01  # a mix at most this loud may be what remains of channels that cancel; share of full scale
_CANCELLED = 0.01  # channels cancel if the mix is at most this share of the loudest


def _silence(wave: Wave) -> str:
    """What kind of silence it is; "" for audio that a person hears."""
    if wave.silent:
        return "digital silence"
    decibels = 20 * np.log10(max(wave.peak, 2.0**-16))
    return f"nearly silent (its peak is {decibels:.0f} dB)" if wave.peak < _AUDIBLE else ""


@dataclass(frozen=True)
class AudioRequest:
    """Which audio of a file is decoded: by the protocol, in a range of seconds. `is_video`: it has pictures, too."""

    source: MediaSource
    protocol: Protocol
    limits: Limits
    start: float | None
    end: float | None
    is_video: bool

    def decode(self, timeline: Timeline, found: Sequence[Track], used: Track | None) -> Wave:
        """The audio of the file's track `used`, one of those `found`; of another, if it is silent.

        Raises:
            As decode_audio.
        """
        wave = self._track(timeline, used)
        silence = _silence(wave)
        which = track_notes(found, used)
        if not silence or wave.unheard or used is None:
            return replace(wave, notes=(*which, *wave.notes))
        quiet = (f"the audio is {silence}",) if 0 < wave.peak < _INAUDIBLE and not wave.silent else ()
        for track in found if self.source.audio_track is None else ():
            if track == used or not track.usable:
                continue
            with suppress(MediaError):
                other = self._track(None, track)
                if other.peak < _AUDIBLE:
                    continue
                silent = f"audio track {used} of {len(found)} is {silence}"
                if self._exchanges and wave.peak < _INAUDIBLE:
                    return replace(other, notes=(f"{silent}; track {track} is used", *other.notes))
                note = f"{silent} and is used; track {track} has a signal, choose it with audio_track={track.number}"
                return replace(wave, notes=(note, *wave.notes))
        return replace(wave, notes=(*which, *quiet, *wave.notes))

    @property
    def _policy(self) -> str:
        return self.protocol.video_audio if self.is_video else self.protocol.file_audio

    @property
    def _exchanges(self) -> bool:
        """Whether the protocol has no use for silence, so that a signal replaces it."""
        return self.protocol.absent_audio == "skip"

    def _track(self, timeline: Timeline | None, track: Track | None) -> Wave:
        cut = self.protocol.audio_in_range or not self.is_video
        windows = self.is_video and self._policy == "eight_windows"  # they spread over all of the audio
        source = self.source if track is None else replace(self.source, audio_track=track.number)

        def decoded(channel: int | None) -> Wave:
            return decode_audio(
                source,
                self.limits,
                start=self.start if cut else None,
                end=self.end if cut else None,
                mixed=self._policy != "first_channel",
                channel=channel,
                max_seconds=None if windows else self.protocol.audio_seconds,
                timeline=timeline,
            )

        wave = decoded(None)
        if wave.channels < 2 or wave.peak >= _NEARLY_SILENT:
            return wave
        peaks = [decoded(channel).peak for channel in range(wave.channels)]
        loudest = int(np.argmax(peaks))
        if wave.peak >= _CANCELLED * peaks[loudest]:
            return wave
        note = _of_channels(wave, peaks, mixed=self._policy != "first_channel")
        if not self._exchanges:
            return replace(wave, unheard=note if wave.silent else "", notes=wave.notes + (note,) * (not wave.silent))
        alone = decoded(loudest)
        return replace(alone, notes=(f"{note}; channel {loudest + 1} is used alone", *alone.notes))


def _of_channels(wave: Wave, peaks: Sequence[float], *, mixed: bool) -> str:
    """Why a mix is silent although the channels are not."""
    heard = [n for n, peak in enumerate(peaks, 1) if peak > 2.0**-16]
    if not mixed:
        return f"the first of its {len(peaks)} channels is silent; channel {heard[0]} has a signal"
    if len(heard) > 1:
        return f"its {len(peaks)} channels cancel each other in the mix (their peak is {max(peaks):.2f})"
    return f"the mix drops channel {heard[0]} of {len(peaks)}, the only one with a signal (peak {max(peaks):.2f})"
