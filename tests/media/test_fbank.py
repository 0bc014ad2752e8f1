"""Filterbank and resampler, against their definitions written out."""

import math

import numpy as np
import pytest
import torch

from videollama2.errors import EmptyMedia, UsageError
from videollama2.media import resample_fourier
from videollama2.media.fbank import fbank, num_frames


def one_frame(samples: np.ndarray) -> np.ndarray:
    """Kaldi's definition for one frame, in float64, with loops."""
    x = samples * 2.0**15
    x = x - x.mean()
    x = np.array([x[i] - 0.97 * x[max(i - 1, 0)] for i in range(400)])
    x = x * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(x, 512)) ** 2

    def mel(hz: float) -> float:
        return 1127 * math.log(1 + hz / 700)

    points = np.linspace(mel(20), mel(8000), 130)
    out = np.zeros(128)
    for b in range(128):
        left, centre, right = points[b : b + 3]
        for k in range(256):
            m = mel(k * 16000 / 512)
            out[b] += power[k] * max(0.0, min((m - left) / (centre - left), (right - m) / (right - centre)))
    return np.log(np.maximum(out, np.finfo(np.float32).eps))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_definition(dtype: torch.dtype) -> None:
    wave = np.random.default_rng(1).normal(0, 0.1, 720)
    rows = fbank(torch.tensor(wave, dtype=dtype))
    assert rows.shape == (3, 128) and rows.dtype == dtype
    for row in range(3):
        np.testing.assert_allclose(rows[row].numpy(), one_frame(wave[row * 160 : row * 160 + 400]), atol=5e-3)


def test_lengths() -> None:
    for samples in (400, 559, 560, 16000, 16159):
        assert fbank(torch.zeros(samples)).shape == (num_frames(samples), 128)
    assert num_frames(480_000) == 2998 and num_frames(399) == 0


def test_silence_and_loudness() -> None:
    assert torch.allclose(fbank(torch.zeros(400)), torch.tensor(math.log(np.finfo(np.float32).eps)))
    noise = torch.randn(16000, generator=torch.Generator().manual_seed(0)) * 0.1
    louder = fbank(noise * 2) - fbank(noise)
    assert louder.median().item() == pytest.approx(2 * math.log(2), abs=1e-3)


def test_invalid_waves() -> None:
    with pytest.raises(EmptyMedia, match="400"):
        fbank(torch.zeros(399))
    for bad in (torch.zeros(2, 400), torch.zeros(400, dtype=torch.int16), torch.zeros(400, dtype=torch.bfloat16)):
        with pytest.raises(UsageError):
            fbank(bad)


@pytest.mark.parametrize(("rate", "new_rate"), [(44100, 16000), (8000, 16000), (22050, 16000), (16000, 44100)])
@pytest.mark.parametrize("seconds", [0.1, 0.0503])
def test_a_tone_stays_a_tone(rate: int, new_rate: int, seconds: float) -> None:
    samples = round(seconds * rate)
    cycles = 7  # a whole number: Fourier resampling takes the signal as periodic
    wave = torch.sin(2 * math.pi * cycles * torch.arange(samples, dtype=torch.float64) / samples)
    found = resample_fourier(wave, rate, new_rate)
    assert len(found) == math.ceil(samples * (new_rate / rate))
    expected = torch.sin(2 * math.pi * cycles * torch.arange(len(found), dtype=torch.float64) / len(found))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(8, 4), (9, 4), (8, 5), (4, 8), (5, 8), (4, 9), (5, 9), (6, 6)])
def test_all_parities(n: int, m: int) -> None:
    """The band-limited interpolation, summed term by term; the bin at Nyquist is shared between both signs."""
    wave = np.random.default_rng(n * m).normal(size=n)
    spectrum = np.fft.fft(wave) / n
    expected = np.zeros(m, complex)
    for k in range(-(n // 2), n // 2 + 1):
        weight = 0.5 if n % 2 == 0 and abs(k) == n // 2 else 1.0
        if n % 2 and abs(k) > n // 2:
            continue
        if abs(k) > m / 2:
            continue
        if m % 2 == 0 and abs(k) == m // 2 and m < n:
            weight = 1.0  # both signs fold onto one bin
        expected += weight * spectrum[k % n] * np.exp(2j * np.pi * k * np.arange(m) / m)
    found = resample_fourier(torch.from_numpy(wave), n, m)
    np.testing.assert_allclose(found.numpy(), expected.real, atol=1e-12)


def test_same_rate_and_empty_audio() -> None:
    wave = torch.ones(5)
    assert resample_fourier(wave, 16000, 16000) is wave
    assert len(resample_fourier(torch.empty(0), 8000, 16000)) == 0
