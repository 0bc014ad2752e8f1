"""Converts the original's config.json to our configuration and back (spec §3.1).

Its model types (`videollama2_mistral`, `videollama2_qwen2`, …) name a language model and omit the sizes of both
encoders, which come from the encoders' own config.json or are built in.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from ...beats import BeatsConfig
from ...configuration import LIBRARY_KEYS, VideoLlama2Config, read_json, refuse_unknown_keys
from ...errors import ConfigError
from ...vision import VISION_FAMILIES, vision_family

# the original's model_type → transformers' language model (spec §3.1)
LANGUAGE_MODELS = {
    "videollama2_mistral": "mistral",
    "videollama2_mixtral": "mixtral",
    "videollama2_qwen2": "qwen2",
    "videollama2_llama": "llama",
    "videollama2_phi3": "phi3",
    "videollama2_gemma2": "gemma2",
}

# The public inference code puts this prompt before the user's turn, for two families only (spec §5.2).
_FAMILIES_WITH_SYSTEM_PROMPT = ("mistral", "mixtral")
RELEASED_SYSTEM_PROMPT = (
    "<<SYS>>\nYou are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being "
    "safe.  Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal "
    "content. Please ensure that your responses are socially unbiased and positive in nature.\nIf a question does not "
    "make any sense, or is not factually coherent, explain why instead of answering something not correct. If you "
    "don't know the answer to a question, please don't share false information.\n<</SYS>>"
)

# The vision encoders of the released checkpoints (spec §1.2), which contain their weights but not their sizes.
VISION_ENCODERS: dict[str, dict[str, Any]] = {
    "clip-vit-large-patch14-336": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "siglip-so400m-patch14-384": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
}

# Keys of an original config.json that are translated
_MULTIMODAL_KEYS = frozenset(
    "mm_vision_tower mm_vision_select_layer mm_vision_select_feature mm_projector_type mm_hidden_size num_frames "
    "mm_audio_tower mm_projector_a_type mm_hidden_size_a hidden_size_a tune_mm_mlp_adapter".split()
)
# Bookkeeping keys, which no computation reads
_BOOKKEEPING_KEYS = frozenset(
    "use_mm_proj image_aspect_ratio freeze_mm_mlp_adapter mm_projector_lr tune_mm_mlp_adapter_a tune_audio_tower "
    "tune_adapter_llm tokenizer_padding_side tokenizer_model_max_length max_sequence_length quantization_config "
    "freeze_backbone image_crop_resolution image_grid_pinpoints image_split_resolution mm_use_im_start_end "
    "mm_use_im_patch_token mm_tunable_parts vocab_size_a".split()
)


def released_system_prompt(family: str) -> str | None:
    """The system prompt that released models of a language-model family were tuned with."""
    return RELEASED_SYSTEM_PROMPT if family in _FAMILIES_WITH_SYSTEM_PROMPT else None


def translate_original(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Our configuration, as a dict, for an original config.json (spec §3.1).

    Args:
        values: the parsed original file.
        folder: its folder, which may also contain the config.json of a vision encoder or of BEATs.

    Raises:
        ConfigError: unknown keys, an unknown vision encoder, or sizes that contradict each other.
    """
    model_type = values["model_type"]
    family = LANGUAGE_MODELS[model_type]
    text_class = type(AutoConfig.for_model(family))
    text_keys = set(text_class.__dataclass_fields__) | LIBRARY_KEYS | set(GenerationConfig().to_dict())
    known = text_keys | _MULTIMODAL_KEYS | _BOOKKEEPING_KEYS
    refuse_unknown_keys(values, known, "the original config.json")

    skip = _MULTIMODAL_KEYS | _BOOKKEEPING_KEYS
    skip |= {
        "architectures",
        "model_type",
        "auto_map",
        "transformers_version",
        "_name_or_path",
        "name_or_path",
        "_commit_hash",
    }
    skip |= set(GenerationConfig().to_dict()) - set(text_class.__dataclass_fields__)
    text = {k: v for k, v in values.items() if k not in skip or k in ("bos_token_id", "eos_token_id", "pad_token_id")}
    dtype = text.pop("torch_dtype", None) or text.pop("dtype", None)
    ours: dict[str, Any] = {
        "model_type": VideoLlama2Config.model_type,
        "architectures": ["VideoLlama2ForConditionalGeneration"],
        "text_config": {"model_type": family, **text},
        "tie_word_embeddings": bool(values.get("tie_word_embeddings", text_class().tie_word_embeddings)),
        "num_frames": values.get("num_frames") or 8,
        "connector_type": values.get("mm_projector_type", "linear"),
        "system_prompt": released_system_prompt(family),
    }
    if dtype is not None:
        ours["dtype"] = dtype
    if values.get("mm_vision_tower") is not None:
        ours |= _vision_part(values, folder)
    if values.get("mm_audio_tower") is not None:
        ours |= _audio_part(values, folder)
    return ours


