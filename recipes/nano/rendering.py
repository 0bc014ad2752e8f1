"""Batches of composed clips to model inputs, on the device: drawing, augmentation, filterbank."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from shared_clips import segment_mask
from torch import Tensor
from torch.nn import functional as F

from videollama2.data.composed import SOUND_RATE_HZ, batch_frames
from videollama2.media.fbank import BINS, FFT, FRAME, SHIFT

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DRAWN_SIDE = 224  # clips are drawn at a video's size, then scaled as the processor does


def to_inputs(
    batch: Mapping[str, Any], side: int, device: torch.device, augment: torch.Generator | None = None
) -> dict[str, Any]:
    """Keyword arguments of the model for a batch of `ComposedBatches`.

    Args:
        batch: as `ComposedBatches` makes it.
        side: of the frames, in pixels.
        device: to compute on.
        augment: generator of random changes to picture and sound, on the same device; None: no changes.
    """
    inputs: dict[str, Any] = {
        k: batch[k].to(device, non_blocking=True) for k in ("input_ids", "labels", "attention_mask")
    }
    if "segments" in batch:
        inputs["position_ids"] = batch["position_ids"].to(device, non_blocking=True)
        inputs["attention_mask"] = segment_mask(batch["segments"].to(device, non_blocking=True))
    if "textures" in batch:
        scene = {k: batch[k].to(device, non_blocking=True) for k in ("textures", "poses", "grids", "drifts", "times")}
        frames = batch_frames(**scene, side=DRAWN_SIDE)
        pixels = frames_to_pixels(frames if augment is None else augment_frames(frames, augment), side)
        if batch["kind"] == "image":
            inputs["pixel_values"] = pixels[:, 0]
        else:
            inputs["pixel_values_videos"] = pixels
    if "waves" in batch:
        waves = batch["waves"].to(device, non_blocking=True).float() / 32767
        waves = F.interpolate(waves[:, None], size=batch["samples"], mode="linear")[:, 0]
        inputs["input_features"] = fbank_batch(waves if augment is None else augment_sound(waves, augment))
    return inputs


def frames_to_pixels(
    frames: Tensor, side: int, mean: Sequence[float] = IMAGE_MEAN, std: Sequence[float] = IMAGE_STD
) -> Tensor:
    """f32[B, T, 3, H, W] in 0..255 → normalised f32[B, T, 3, side, side], by antialiased bicubic scaling."""
    flat = F.interpolate(frames.flatten(0, 1), size=(side, side), mode="bicubic", antialias=True).round().clamp(0, 255)
    centre, spread = (torch.tensor(v, device=frames.device).view(3, 1, 1) for v in (mean, std))
    return ((flat / 255 - centre) / spread).unflatten(0, frames.shape[:2])


def augment_frames(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast, tint, noise and, sometimes, lower resolution. f32[B, T, 3, H, W] in 0..255."""
    shape = (frames.shape[0], 1, 3, 1, 1)
    tint = 1 + 0.12 * _normal(shape, generator)
    contrast = torch.exp(0.2 * _normal((frames.shape[0], 1, 1, 1, 1), generator))
    light = 15 * _normal((frames.shape[0], 1, 1, 1, 1), generator)
    out = (frames - 128) * contrast * tint + 128 + light
    if torch.rand((), generator=generator, device=generator.device) < 0.3:
        scale = float(torch.rand((), generator=generator, device=generator.device)) * 0.4 + 0.5
        flat = F.interpolate(out.flatten(0, 1), scale_factor=scale, mode="bilinear", antialias=True)
        out = F.interpolate(flat, size=frames.shape[-2:], mode="bilinear").unflatten(0, frames.shape[:2])
    return (out + 4 * _normal(out.shape, generator)).clamp(0, 255)


def augment_sound(waves: Tensor, generator: torch.Generator) -> Tensor:
    """Random equaliser, reverberation, noise and gain. f32[B, S] in ±1."""
    B, samples = waves.shape
    bands = 10 ** (_normal((B, 1, 10), generator) * 6 / 20)  # ±6 dB, one standard deviation
    size = samples + SOUND_RATE_HZ // 2  # room for the reverberation's tail
    curve = F.interpolate(bands, size=size // 2 + 1, mode="linear", align_corners=True)[:, 0]
    seconds = 0.03 + 0.35 * _uniform((B, 1), generator)
    clock = torch.arange(SOUND_RATE_HZ // 2, device=waves.device) / SOUND_RATE_HZ
    room = _normal((B, clock.numel()), generator) * torch.exp(-6.9 * clock / seconds)
    room = (
        room / room.norm(dim=1, keepdim=True) * 0.7 * _uniform((B, 1), generator) * (_uniform((B, 1), generator) < 0.5)
    )
    room[:, 0] = 1
    spectrum = torch.fft.rfft(waves, n=size) * torch.fft.rfft(room, n=size) * curve
    wet = torch.fft.irfft(spectrum, n=size)[:, :samples]
    loud = wet.square().mean(1, keepdim=True).sqrt().clamp_min(1e-4)
    noise = _normal(wet.shape, generator)
    pink = noise + F.pad(noise, (1, 0))[:, :-1] * _uniform((B, 1), generator)
    wet = wet + pink * loud * 10 ** (-(10 + 40 * _uniform((B, 1), generator)) / 20)
    return (wet * 10 ** (-0.7 * _uniform((B, 1), generator))).clamp(-1, 1)


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, device=generator.device)


def _uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, device=generator.device)


# Kaldi's filterbank for a batch of waves. Inference uses the exact `media.fbank`; a test compares the two.


@lru_cache(maxsize=4)
def _mel_weights(device: torch.device) -> Tensor:
    def mel(hz: Tensor) -> Tensor:
        return 1127 * torch.log(1 + hz / 700)

    edges = torch.linspace(
        float(mel(torch.tensor(20.0))), float(mel(torch.tensor(8000.0))), BINS + 2, dtype=torch.float64
    )
    bins = mel(torch.arange(FFT // 2, dtype=torch.float64) * SOUND_RATE_HZ / FFT)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    weights = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0)
    return F.pad(weights, (0, 0, 0, 1)).float().to(device)


def fbank_batch(waves: Tensor) -> Tensor:
    """f32[B, S] in ±1 at 16 kHz → log-mel f32[B, frames, 128] (spec §4.6)."""
    with torch.autocast(waves.device.type, enabled=False):
        frames = (waves.float() * 32768).unfold(1, FRAME, SHIFT)
        frames = frames - frames.mean(-1, keepdim=True)
        frames = frames - 0.97 * torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        window = torch.hann_window(FRAME, periodic=False, device=waves.device) ** 0.85
        power = torch.fft.rfft(frames * window, n=FFT).abs().square()
        return (power @ _mel_weights(waves.device)).clamp_min(torch.finfo(torch.float32).eps).log()
