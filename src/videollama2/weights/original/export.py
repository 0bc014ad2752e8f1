"""Write a model in the original's layout, for tools that read only that (spec §2, §3.1)."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers.core_model_loading import revert_weight_conversion

from .configuration import original_config
from .names import original_name

_BIAS = "model.audio_tower.encoder.layers.0.self_attn.relative_attention_bias.weight"


def export_original(model: Any, folder: str | Path, *, max_shard_size: str = "5GB") -> Path:
    """Write `model` as a checkpoint of the original: config.json, tensor names, and the vision encoder's own config.

    BEATs' shared bias is written once per layer, as the original's own save does.

    Args:
        model: VideoLlama2ForConditionalGeneration.
        folder: created if missing.
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
    """The tensor in its own storage: one expert is a view of all of them, and safetensors can't store views."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor.contiguous() if whole else tensor.clone(memory_format=torch.contiguous_format)
