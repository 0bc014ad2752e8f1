"""A small model of each family, and its GGUF files, made here."""

from pathlib import Path
from typing import Any

from videollama2.backends.llama_cpp.write import write_gguf

from ... import tiny

TEXT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 4096, "eos_token_id": 2, "pad_token_id": 0,
    "bos_token_id": None,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "llama": {"attention_bias": True},
    "mistral": {"sliding_window": None},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen3": {"head_dim": 32},
}


def checkpoint(folder: Path, family: str = "qwen2", **changes: Any) -> Path:
    """A model of a family; `changes`: of its language model."""
    text = {**TEXT, "model_type": family, **FAMILIES.get(family, {}), **changes}
    return tiny.save(folder, whole_characters=True, text_config=text)


def gguf_of(folder: Path, type_name: str = "F32") -> Path:
    """Its language model as a GGUF file in the same folder."""
    return write_gguf(folder, folder / f"language_model.{type_name}.gguf", type_name)
