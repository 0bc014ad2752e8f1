"""A clip's audio to filterbank features, by the protocol's rules, with an account of every second.

released, audio file   first channel -> 30 s -> Fourier resampling -> fbank in float64 -> bfloat16      (spec §4.4)
released, video        eight windows of 2 s, one after the other -> zeros up to 30 s -> fbank -> bfloat16  (spec §4.5)
full                   everything in the requested range, nothing added -> fbank in float32
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor

from ..protocols import Protocol
from ..receipt import AudioReceipt, Loss
from .clip import Clip, Wave
from .fbank import FRAME, RATE, SHIFT, fbank, resample_fourier
from .sampling import eight_windows, window_samples


class FeatureExtractor(Interface):
    """Computes an audio encoder's input from a wave at 16 kHz (audio.AudioEncoderConfig is one)."""

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


class AudioInput(NamedTuple):
    """The audio encoder's input, and the account of the clip's audio.

    fbank    [F, bins], bfloat16 or float32 as the protocol says; None if nothing is to be encoded
    receipt  without its number of tokens, which depends on the model
    losses   the audio's own; the clip's are not repeated
    """

    fbank: Tensor | None
    receipt: AudioReceipt
    losses: tuple[Loss, ...] = ()


def audio_input(clip: Clip, protocol: Protocol, extractor: FeatureExtractor = FILTERBANK) -> AudioInput:
    """The encoder's input features of a clip's audio, under the protocol that the clip was opened with."""
    wave, state = clip.wave, clip.audio_state
    if wave is None:
        made = _without(clip, protocol, extractor)
    elif state == "silent" and clip.frames and protocol.absent_audio == "skip":
        receipt = AudioReceipt(source=clip.source, state="silent", decoded_seconds=wave.seconds, notes=wave.notes)
        made = AudioInput(None, receipt)
    else:
        policy = protocol.file_audio if clip.kind == "audio" else protocol.video_audio
        made = _POLICIES[policy](clip, wave, protocol, extractor)
    if state == "absent" and clip.audio_absent:
        receipt = replace(made.receipt, notes=(*made.receipt.notes, clip.audio_absent))
        return made._replace(receipt=receipt)  # the loss is the clip's
    if state == "absent":
        return _with_loss(made, Loss("audio_absent", "it has no audio"), "the media item has no audio")
    if state == "silent":
        unheard = "" if wave is None else wave.unheard
        note = (unheard or "every sample is zero") + ("" if made.fbank is not None else "; it was not encoded")
        return _with_loss(made, Loss("audio_silent", unheard or "its audio is digital silence"), note)
    return made


def _with_loss(made: AudioInput, loss: Loss, note: str) -> AudioInput:
    receipt = replace(made.receipt, notes=(*made.receipt.notes, note))
    return AudioInput(made.fbank, receipt, (*made.losses, loss))


def _without(clip: Clip, protocol: Protocol, extractor: FeatureExtractor) -> AudioInput:
    receipt = AudioReceipt(source=clip.source, state=clip.audio_state)
    if clip.audio_state != "absent" or protocol.absent_audio == "skip":
        return AudioInput(None, receipt)
    seconds = protocol.audio_seconds
    zeros = torch.zeros(round(seconds * RATE))
    note = f"{seconds:g} s of silence are encoded in place of the missing audio, as in the public implementation"
    return AudioInput(_features(zeros, protocol, extractor), replace(receipt, padded_seconds=seconds, notes=(note,)))


def _first_channel(clip: Clip, wave: Wave, protocol: Protocol, extractor: FeatureExtractor) -> AudioInput:
    room = round(protocol.audio_seconds * wave.rate)
    used = wave.samples[:room]
    filled = np.zeros(room) if protocol.pad_audio else used
    filled[: len(used)] = used
    at_16k = resample_fourier(torch.from_numpy(filled), wave.rate, RATE)
    losses = _unused(wave, len(used) / wave.rate)
    if wave.channels > 1:
        losses += (Loss("audio_channels", f"only the first of {wave.channels} channels is used"),)
    return _account(clip, wave, protocol, extractor, at_16k, [(0.0, len(used) / wave.rate)], losses)


def _eight_windows(clip: Clip, wave: Wave, protocol: Protocol, extractor: FeatureExtractor) -> AudioInput:
    total = len(wave.samples)
    slices = [window_samples(window, total, wave.rate) for window in eight_windows(total, wave.rate)]
    joined = np.concatenate([wave.samples[window] for window in slices])
    windows = [(window.start / wave.rate, window.stop / wave.rate) for window in slices]
    covered, reach = 0, 0  # samples, counted once where windows overlap
    for window in slices:
        covered, reach = covered + max(window.stop - max(window.start, reach), 0), window.stop
    losses = _unused(wave, covered / wave.rate)
    filled = np.zeros(max(round(protocol.audio_seconds * wave.rate), len(joined)), np.float32)
    filled[: len(joined)] = joined
    return _account(
        clip, wave, protocol, extractor, torch.from_numpy(filled if protocol.pad_audio else joined), windows, losses
    )


def _whole(clip: Clip, wave: Wave, protocol: Protocol, extractor: FeatureExtractor) -> AudioInput:
    used = wave.samples[: round(protocol.audio_seconds * wave.rate)]
    least = max(extractor.min_samples, round(protocol.audio_seconds * wave.rate) if protocol.pad_audio else 0)
    filled = used if len(used) >= least else np.pad(used, (0, least - len(used)))
    seconds = len(used) / wave.rate
    return _account(
        clip,
        wave,
        protocol,
        extractor,
        torch.from_numpy(filled.astype(np.float32)),
        [(0.0, seconds)],
        _unused(wave, seconds),
    )


_POLICIES: dict[str, Callable[[Clip, Wave, Protocol, FeatureExtractor], AudioInput]] = {
    "first_channel": _first_channel,
    "eight_windows": _eight_windows,
    "whole": _whole,
}


def _unused(wave: Wave, used: float) -> tuple[Loss, ...]:
    """A loss if audio in the requested range is not used; less than a tenth of a second does not count."""
    there = wave.available_seconds
    if there - used < 0.1:
        return ()
    return (Loss("audio_range", f"{there - used:.1f} of {there:.1f} s of audio are not used"),)


def _account(
    clip: Clip,
    wave: Wave,
    protocol: Protocol,
    extractor: FeatureExtractor,
    at_16k: Tensor,
    windows: list[tuple[float, float]],
    losses: tuple[Loss, ...],
) -> AudioInput:
    used = sum(end - start for start, end in windows)
    padded = max(len(at_16k) / RATE - used, 0.0)
    notes = (*wave.notes, *(loss.detail for loss in losses))
    if padded > 0.005:
        notes += (f"{padded:.1f} s of silence are appended to {used:.1f} s of audio",)
    shift = wave.start_seconds
    receipt = AudioReceipt(
        source=clip.source,
        state=clip.audio_state,
        decoded_seconds=wave.seconds,
        used_seconds=used,
        windows_seconds=tuple((shift + start, shift + end) for start, end in windows),
        padded_seconds=padded,
        notes=notes,
    )
    return AudioInput(_features(at_16k, protocol, extractor), receipt, losses)


def _features(wave: Tensor, protocol: Protocol, extractor: FeatureExtractor) -> Tensor:
    return extractor.input_features(wave).to(torch.bfloat16 if protocol.fbank_dtype == "bfloat16" else torch.float32)