def _vision_part(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    vision = vision_encoder_config(values["mm_vision_tower"], folder)
    found, stated = vision.get("hidden_size"), values.get("mm_hidden_size")
    if stated is not None and found != stated:
        raise ConfigError(
            f"mm_hidden_size is {stated}, but the vision encoder {values['mm_vision_tower']!r} is {found} wide; "
            "one of the two files belongs to another model."
        )
    if values.get("mm_vision_select_layer") is None:
        raise ConfigError("mm_vision_tower is set but mm_vision_select_layer is not; released models use -2.")
    return {
        "vision_config": vision,
        "vision_feature_layer": values["mm_vision_select_layer"],
        "vision_feature_select": values.get("mm_vision_select_feature", "patch"),
    }


def _audio_part(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    audio = beats_config(folder).to_dict()
    width = values.get("mm_hidden_size_a")
    if width is not None and width != audio["encoder_embed_dim"]:
        raise ConfigError(
            f"mm_hidden_size_a is {width}, but BEATs is {audio['encoder_embed_dim']} wide; for another size of "
            f"BEATs, put its beats_config.json into {folder}."
        )
    out = values.get("hidden_size_a")
    if out is not None and out != values["hidden_size"]:
        raise ConfigError(f"hidden_size_a is {out}, but the language model is {values['hidden_size']} wide.")
    return {"audio_config": audio, "audio_projector_type": values.get("mm_projector_a_type", "linear")}


def beats_config(folder: Path) -> BeatsConfig:
    """The folder's beats_config.json (BEATs' own `cfg`); the released sizes if missing."""
    file = folder / "beats_config.json"
    values = read_json(file) if file.is_file() else {}
    return BeatsConfig(**{k: v for k, v in values.items() if k in BeatsConfig.__dataclass_fields__})


def vision_encoder_config(name: str, folder: Path) -> dict[str, Any]:
    """The configuration of the vision encoder `name`, as a dict with `model_type`.

    Searched in the checkpoint's folder, in the local folder `name`, among the built-in ones, and in the local hub
    cache, in that order; nothing is downloaded.

    Raises:
        ConfigError: not found, or of an unknown family.
    """
    base = name.rstrip("/").rsplit("/", 1)[-1]
    for place in (folder / name, folder / base, Path(name)):
        if (place / "config.json").is_file():
            return _vision_only(read_json(place / "config.json"), str(place))
    if base in VISION_ENCODERS:
        return dict(VISION_ENCODERS[base])
    try:
        return _vision_only(AutoConfig.from_pretrained(name, local_files_only=True).to_dict(), name)
    except OSError:
        raise ConfigError(
            f"the vision encoder {name!r} is not in {folder}, not a local folder, not built in "
            f"({', '.join(VISION_ENCODERS)}) and not in the hub cache; put its config.json into {folder / base}/."
        ) from None


def _vision_only(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The vision half of a config with two encoders (CLIP, SigLIP), or the config itself."""
    halves = {family.part_of: name for name, family in VISION_FAMILIES.items() if family.part_of}
    if values.get("model_type") in halves:
        values = {**values["vision_config"], "model_type": halves[values["model_type"]]}
    vision_family(values.get("model_type"), where)
    dropped = ("architectures", "torch_dtype", "dtype", "transformers_version", "_name_or_path")
    return {k: v for k, v in values.items() if k not in dropped}


# AutoConfig finds a class by the file's model_type, so each of the original's needs a class that carries its name.
ORIGINAL_CONFIGS = tuple(
    type(name.replace("_", " ").title().replace(" ", "") + "Config", (VideoLlama2Config,), {"model_type": name})
    for name in LANGUAGE_MODELS
)


def original_config(config: VideoLlama2Config, dtype: torch.dtype) -> dict[str, Any]:
    """The original's config.json for one of our configurations.

    Raises:
        ConfigError: the original has no name for this language model, no audio pooling, or no such audio encoder.
    """
    text = config.text_config
    names = [name for name, family in LANGUAGE_MODELS.items() if family == text.model_type]
    if not names:
        raise ConfigError(
            f"the original has no model type for {text.model_type!r}; expected {', '.join(LANGUAGE_MODELS.values())}."
        )
    if tuple(config.audio_pool) != (1, 1):
        raise ConfigError(
            f"the original has no audio pooling (audio_pool is {tuple(config.audio_pool)}); keep our layout."
        )
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
        if config.audio_config.model_type != BeatsConfig.model_type:
            raise ConfigError(f"the original's audio encoder is BEATs, not {config.audio_config.model_type!r}.")
        values |= {
            "mm_audio_tower": "audio_tower.bin",
            "mm_hidden_size_a": config.audio_config.encoder_embed_dim,
            "hidden_size_a": text.hidden_size,
            "mm_projector_a_type": config.audio_projector_type,
        }
    return values
