"""Sets up a run before its first step: the order of its records, and a model with the phase's parts trainable."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..configuration import VideoLlama2Config
from ..device import Placement, choose
from ..loading import load_network
from ..phases import Phase
from ..processing import VideoLlama2Processor
from ..recompute import keep_less
from ..weights import stages
from ..weights.grow import grow
from ..weights.locate import locate
from ..weights.nano_cache import is_nano
from ..weights.quantise import quantisation_config
from .adapters import add_lora
from .settings import Settings
from .strategy import Strategy

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The model, encoders and data of a run.

    Attributes:
        model: name or folder of the model to start from.
        data: records files to train on, optionally with a pool's name in front ("chat=talk.jsonl").
        evaluation: records files to evaluate on.
        base: name or folder of the base model, if `model` is a training stage.
        vision, audio: folders of encoders to add to a model without them.
        media_root: folder that media paths are relative to; None: the folder of each records file.
    """

    model: str
    data: tuple[str, ...]
    evaluation: tuple[str, ...] = ()
    base: str | None = None
    vision: str | None = None
    audio: str | None = None
    media_root: Path | None = None


@dataclass
class Network:
    """The model of a run, ready to train; `name` identifies what it started from."""

    model: Any
    processor: VideoLlama2Processor
    name: str
    learning: dict[str, list[torch.nn.Parameter]]
    placement: Placement


def build_network(sources: Sources, phase: Phase, settings: Settings, strategy: Strategy) -> Network:
    """Load the model, add adapters, make the phase's parts trainable in float32, and spread it over the processes.

    Raises:
        WeightsError: the model can't be loaded.
        UsageError: the phase trains a part that the model lacks.
    """
    device = strategy.processes.device
    placement = choose(str(device), PRECISIONS.get(phase.precision) or automatic(device))
    options: dict[str, Any] = {}
    if settings.quantise is not None:
        options["quantization_config"] = quantisation_config(settings.quantise, placement.dtype)
        options["device_map"] = {"": str(placement.device)}  # quantised weights can't be moved later
    folder, _ = locate(sources.model, sources.base)
    base = None if is_nano(sources.model) else sources.base
    if sources.vision is None and sources.audio is None:
        model, _ = load_network(folder, base, placement.dtype, **options)
    else:
        added: dict[str, Any] = {"vision": sources.vision, "audio": sources.audio, "seed": settings.seed}
        model = grow(folder, base=base, dtype=placement.dtype, **added, **options)
    if settings.quantise is None:
        model.to(placement.device)
    processor = processor_of(sources, model.config)
    if settings.lora_rank:
        add_lora(model, settings)
    keep_less(model.model.language_model)
    learning = phase.apply(model)
    for parameters in learning.values():
        for parameter in parameters:
            parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        recompute_activations(model)
    autocast = placement.dtype if placement.dtype is not torch.float32 else None
    strategy.prepare_model(model, autocast)
    if strategy.shards_weights:  # sharding replaced the parameters
        learning = phase.apply(model)
    name = str(folder.resolve()) if Path(sources.model).is_dir() else sources.model
    return Network(model, processor, name, learning, placement)


def processor_of(sources: Sources, config: VideoLlama2Config) -> VideoLlama2Processor:
    """The processor of a run's model, without reading weights; image settings are those of a new vision encoder."""
    folder, _ = locate(sources.model, sources.base)
    tokenizer = folder if stages.kind(folder) == "complete" else stages.tokenizer_folder(folder, sources.base)
    image_settings = folder if sources.vision is None else locate(sources.vision)[0]
    return VideoLlama2Processor.from_pretrained(image_settings, config=config, tokenizer_folder=tokenizer)


def automatic(device: torch.device) -> torch.dtype:
    """dtype of the arithmetic under precision "auto": bfloat16 on GPUs that support it, else float32.

    Never float16, which inference may use: small gradients would underflow.
    """
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if supported else torch.float32


def recompute_activations(model: Any, **options: Any) -> None:
    """Keep only the input of each of the language model's layers, and recompute the rest in the backward pass.

    `options` go to torch's `checkpoint`.
    """
    language = model.model.language_model
    # renamed after transformers 5.16; newer versions warn of the old name
    enable = getattr(language, "activation_checkpointing_enable", None) or language.gradient_checkpointing_enable
    enable({"use_reentrant": False, **options})
