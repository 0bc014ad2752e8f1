"""A small model and small packs of pictures and sounds, all made here."""

from typing import Any

import numpy as np
import torch

from videollama2.configuration import VideoLlama2Config
from videollama2.data.composed import PicturePack, SoundPack
from videollama2.modeling import VideoLlama2ForConditionalGeneration

SIDE = 28
SOUND_LABELS = ("a flute", "a drum", "birds")


def small_config(*, deaf: bool = False) -> VideoLlama2Config:
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 256,
            "tie_word_embeddings": True}  # fmt: skip
    vision = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "mlp_ratio": 2, "patch_size": 7, "image_size": SIDE}  # fmt: skip
    audio = {"encoder_layers": 1, "embed_dim": 16, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32,
             "encoder_attention_heads": 2, "conv_pos": 8, "conv_pos_groups": 2, "finetuned_model": False,
             "encoder_layerdrop": 0.0}  # fmt: skip
    return VideoLlama2Config(
        vision_config=vision, audio_config=None if deaf else audio, text_config=text, vision_feature_layer=-1,
        num_frames=4, audio_pool=(2, 8), tie_word_embeddings=True,
    )  # fmt: skip


def small_model(*, deaf: bool = False) -> VideoLlama2ForConditionalGeneration:
    torch.manual_seed(0)
    return VideoLlama2ForConditionalGeneration(small_config(deaf=deaf))


def packs() -> tuple[PicturePack, SoundPack]:
    """One flat colour per class of picture, one tone per class of sound."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (10, 1, 1, 1, 3))
    photos = np.broadcast_to(colours, (10, 2, 32, 32, 3)).reshape(20, 32, 32, 3).astype(np.uint8)
    stamps = np.zeros((1, 96, 96, 4), np.uint8)
    stamps[:, 20:70, 20:70] = 255
    pictures = PicturePack(photos, np.repeat(np.arange(10), 2), stamps, ("a white square",))
    clock = np.arange(2 * 16_000) / 16_000
    tones = [(np.sin(2 * np.pi * hz * clock) * 9000).astype(np.int16) for hz in (300, 900, 2700)]
    spans = [(label, i * clock.size, (i + 1) * clock.size) for i, label in enumerate(SOUND_LABELS)]
    return pictures, SoundPack.of(np.concatenate(tones), spans)


def av_inputs(model: VideoLlama2ForConditionalGeneration) -> dict[str, Any]:
    """A sequence with a video, its sound and some text, all of it supervised, as model inputs."""
    given = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 4, 3, SIDE, SIDE, generator=given)
    sound = torch.randn(1, 96, 128, generator=given)
    with torch.no_grad():
        seen, heard = (
            len(found.pooler_output[0])
            for found in (model.model.get_video_features(pixels), model.model.get_audio_features(sound))
        )
    config = model.config
    ids = torch.tensor([[5, *[config.video_token_id] * seen, *[config.audio_token_id] * heard, 7, 9, 11]])
    labels = torch.where(ids < config.text_config.vocab_size, ids, -100)
    return {"input_ids": ids, "labels": labels, "pixel_values_videos": pixels, "input_features": sound}
