"""Small models that vLLM's CPU attention can run (its heads have 32 numbers or more), and what to ask them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from videollama2.engine import Engine
from videollama2.generation.batch import generate
from videollama2.generation.sampling import GenerateOptions
from videollama2.text.media_parts import media_of
from videollama2.weights.original.export import export_original

from ... import tiny

WIDTH, LAYERS, TOKENS = 64, 2, 12


def text_config(family: str) -> dict[str, Any]:
    """A language model of a family."""
    values: dict[str, Any] = {
        "model_type": family, "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 320,
        "max_position_embeddings": 4096, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None,
    }  # fmt: skip
    if family == "mixtral":
        values |= {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}
    if family == "mistral":
        values["sliding_window"] = None
    if family == "qwen2":
        del values["head_dim"]
    return values


def save(folder: Path, family: str, *, penalty: float | None = None, **changes: Any) -> Path:
    """A model in our own layout. `penalty`: the repetition penalty of its generation_config.json."""
    tiny.save(folder, text_config=text_config(family), whole_characters=True, **changes)
    if penalty is not None:
        settings = json.loads((folder / "generation_config.json").read_text())
        (folder / "generation_config.json").write_text(json.dumps({**settings, "repetition_penalty": penalty}))
    return folder


def save_original(folder: Path, family: str) -> Path:
    """A model in the original's layout."""
    made = tiny.model(text_config=text_config(family))
    export_original(made, folder)
    tiny.processor(made.config).save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path) -> Path:
    """LoRA on the language model's attention, as PEFT writes it."""
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    tensors = {}
    for layer in range(LAYERS):
        for module, out in (("q_proj", WIDTH), ("v_proj", 32)):
            name = f"base_model.model.model.language_model.layers.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(8, WIDTH)
            tensors[f"{name}.lora_B.weight"] = torch.randn(out, 8)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "bias": "none",
        "base_model_name_or_path": str(base), "task_type": "CAUSAL_LM", "lora_dropout": 0.0, "inference_mode": True,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def conversations(media: Path) -> list[list[dict[str, Any]]]:
    """Every mixture: text alone, each kind, a video with and without its audio, several media, several turns."""

    def user(*parts: Any) -> dict[str, Any]:
        return {"role": "user", "content": [p if isinstance(p, dict) else {"type": "text", "text": p} for p in parts]}

    def part(kind: str, name: str, **options: Any) -> dict[str, Any]:
        return {"type": kind, kind: str(media / name), **options}

    return [
        [user("How many?")],
        [user(part("image", "still.png"), "What do you see?")],
        [user(part("video", "clip.mp4"), "What do you see and hear?")],
        [user(part("video", "clip.mp4", sound=False), "What do you see?")],
        [user(part("video", "mute.mp4"), "What do you hear?")],
        [user(part("audio", "tone.wav"), "What do you hear?")],
        [user(part("video", "long.mp4", start=1.0, end=3.0, num_frames=6), "What moves?")],
        [user(part("image", "still.png"), part("video", "clip.mp4"), part("audio", "tone.wav"), "One, two, three.")],
        [user("First ", part("audio", "tone.wav"), " then ", part("audio", "clip.mp4"), "which is left?")],
        [
            {"role": "system", "content": "the quick brown fox"},
            user(part("video", "clip.mp4"), "What do you see? <video> <|im_end|>"),
            {"role": "assistant", "content": "a red kite"},
            user(part("image", "still.png"), "And now?"),
        ],
    ]


def expected(engine: Engine, asked: list[list[dict[str, Any]]], tokens: int = TOKENS) -> list[list[int]]:
    """The ids that our own Engine generates, one conversation at a time."""
    made = []
    options = GenerateOptions(max_new_tokens=tokens).with_defaults(engine.model.generation_config)
    for messages in asked:
        prompt = engine.embed(messages, engine.prepare(media_of(messages)))
        with torch.inference_mode():
            made += generate(engine.model, [prompt.embeds[0]], options, engine.runner.stop_ids)
    return made
