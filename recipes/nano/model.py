"""nano's sizes, and the model that training starts from."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Dinov2Config, Dinov2Model

from videollama2.configuration import VideoLlama2Config
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights.nano import LANGUAGE_PREFIX, base_state_dict

SIDE = 168  # pixels: 12 × 12 patches, 144 video tokens for 8 frames
LORA_RANK, LORA_ALPHA = 12, 24.0
TOKEN_SCALE = 0.136  # standard deviation of SmolLM2's token embeddings


def sound_classes(pack: Path) -> tuple[str, ...]:
    """Labels in a pack of sounds, sorted."""
    import numpy as np

    with np.load(pack) as data:
        return tuple(sorted({r["label"] for r in json.loads(str(data["index"]))}))


def nano_config(classes: int, side: int = SIDE) -> VideoLlama2Config:
    # without the last of DINOv2's 12 blocks, as VideoLLaMA 2 skips CLIP's last (feature layer -2)
    vision = Dinov2Config(
        hidden_size=384, num_hidden_layers=11, num_attention_heads=6, mlp_ratio=4, patch_size=14, image_size=side
    )
    audio: dict[str, Any] = {
        "encoder_layers": 4, "embed_dim": 256, "encoder_embed_dim": 256, "encoder_ffn_embed_dim": 1024,
        "encoder_attention_heads": 4, "conv_pos": 64, "conv_pos_groups": 16, "encoder_layerdrop": 0.0,
        "layer_wise_gradient_decay_ratio": 1.0, "finetuned_model": True, "predictor_class": classes,
    }  # fmt: skip
    text = {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    }  # fmt: skip
    return VideoLlama2Config(
        vision_config=vision, audio_config=audio, text_config=text, connector_type="stc_connector_v35",
        vision_feature_layer=-1, num_frames=8, audio_pool=(2, 8), tie_word_embeddings=True,
        protocol="full",
    )  # fmt: skip


def vision_tensors(folder: Path, side: int) -> dict[str, torch.Tensor]:
    """DINOv2's tensors for nano: 11 blocks, with the position table resampled to nano's patch grid."""
    tensors = Dinov2Model.from_pretrained(folder, dtype=torch.float32).state_dict()
    out = {k: v for k, v in tensors.items() if not k.startswith("encoder.layer.11.")}
    table = out["embeddings.position_embeddings"]
    grid = table[:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(side // 14, side // 14), mode="bicubic", align_corners=False)
    out["embeddings.position_embeddings"] = torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
    return out


def starting_model(vision: Path, gguf: Path, classes: int, side: int = SIDE) -> VideoLlama2ForConditionalGeneration:
    """Pretrained vision encoder and language model, with new weights between them."""
    torch.manual_seed(0)
    model = VideoLlama2ForConditionalGeneration(nano_config(classes, side))
    model.model.vision_encoder.load_state_dict(vision_tensors(vision, side))
    language = {LANGUAGE_PREFIX + k: v for k, v in base_state_dict(gguf).items()}
    missing, unexpected = model.load_state_dict(language, strict=False)
    if unexpected or any(k.startswith(LANGUAGE_PREFIX) for k in missing):
        raise SystemExit(f"the language model's tensors do not fit: {unexpected}, {missing[:5]}")
    model.tie_weights()
    return model


@torch.no_grad()
def match_scale(linear: torch.nn.Linear, features: torch.Tensor) -> None:
    """Scale a last layer so that its output matches token embeddings in magnitude.

    At the start of training, an output of another magnitude is noise to the language model, or ignored.
    """
    linear.weight *= TOKEN_SCALE / features.float().std().clamp_min(1e-6)
