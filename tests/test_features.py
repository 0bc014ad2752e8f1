"""Patches in place of media give the same numbers, and frozen encoders keep nothing for a backward pass."""

from typing import Any

import pytest
import torch
from torch import Tensor

from videollama2.errors import UnsupportedModality, UsageError
from videollama2.modeling import VideoLlama2ForConditionalGeneration

from . import tiny
from .close import same_numbers

Model = VideoLlama2ForConditionalGeneration


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny.model()


def inputs(model: Model, videos: list[int]) -> dict[str, Any]:
    """Two images, videos of these many frames, two sounds of different length, and ids with their places."""
    generator = torch.Generator().manual_seed(4)
    frames = [torch.randn(n, 3, 56, 56, generator=generator) for n in videos]
    mask = torch.ones(2, 70, dtype=torch.bool)
    mask[1, 40:] = False
    media: dict[str, Any] = {
        "pixel_values": torch.randn(2, 3, 56, 56, generator=generator),
        "pixel_values_videos": torch.stack(frames) if len(set(videos)) == 1 else frames,
        "input_features": torch.randn(2, 70, 128, generator=generator) + 15,
        "input_features_mask": mask,
    }
    inner, config = model.model, model.config
    with torch.no_grad():
        features = {
            config.image_token_id: inner.get_image_features(media["pixel_values"]).pooler_output,
            config.video_token_id: inner.get_video_features(media["pixel_values_videos"]).pooler_output,
            config.audio_token_id: inner.get_audio_features(media["input_features"], mask).pooler_output,
        }
    ids = [i for token, of_kind in features.items() for feature in of_kind for i in [5] + [token] * len(feature)]
    return {"input_ids": torch.tensor([[*ids, 7, 8]]), **media}


def as_patches(model: Model, given: dict[str, Any]) -> dict[str, Any]:
    inner = model.model
    videos = given["pixel_values_videos"]
    with torch.no_grad():
        if isinstance(videos, Tensor):
            seen = list(inner.encode_frames(videos.flatten(0, 1)).unflatten(0, videos.shape[:2]))
        else:
            seen = [inner.encode_frames(video) for video in videos]
        return {
            "input_ids": given["input_ids"],
            "image_features": list(inner.encode_frames(given["pixel_values"])[:, None]),
            "video_features": seen,
            "audio_features": inner.encode_audio(given["input_features"], given["input_features_mask"]),
        }


@pytest.mark.parametrize("videos", [[4, 4], [4, 6], [5]])
def test_patches_give_the_same_numbers_as_media(model: Model, videos: list[int]) -> None:
    given = inputs(model, videos)
    patches = as_patches(model, given)
    with torch.no_grad():
        same_numbers(model(**patches).logits, model(**given).logits)
        same_numbers(model.model.embed(**patches), model.model.embed(**given))
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    assert torch.equal(model.generate(**given, **options), model.generate(**patches, **options))


def test_patches_beside_media_of_their_kind_are_refused(model: Model) -> None:
    given = inputs(model, [4])
    with pytest.raises(UsageError, match="one or the other"):
        model(**given, image_features=as_patches(model, given)["image_features"])
    deaf = tiny.model(audio_config=None)
    with pytest.raises(UnsupportedModality):
        deaf.model.connect_audio([torch.zeros(8, 32)])
    with pytest.raises(UnsupportedModality):
        tiny.model(vision_config=None).model.connect_videos([torch.zeros(4, 16, 16)])


def test_frozen_encoders_keep_nothing_and_drop_nothing() -> None:
    model = tiny.model()
    given = inputs(model, [4])
    inner = model.model
    inner.vision_encoder.requires_grad_(False)
    inner.audio_encoder.requires_grad_(False)
    model.train()
    assert model.training and inner.connector.training and inner.language_model.training
    assert not any(m.training for encoder in (inner.vision_encoder, inner.audio_encoder) for m in encoder.modules())
    assert inner.encode_frames(given["pixel_values"]).grad_fn is None
    sounds = [inner.encode_audio(given["input_features"], given["input_features_mask"]) for _ in range(2)]
    assert all(s.grad_fn is None and not s.requires_grad for s in sounds[0])
    assert all(torch.equal(a, b) for a, b in zip(*sounds, strict=True))  # no layer was left out, nothing dropped
    assert inner.get_audio_features(given["input_features"]).pooler_output[0].requires_grad  # the projector learns
    assert inner.get_video_features(given["pixel_values_videos"]).pooler_output[0].requires_grad  # and the connector
    inner.audio_encoder.requires_grad_(True)
    assert not model.eval().model.audio_encoder.training
    assert model.train().model.audio_encoder.training
    assert inner.encode_audio(given["input_features"])[0].grad_fn is not None
