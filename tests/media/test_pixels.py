"""Pixels, against the image processors of transformers."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil

from videollama2.errors import ConfigError, EmptyMedia
from videollama2.media import BUILT_IN, CLIP_336, SIGLIP_384, PixelSettings, pixel_values, pixels_u8

PROCESSORS: dict[str, Any] = {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
    "siglip": SiglipImageProcessorPil(size={"height": 42, "width": 56}),
    "dinov2": BitImageProcessorPil(
        size={"shortest_edge": 64},
        crop_size={"height": 56, "width": 56},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ),
    "crop larger than the picture": CLIPImageProcessorPil(
        size={"shortest_edge": 33}, crop_size={"height": 56, "width": 40}
    ),
}


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (57, 57), (30, 200), (400, 90), (1, 1), (3, 100)])
@pytest.mark.parametrize("name", PROCESSORS)
def test_equal_to_transformers(name: str, size: tuple[int, int]) -> None:
    processor = PROCESSORS[name]
    frames = [noise(*size), noise(*size)[::-1].copy()]
    ours = pixel_values(frames, PixelSettings.from_dict(processor.to_dict()))
    theirs = processor(list(frames), return_tensors="pt", input_data_format="channels_last").pixel_values
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_values_are_exact() -> None:
    """Every byte: scaled in float64, rounded to float32, normalised in float32."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    frame = np.stack([ramp, ramp, ramp], axis=2)
    settings = PixelSettings(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.7), resize_to=(16, 16))
    found = pixel_values([frame], settings)[0].numpy()
    scaled = (ramp * (1 / 255)).astype(np.float32)
    for channel in range(3):
        expected = (scaled - np.float32(settings.mean[channel])) / np.float32(settings.std[channel])
        assert np.array_equal(found[channel], expected)


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (11, 40)])
def test_padding_to_a_square(size: tuple[int, int]) -> None:
    white = np.full((*size, 3), 255, np.uint8)
    settings = PixelSettings(mean=CLIP_336.mean, std=CLIP_336.std, resize_to=(40, 40))
    padded = pixels_u8([white], settings, "pad")[0]
    top, left = (40 - size[0]) // 2, (40 - size[1]) // 2
    expected = np.full((40, 40, 3), (122, 116, 104), np.uint8)
    expected[top : top + size[0], left : left + size[1]] = 255
    assert settings.fill == (122, 116, 104) and np.array_equal(padded, expected)


def test_frames_of_different_sizes() -> None:
    assert pixel_values([noise(20, 30), noise(40, 10)], CLIP_336).shape == (2, 3, 336, 336)


def test_built_in() -> None:
    assert BUILT_IN["openai/clip-vit-large-patch14-336"].output_size == (336, 336)
    assert BUILT_IN["google/siglip-so400m-patch14-384"].output_size == (384, 384)
    assert SIGLIP_384.fill == (127, 127, 127) and SIGLIP_384.crop_to is None


def test_older_setting_names() -> None:
    config = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 336, "crop_size": 336, "do_resize": True}
    assert PixelSettings.from_dict(config) == CLIP_336
    assert PixelSettings.from_dict(
        CLIPImageProcessorPil().to_dict() | {"image_processor_type": "CLIPImageProcessorFast"}
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"do_flip": True}, "do_flip"),
        ({"do_resize": False}, "do_resize"),
        ({"size": {"longest_edge": 5}}, "size"),
        ({"crop_size": "big"}, "crop_size"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_processor_type": "VideoMagicProcessor"}, "VideoMagicProcessor"),
    ],
)
def test_unknown_settings(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        PixelSettings.from_dict(PROCESSORS["clip"].to_dict() | change)


@pytest.mark.parametrize("off", [{"do_rescale": False}, {"do_normalize": False}])
@pytest.mark.parametrize("kind", sorted(PROCESSORS))
def test_steps_switched_off_as_transformers_does(kind: str, off: dict[str, bool]) -> None:
    settings, frame = PixelSettings.from_dict(PROCESSORS[kind].to_dict() | off), noise(50, 70)
    expected = PROCESSORS[kind]([frame], input_data_format="channels_last", return_tensors="pt", **off)["pixel_values"]
    torch.testing.assert_close(pixel_values([frame], settings), expected, rtol=1e-6, atol=1e-6)
    (name,) = off
    with pytest.raises(ConfigError, match=f"{name} is off"):
        settings.changed({name: True})


def test_no_crop_after_shortest_edge() -> None:
    with pytest.raises(ConfigError, match="crop_size"):
        pixels_u8([noise(4, 4)], PixelSettings.from_dict({"do_center_crop": False}))


def test_no_frames() -> None:
    with pytest.raises(EmptyMedia):
        pixel_values([], CLIP_336)
    with pytest.raises(EmptyMedia):
        pixel_values([np.zeros((0, 3, 3), np.uint8)], CLIP_336)
