"""Tiny random checkpoints in the original's layout, written by the tests themselves."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from videollama2.beats import BeatsConfig
from videollama2.configuration import VideoLlama2Config
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights.original.names import original_name

from ..close import same_numbers, same_tensors

TOWER = "clip-vit-tiny"
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
BEATS: dict[str, Any] = {
    "embed_dim": 16,
    "encoder_layers": 2,
    "encoder_embed_dim": 24,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "conv_pos": 8,
    "conv_pos_groups": 2,
    "num_buckets": 16,
    "max_distance": 32,
    "predictor_class": 5,
}
LANGUAGE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "mistral": {"sliding_window": None},
    "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": None},
}


def config(family: str = "qwen2", *, audio: bool = True) -> VideoLlama2Config:
    """Of a model with everything, some thousand parameters."""
    return VideoLlama2Config(
        vision_config=dict(VISION),
        audio_config=BeatsConfig(**BEATS) if audio else None,
        text_config={"model_type": family, **LANGUAGE, **FAMILIES[family]},
        connector_type="stc_connector_v35",
        num_frames=4,
    )


def model(family: str = "qwen2", *, audio: bool = True, seed: int = 0) -> VideoLlama2ForConditionalGeneration:
    """Random and not trivial: also norms and biases differ from where they start."""
    generator = torch.Generator().manual_seed(seed)
    made = VideoLlama2ForConditionalGeneration(config(family, audio=audio))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1 + (parameter.dim() == 1) * 0.5)
    return made.eval()


def original_tensors(made: VideoLlama2ForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The state dict under the original's names, Mixtral's experts one by one."""
    out: dict[str, torch.Tensor] = {}
    for ours, tensor in made.state_dict().items():
        name = original_name(ours)
        if ".mlp.experts." in name:
            prefix = name.split(".mlp.experts.")[0] + ".block_sparse_moe.experts."
            for expert, part in enumerate(tensor):
                pieces = part.chunk(2) if name.endswith("gate_up_proj") else (part,)
                for which, piece in zip(("w1", "w3") if len(pieces) == 2 else ("w2",), pieces, strict=True):
                    out[f"{prefix}{expert}.{which}.weight"] = piece.contiguous()
        else:
            out[name.replace(".mlp.gate.", ".block_sparse_moe.gate.")] = tensor.contiguous()
    return out


def original_config(family: str = "qwen2", *, audio: bool = True, **changes: Any) -> dict[str, Any]:
    """As the public training code writes it."""
    values: dict[str, Any] = {
        "model_type": f"videollama2_{family}",
        **LANGUAGE,
        **FAMILIES[family],
        "rope_theta": 10000.0 if family != "mixtral" else 1e6,
        "mm_vision_tower": TOWER,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_projector_type": "stc_connector_v35",
        "mm_hidden_size": VISION["hidden_size"],
        "num_frames": 4,
        "use_mm_proj": True,
        "torch_dtype": "float32",
    }
    if family == "mistral":
        values["rms_norm_eps"] = 1e-6
    if audio:
        values |= {
            "mm_audio_tower": "BEATs.pt",
            "mm_projector_a_type": "mlp2x_gelu",
            "mm_hidden_size_a": BEATS["encoder_embed_dim"],
            "hidden_size_a": LANGUAGE["hidden_size"],
        }
    return values | changes


def write(folder: Path, values: dict[str, Any], **files: dict[str, torch.Tensor]) -> Path:
    """A folder with config.json, the tower's and BEATs' settings, and `name.safetensors` files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(values))
    if "mm_vision_tower" in values:
        (folder / TOWER).mkdir()
        (folder / TOWER / "config.json").write_text(json.dumps(VISION))
    if "mm_audio_tower" in values:
        (folder / "beats_config.json").write_text(json.dumps(BEATS))
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors", metadata={"format": "pt"})
    return folder


def parts(tensors: dict[str, torch.Tensor], *prefixes: str) -> dict[str, torch.Tensor]:
    """Those whose names begin so."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}


def language_only(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A language model's own tensors, as in its own repository."""
    return parts(tensors, "model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")


@torch.no_grad()
def logits(made: VideoLlama2ForConditionalGeneration) -> torch.Tensor:
    """Of one fixed prompt with a video and, where the model hears, a sound."""
    generator = torch.Generator().manual_seed(7)
    settings = made.config
    videos = made.model.get_video_features(torch.randn(1, 4, 3, 28, 28, generator=generator)).pooler_output
    sounds = []
    if settings.audio_config is not None:
        sounds = made.model.get_audio_features(torch.randn(1, 48, 128, generator=generator) + 15).pooler_output
    ids = [1, 2, *[settings.video_token_id] * len(videos[0]), *[settings.audio_token_id] * sum(map(len, sounds)), 3, 4]
    embeds = made.model.embed_features(torch.tensor([ids]), videos=videos, sounds=sounds)
    out: torch.Tensor = made(inputs_embeds=embeds).logits
    return out


def same_model(found: VideoLlama2ForConditionalGeneration, expected: VideoLlama2ForConditionalGeneration) -> None:
    """Assert that every tensor came through, bit for bit, and that what is computed with them is the same."""
    same_tensors(found.state_dict(), expected.state_dict())
    same_numbers(logits(found), logits(expected))
