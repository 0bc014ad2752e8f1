"""A model under the original's names, for tools that know only those (spec §2, §3.1)."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers.core_model_loading import revert_weight_conversion

from ..configuration import LANGUAGE_MODELS, VideoLlama2Config
from ..errors import ConfigError
from .layouts import original_name

_BIAS = "model.audio_tower.encoder.layers.0.self_attn.relative_attention_bias.weight"


def export_original(model: Any, folder: str | Path, *, max_shard_size: str = "5GB") -> Path:
    """Write `model` as a checkpoint of the original: its config.json, its tensor names, the tower's config beside it.

    BEATs' shared bias is written once per layer, as the original's own save does.

    Args:
        model: VideoLlama2ForConditionalGeneration.
        folder: created if need be.
        max_shard_size: of one safetensors file.

    Raises:
        ConfigError: the original has no name for this language model.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # transformers fuses some weights on loading (Mixtral's experts); published checkpoints hold them apart
    ours = revert_weight_conversion(model, model.state_dict())
    tensors = {original_name(name): _alone(tensor) for name, tensor in ours.items()}
    if _BIAS in tensors:
        for layer in range(1, model.config.audio_config.encoder_layers):
            tensors[_BIAS.replace("layers.0.", f"layers.{layer}.")] = tensors[_BIAS].clone()
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    (folder / "config.json").write_text(json.dumps(original_config(model.config, model.dtype), indent=2), "utf-8")
    if model.config.vision_config is not None:
        tower = folder / "vision_tower"
        tower.mkdir(exist_ok=True)
        (tower / "config.json").write_text(model.config.vision_config.to_json_string(), "utf-8")
    if model.config.audio_config is not None:
        (folder / "beats_config.json").write_text(model.config.audio_config.to_json_string(), "utf-8")
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    save_torch_state_dict(tensors, folder, max_shard_size=max_shard_size)
    return folder


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in a memory of its own: one expert is a view of all of them, and files don't hold views."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor.contiguous() if whole else tensor.clone(memory_format=torch.contiguous_format)


def original_config(config: VideoLlama2Config, dtype: torch.dtype) -> dict[str, Any]:
    """The original's config.json for one of our configurations.

    Raises:
        ConfigError: the original has no name for this language model, or no place for a setting (pooled sound).
    """
    text = config.text_config
    names = [name for name, family in LANGUAGE_MODELS.items() if family == text.model_type]
    if not names:
        raise ConfigError(f"the original knows no {text.model_type!r}; expected {', '.join(LANGUAGE_MODELS.values())}")
    if tuple(config.audio_pool) != (1, 1):
        raise ConfigError(f"the original can't pool sound (audio_pool is {tuple(config.audio_pool)}); keep our layout")
    dropped = ("model_type", "architectures", "dtype", "transformers_version", "_name_or_path")
    values = {k: v for k, v in text.to_dict().items() if k not in dropped and v is not None}
    values |= {
        "model_type": names[0],
        "architectures": [f"Videollama2{names[0].rsplit('_', 1)[-1].capitalize()}ForCausalLM"],
        "torch_dtype": str(dtype).removeprefix("torch."),
        "tie_word_embeddings": config.tie_word_embeddings,
        "num_frames": config.num_frames,
        "use_mm_proj": True,
    }
    if config.vision_config is not None:
        values |= {
            "mm_vision_tower": "vision_tower",
            "mm_hidden_size": config.vision_config.hidden_size,
            "mm_vision_select_layer": config.vision_feature_layer,
            "mm_vision_select_feature": config.vision_feature_select,
            "mm_projector_type": config.connector_type,
        }
    if config.audio_config is not None:
        values |= {
            "mm_audio_tower": "audio_tower.bin",
            "mm_hidden_size_a": config.audio_config.encoder_embed_dim,
            "hidden_size_a": text.hidden_size,
            "mm_projector_a_type": config.audio_projector_type,
        }
    return values
