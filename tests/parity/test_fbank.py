"""Filterbank and resampler against what the public implementation recorded (fixtures: beats/audio_fbank)."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from videollama2.errors import VideoLlama2Error
from videollama2.media import audio_input, open_clip, resample_fourier
from videollama2.media.fbank import fbank
from videollama2.protocols import RELEASED

from .recorded import FIXTURES, MEDIA, meta, need
from .test_preprocess import close_bf16, close_statistics

META = meta("beats")["audio"]
TENSORS = load_file(need(FIXTURES / "beats") / "audio_fbank.safetensors")
FILES = {key: case for key, case in META.items() if "file" in case}
WAVES = {key: case for key, case in META.items() if "file" not in case}


@pytest.mark.parametrize("key", WAVES)
def test_wave(key: str) -> None:
    case = WAVES[key]
    if "error" in case:
        length = int(key.rsplit("_", 1)[1])
        with pytest.raises(VideoLlama2Error):
            fbank(torch.zeros(length))
        return
    wave, expected = TENSORS[f"{key}.wave"], TENSORS[f"{key}.fbank_f32"]
    rows = fbank(wave)
    assert len(wave) == case["samples"] and list(rows.shape) == case["shape"] and rows.dtype == torch.float32
    # float32 spectra carry noise of 1e-7 of the loudest amplitude: 1e-3 in the log holds down to e^-17 of its power
    loud = (expected > 0) & (expected > expected.amax(dim=1, keepdim=True) - 17)
    torch.testing.assert_close(rows[loud], expected[loud], rtol=0, atol=1e-3)
    assert (rows - expected).abs().mean() < 0.02


@pytest.mark.parametrize("key", FILES)
def test_sound_file(key: str) -> None:
    case = FILES[key]
    clip = open_clip(need(MEDIA) / case["file"], protocol=RELEASED)
    assert clip.kind == "audio" and clip.wave is not None
    assert clip.wave.rate == case["sample_rate"]
    assert len(clip.wave.samples) == min(case["samples"], 30 * case["sample_rate"])
    sound = audio_input(clip, RELEASED)
    assert sound.fbank is not None and [1, *sound.fbank.shape] == case["full_shape"]
    kept = case["kept_frames"]
    close_bf16(sound.fbank[:kept], TENSORS[f"{key}.process_audio_file_bf16"][0])
    near(sound.fbank, case["stats_full"])
    near(sound.fbank[kept:], case["tail_after_kept"])
    if "resampled" in case:
        check_resampled(key, case, clip.wave.samples, clip.wave.rate)


def near(found: torch.Tensor, expected: dict[str, float]) -> None:
    """The tail is the resampler's ringing, at the edge of float64: its level, not its values."""
    loose = dict(expected)
    assert float(found.double().mean()) == pytest.approx(loose["mean"], abs=0.2)
    assert float(found.double().abs().max()) == pytest.approx(loose["absmax"], abs=0.2)


def check_resampled(key: str, case: dict[str, Any], samples: Any, rate: int) -> None:
    filled = torch.zeros(30 * rate, dtype=torch.float64)
    filled[: len(samples)] = torch.from_numpy(samples)
    found = resample_fourier(filled, rate, 16000)
    assert len(found) == case["resampled"]["len"]
    if f"{key}.resampled_16k_first_1s_f64" in TENSORS:
        expected = TENSORS[f"{key}.resampled_16k_first_1s_f64"]
        torch.testing.assert_close(found[: len(expected)], expected, rtol=0, atol=1e-12)


def test_statistics_of_silence() -> None:
    """close_statistics is strict enough to tell silence from anything else."""
    with pytest.raises(AssertionError):
        close_statistics(torch.zeros(4, 4), {"mean": -15.9375, "std": 0.0, "absmax": 15.9375})
