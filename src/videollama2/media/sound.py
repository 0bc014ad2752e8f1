"""Sound of a clip to filterbank features, as the protocol wants it, with an account of every second.

released, sound file   first channel -> 30 s -> Fourier resampling -> fbank in float64 -> bfloat16      (spec §4.4)
released, video        eight windows of 2 s, one after the other -> zeros up to 30 s -> fbank -> bfloat16  (spec §4.5)
full                   everything in the asked range, nothing added -> fbank in float32
"""

from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor

from ..protocols import Protocol
from .clip import AudioState, Clip, Wave
from .fbank import FRAME, RATE, SHIFT, fbank, resample_fourier
from .sampling import eight_windows, window_samples


class AudioInput(Interface):
    """What an audio encoder asks of a wave at 16 kHz (audio.AudioEncoderConfig is one)."""

    @property
    def min_samples(self) -> int: ...
    def input_features(self, wave: Tensor) -> Tensor: ...


class Filterbank:
    """BEATs' input: the Kaldi filterbank, of at least one patch of 16 frames."""

    min_samples = FRAME + 15 * SHIFT

    def input_features(self, wave: Tensor) -> Tensor:
        """float [S] → [F, 128]."""
        return fbank(wave)


FILTERBANK = Filterbank()


@dataclass(frozen=True, kw_only=True)
class Sound:
    """What the audio encoder is given, and what became of the clip's sound.

    fbank            [F, bins] bfloat16 or float32 as the protocol says; None where nothing is to be encoded
    state            as in Clip
    decoded_seconds  sound decoded from the file
    used_seconds     sound that is in the fbank (overlapping windows count each time)
    windows_seconds  (start, end) of the used pieces, in the file's time
    padded_seconds   silence added after them
    notes, losses    as in Clip; the clip's own are not repeated
    """

    fbank: Tensor | None
    state: AudioState
    decoded_seconds: float = 0.0
    used_seconds: float = 0.0
    windows_seconds: tuple[tuple[float, float], ...] = ()
    padded_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


def sound_features(clip: Clip, protocol: Protocol, encoder: AudioInput = FILTERBANK) -> Sound:
    """The encoder's input features of a clip's sound, under the protocol that the clip was opened with."""
    wave = clip.wave
    if wave is None:
        return _without(clip, protocol, encoder)
    if clip.audio_state == "silent" and clip.frames and protocol.absent_sound == "skip":
        return Sound(fbank=None, state="silent", decoded_seconds=wave.seconds)  # there is nothing to hear in zeros
    policy = protocol.file_sound if clip.kind == "audio" else protocol.video_sound
    if policy == "first_channel":
        return _first_channel(wave, protocol, clip.audio_state, encoder)
    if policy == "eight_windows":
        return _eight_windows(wave, protocol, clip.audio_state, encoder)
    return _whole(wave, protocol, clip.audio_state, encoder)


def _without(clip: Clip, protocol: Protocol, encoder: AudioInput) -> Sound:
    if clip.audio_state != "absent" or protocol.absent_sound == "skip":
        return Sound(fbank=None, state=clip.audio_state)
    seconds = protocol.sound_seconds
    zeros = torch.zeros(round(seconds * RATE))
    note = f"{seconds:g} s of silence are encoded for the absent sound, as the public implementation does"
    return Sound(fbank=_features(zeros, protocol, encoder), state="absent", padded_seconds=seconds, notes=(note,))


def _first_channel(wave: Wave, protocol: Protocol, state: AudioState, encoder: AudioInput) -> Sound:
    room = round(protocol.sound_seconds * wave.rate)
    used = wave.samples[:room]
    filled = np.zeros(room) if protocol.pad_sound else used
    filled[: len(used)] = used
    at_16k = resample_fourier(torch.from_numpy(filled), wave.rate, RATE)
    losses = _unused(wave, len(used) / wave.rate)
    if wave.channels > 1:
        losses += (f"only the first of {wave.channels} channels is used",)
    return _account(wave, protocol, state, encoder, at_16k, [(0.0, len(used) / wave.rate)], losses)


def _eight_windows(wave: Wave, protocol: Protocol, state: AudioState, encoder: AudioInput) -> Sound:
    total = len(wave.samples)
    slices = [window_samples(window, total, wave.rate) for window in eight_windows(total, wave.rate)]
    joined = np.concatenate([wave.samples[piece] for piece in slices])
    pieces = [(piece.start / wave.rate, piece.stop / wave.rate) for piece in slices]
    heard, reach = 0, 0
    for piece in slices:
        heard, reach = heard + max(piece.stop - max(piece.start, reach), 0), piece.stop
    losses = _unused(wave, heard / wave.rate)
    filled = np.zeros(max(round(protocol.sound_seconds * wave.rate), len(joined)), np.float32)
    filled[: len(joined)] = joined
    return _account(
        wave, protocol, state, encoder, torch.from_numpy(filled if protocol.pad_sound else joined), pieces, losses
    )


def _whole(wave: Wave, protocol: Protocol, state: AudioState, encoder: AudioInput) -> Sound:
    used = wave.samples[: round(protocol.sound_seconds * wave.rate)]
    least = max(encoder.min_samples, round(protocol.sound_seconds * wave.rate) if protocol.pad_sound else 0)
    filled = used if len(used) >= least else np.pad(used, (0, least - len(used)))
    seconds = len(used) / wave.rate
    return _account(
        wave,
        protocol,
        state,
        encoder,
        torch.from_numpy(filled.astype(np.float32)),
        [(0.0, seconds)],
        _unused(wave, seconds),
    )


def _unused(wave: Wave, used: float) -> tuple[str, ...]:
    """A loss, when sound of the asked range is left out (a tenth of a second is none)."""
    there = wave.available_seconds
    return () if there - used < 0.1 else (f"{there - used:.1f} of {there:.1f} s of sound are not used",)


def _account(
    wave: Wave,
    protocol: Protocol,
    state: AudioState,
    encoder: AudioInput,
    at_16k: Tensor,
    pieces: list[tuple[float, float]],
    losses: tuple[str, ...],
) -> Sound:
    used = sum(end - start for start, end in pieces)
    padded = max(len(at_16k) / RATE - used, 0.0)
    notes = losses
    if padded > 0.005:
        notes += (f"{padded:.1f} s of silence are added after {used:.1f} s of sound",)
    shift = wave.start_seconds
    return Sound(
        fbank=_features(at_16k, protocol, encoder),
        state=state,
        decoded_seconds=wave.seconds,
        used_seconds=used,
        windows_seconds=tuple((shift + start, shift + end) for start, end in pieces),
        padded_seconds=padded,
        notes=notes,
        losses=losses,
    )


def _features(wave: Tensor, protocol: Protocol, encoder: AudioInput) -> Tensor:
    return encoder.input_features(wave).to(torch.bfloat16 if protocol.fbank_dtype == "bfloat16" else torch.float32)
