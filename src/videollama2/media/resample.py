"""Fourier resampling: the whole signal's spectrum, cut or extended to the new length.

Equal to scipy.signal.resample without a window, and so to librosa's res_type="fft", as the public implementation.
"""

import math

import torch
from torch import Tensor


def resample_fourier(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    """float[S] at `rate` to float[ceil(S * new_rate / rate)] at `new_rate`, in the dtype given.

    The signal is taken as periodic, so a loud end rings into a quiet beginning; padding comes before.
    """
    if rate == new_rate or not len(wave):
        return wave
    n = len(wave)
    m = math.ceil(n * (float(new_rate) / rate))
    short = min(n, m)
    bins = torch.fft.rfft(wave)[: short // 2 + 1]
    if short % 2 == 0:  # the bin at the smaller Nyquist stands for two when shortening, for a half when lengthening
        bins[short // 2] *= 2.0 if m < n else 0.5
    whole: Tensor = torch.fft.irfft(bins, m)
    return whole * (m / n)
