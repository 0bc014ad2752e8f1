"""Kaldi filterbank features as BEATs expects them (spec §4.6).

    wave [S] at 16 kHz, ±1  --x 2^15-->  frames of 25 ms every 10 ms  --FFT-->  128 mel bins  --log-->  [F, 128]

F = 1 + (S - 400) // 160: only whole frames. Per frame: the mean is removed, pre-emphasis 0.97 (the first sample is its
own predecessor), Povey window, 512-point power spectrum, triangles in the mel domain, natural log with the float32
epsilon as floor.
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
_BLOCK = 512  # frames worked on at once: what fits the cache


def num_frames(samples: int) -> int:
    """Rows of the fbank of this many samples."""
    return 1 + (samples - FRAME) // SHIFT if samples >= FRAME else 0


def fbank(wave: Tensor) -> Tensor:
    """float[F, 128] log mel energies of float[S] (16 kHz, range ±1), computed in the wave's dtype (float32 or float64).

    Raises:
        EmptyMedia: shorter than one frame (400 samples). UsageError: not a one-dimensional float wave.
    """
    if wave.ndim != 1 or wave.dtype not in (torch.float32, torch.float64):
        raise UsageError(f"fbank of {wave.dtype}{list(wave.shape)}; expected float32 or float64 [samples].")
    if len(wave) < FRAME:
        raise EmptyMedia(f"{len(wave)} samples of sound; the filterbank needs at least {FRAME} (25 ms).")
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
    """float[257, 128]: weights of the FFT bins, float32 arithmetic whatever the dtype; the Nyquist bin has none."""
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
