"""Samples to features: Fourier resampling (spec §4.4), and Kaldi's filterbank as BEATs expects it (spec §4.6).

    wave [S] at 16 kHz, ±1  --x 2^15-->  frames of 25 ms every 10 ms  --FFT-->  128 mel bins  --log-->  [F, 128]

F = 1 + (S - 400) // 160: whole frames only. Per frame: subtract the mean, pre-emphasis 0.97 (the first sample precedes
itself), Povey window, 512-point power spectrum, triangular mel filters, natural log with the float32 epsilon as floor.
"""

import math
from functools import lru_cache

import numpy as np
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
_PART = math.gcd(FRAME, SHIFT)
_GROUP = 16  # mel bands per matrix product
_LONG = 1 << 16  # samples from which a Fourier transform is done in two steps
_STEP = 32  # rows of it that share a table of turns


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
    bins = _low_bins(wave, short // 2 + 1)
    if short % 2 == 0:  # the smaller Nyquist bin stands for two bins when shortening, for half a one when lengthening
        bins[short // 2] *= 2.0 if m < n else 0.5
    # numpy's inverse transform takes a third of the time of torch's here
    return torch.from_numpy(np.fft.irfft(bins.numpy(), m, norm="forward")).mul_(1 / n)


def _low_bins(wave: Tensor, count: int) -> Tensor:
    """The first `count` bins of rfft(wave).

    A long transform is done in two steps (Bailey's four-step algorithm): many short ones stay in the cache, and run on
    several threads. Sample columns·r + c of the wave is [r, c]; bin rows·c + r of its spectrum is [r, c].
    """
    n = len(wave)
    rows = _near_root(n)
    if n < _LONG or not rows:
        return torch.from_numpy(np.fft.rfft(wave.numpy())[:count])
    columns = n // rows
    half = rows // 2 + 1  # the other rows are the conjugates of these
    first = torch.fft.rfft(wave.view(rows, columns), dim=0)
    turn = -2 * math.pi / n * torch.arange(columns, dtype=torch.float64)
    near = _turns(turn * torch.arange(_STEP)[:, None], wave.dtype)
    for row in range(0, half, _STEP):
        first[row : row + _STEP] *= near[: half - row] * _turns(turn * row, wave.dtype)
    second = torch.fft.fft(first, dim=1)
    kept = -(-count // rows)
    bins = torch.empty(kept, rows, dtype=second.dtype)
    bins[:, :half] = second[:, :kept].T
    bins[:, half:] = second[1 : rows - half + 1, columns - kept :].flip(0, 1).T.conj()
    return bins.view(-1)[:count]


def _turns(angles: Tensor, dtype: torch.dtype) -> Tensor:
    """exp(i · angles), complex."""
    return torch.polar(torch.ones_like(angles), angles).to(dtype.to_complex())


@lru_cache(maxsize=16)
def _near_root(n: int) -> int:
    """The divisor of n that is nearest to its square root from below; 0 if it is less than half of that."""
    root = math.isqrt(n)
    return next((d for d in range(root, root // 2, -1) if n % d == 0), 0)


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
    wave = wave * 2.0**15
    sharp = torch.sub(wave[1:], wave[:-1], alpha=PREEMPHASIS).unfold(0, FRAME - 1, SHIFT)
    frames = wave.unfold(0, FRAME, SHIFT)
    # pre-emphasis leaves a share of the mean, to be subtracted; overlapping frames share the sums of their parts
    parts = wave[: len(wave) // _PART * _PART].view(-1, _PART).sum(1)
    mean = parts.unfold(0, FRAME // _PART, SHIFT // _PART).sum(1).mul_(1 / FRAME)[: len(frames)]
    out = torch.empty(len(frames), BINS, dtype=wave.dtype)
    buffer = torch.zeros(min(_BLOCK, len(frames)), FFT, dtype=wave.dtype)
    for first in range(0, len(frames), _BLOCK):
        some = slice(first, first + _BLOCK)
        block = buffer[: len(out[some])]
        torch.sub(sharp[some], mean[some, None], alpha=1 - PREEMPHASIS, out=block[:, 1:FRAME])
        torch.sub(frames[some, 0], mean[some], out=block[:, 0])
        block[:, 0] *= 1 - PREEMPHASIS
        block[:, :FRAME] *= _window(wave.dtype)
        _mel_energies(block, out[some])
    return out.clamp_(min=FLOOR).log_()


def _mel_energies(frames: Tensor, out: Tensor) -> None:
    """float[F, 512] windowed frames to float[F, 128] energies."""
    squares = torch.view_as_real(torch.fft.rfft(frames)).square_().flatten(1)
    for bands, bins, weights in _triangles(frames.dtype):
        torch.mm(squares[:, bins], weights, out=out[:, bands])


@lru_cache(maxsize=4)
def _window(dtype: torch.dtype) -> Tensor:
    """float[400]: Kaldi's Povey window, a symmetric Hann window to the power 0.85."""
    return torch.hann_window(FRAME, periodic=False, dtype=dtype).pow(0.85)


@lru_cache(maxsize=4)
def _triangles(dtype: torch.dtype) -> tuple[tuple[slice, slice, Tensor], ...]:
    """Groups of mel bands: (which, the squares that they sum, float[squares, bands]); most weights of all are zero.

    Squares are those of the real and the imaginary part of each FFT bin. Weights are computed in float32 for every
    dtype; the Nyquist bin has weight 0.
    """
    low, high = _mel(LOW_HZ), _mel(HIGH_HZ)
    step = (high - low) / (BINS + 1)
    left = low + torch.arange(BINS) * step
    centre = low + (torch.arange(BINS) + 1.0) * step
    right = low + (torch.arange(BINS) + 2.0) * step
    mel = 1127.0 * (1.0 + RATE / FFT * torch.arange(FFT // 2) / 700.0).log().unsqueeze(1)
    weights = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)
    groups = []
    for band in range(0, BINS, _GROUP):
        some = weights[:, band : band + _GROUP]
        used = some.any(1).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        twice = some[first:last].to(dtype).repeat_interleave(2, 0)
        groups.append((slice(band, band + _GROUP), slice(2 * first, 2 * last), twice))
    return tuple(groups)


def _mel(hz: float) -> float:
    return 1127.0 * math.log(1.0 + hz / 700.0)
