"""Samples to features: Fourier resampling (spec §4.4), and Kaldi's filterbank as BEATs expects it (spec §4.6).

    wave [S] at 16 kHz, ±1  --x 2^15-->  frames of 25 ms every 10 ms  --FFT-->  128 mel bins  --log-->  [F, 128]

F = 1 + (S - 400) // 160: whole frames only. Per frame: subtract the mean, pre-emphasis 0.97 (the first sample precedes
itself), Povey window, 512-point power spectrum, triangular mel filters, natural log with the float32 epsilon as floor.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import EmptyMedia, UsageError

RATE = 16_000
FRAME = RATE * 25 // 1000  # 400 samples
SHIFT = RATE * 10 // 1000  # 160 samples
FFT = 512
BINS = 128
LOW_HZ, HIGH_HZ = 20.0, RATE / 2
FLOOR = float(torch.finfo(torch.float32).eps)
PREEMPHASIS = 0.97
_BLOCK = 512  # frames per step, to fit the cache


def resample_fourier(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    """float[S] at `rate` to float[ceil(S * new_rate / rate)] at `new_rate`, in its dtype.

    The whole signal's spectrum is cut or extended to the new length: equal to scipy.signal.resample without a window,
    and so to librosa's res_type="fft", which the public implementation uses. The signal is treated as periodic: a loud
    end rings into a quiet beginning, so pad before resampling.
    """
    if rate == new_rate or not len(wave):
        return wave
    n = len(wave)
    m = math.ceil(n * (float(new_rate) / rate))
    short = min(n, m)
    bins = torch.fft.rfft(wave)[: short // 2 + 1]
    if short % 2 == 0:  # the smaller Nyquist bin stands for two bins when shortening, for half a one when lengthening
        bins[short // 2] *= 2.0 if m < n else 0.5
    whole: Tensor = torch.fft.irfft(bins, m)
    return whole * (m / n)


def num_frames(samples: int) -> int:
    """Number of fbank rows for this many samples."""
    return 1 + (samples - FRAME) // SHIFT if samples >= FRAME else 0


def fbank(wave: Tensor) -> Tensor:
    """float[F, 128] log mel energies of float[S] (16 kHz, range ±1), in the wave's dtype (float32 or float64).

    Raises:
        EmptyMedia: shorter than one frame (400 samples). UsageError: wrong shape or dtype.
    """
    if wave.ndim != 1 or wave.dtype not in (torch.float32, torch.float64):
        raise UsageError(f"fbank of {wave.dtype}{list(wave.shape)}; expected float32 or float64 [samples].")
    if len(wave) < FRAME:
        raise EmptyMedia(f"{len(wave)} samples of audio; the filterbank expects {FRAME} (25 ms) or more.")
    frames = (wave * 2.0**15).unfold(0, FRAME, SHIFT)
    out = torch.empty(len(frames), BINS, dtype=wave.dtype)
    for first in range(0, len(frames), _BLOCK):
        _mel_energies(frames[first : first + _BLOCK], out[first : first + _BLOCK])
    return out.clamp_(min=FLOOR).log_()


def _mel_energies(frames: Tensor, out: Tensor) -> None:
    """float[F, 400] samples to float[F, 128] energies."""
    frames = frames - frames.mean(dim=1, keepdim=True)
    sharp = torch.zeros(len(frames), FFT, dtype=frames.dtype)
    torch.sub(frames[:, 1:], frames[:, :-1], alpha=PREEMPHASIS, out=sharp[:, 1:FRAME])
    torch.sub(frames[:, :1], frames[:, :1], alpha=PREEMPHASIS, out=sharp[:, :1])
    sharp[:, :FRAME].mul_(_window(frames.dtype))
    power = torch.view_as_real(torch.fft.rfft(sharp)).square_().sum(-1)
    torch.mm(power, _triangles(frames.dtype), out=out)


@lru_cache(maxsize=4)
def _window(dtype: torch.dtype) -> Tensor:
    """float[400]: Kaldi's Povey window, a symmetric Hann window to the power 0.85."""
    return torch.hann_window(FRAME, periodic=False, dtype=dtype).pow(0.85)


@lru_cache(maxsize=4)
def _triangles(dtype: torch.dtype) -> Tensor:
    """float[257, 128]: weights of the FFT bins, computed in float32 for every dtype; the Nyquist bin has weight 0."""
    low, high = _mel(LOW_HZ), _mel(HIGH_HZ)
    step = (high - low) / (BINS + 1)
    left = low + torch.arange(BINS) * step
    centre = low + (torch.arange(BINS) + 1.0) * step
    right = low + (torch.arange(BINS) + 2.0) * step
    mel = 1127.0 * (1.0 + RATE / FFT * torch.arange(FFT // 2) / 700.0).log().unsqueeze(1)
    weights = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)
    return torch.nn.functional.pad(weights, (0, 0, 0, 1)).to(dtype)


def _mel(hz: float) -> float:
    return 1127.0 * math.log(1.0 + hz / 700.0)
