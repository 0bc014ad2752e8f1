"""LoRA and QLoRA with PEFT for the language model and BEATs, and the adapter folder that a run saves.

The folder has what PEFT itself would save for the whole model, plus the other trained parts, so that `load`, `merge`
and PEFT can read it (weights/stages.py).
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import MissingExtra, UsageError
from ..phases import PARTS
from ..weights.lora import CONFIG, OTHERS, WEIGHTS
from .settings import Settings

logger = logging.getLogger(__name__)

ADAPTER = "default"  # PEFT's name for the only adapter


def add_lora(model: Any, settings: Settings) -> list[str]:
    """Add adapters to every linear layer of the settings' parts; returns the layers' names. Outputs don't change yet.

    Three parts get no adapters: the head, which stays frozen; connector and projector, which learn in full (spec
    §6.3); and the experts of a mixture-of-experts model, which transformers stores as one tensor per layer, not as
    linear layers.

    Raises:
        UsageError: the model lacks a part.
        MissingExtra: PEFT is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingExtra("LoRA requires PEFT: pip install 'videollama2[train]'") from None
    prefixes = tuple(PARTS[part] for part in settings.lora_parts)
    chosen = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.startswith(prefixes)]
    for part, prefix in zip(settings.lora_parts, prefixes, strict=True):
        if not any(name.startswith(prefix) for name in chosen):
            raise UsageError(f"lora_parts names {part}, which this model lacks; remove it.")
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=chosen,
        bias="none",
    )
    torch.manual_seed(settings.seed)  # the same on every process
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    where = ", ".join(settings.lora_parts)
    logger.info("LoRA of rank %d on %d linear layers of %s", settings.lora_rank, len(chosen), where)
    if "language_model" in settings.lora_parts and getattr(model.config.text_config, "num_local_experts", None):
        logger.warning("the experts stay frozen: only the attention layers have adapters")
    return chosen


def save_lora(model: Any, tensors: dict[str, Tensor], folder: Path, settings: Settings, base: str) -> None:
    """Write adapter_config.json, adapter_model, non_lora_trainables and config.json.

    Args:
        model: with adapters.
        tensors: everything that learned, by its name in the model, whole and on the CPU.
        folder: to write to.
        settings: the run's settings.
        base: folder or name of the model that was adapted, recorded in config.json.
    """
    plain = {name.replace(f".{ADAPTER}.", "."): tensor for name, tensor in tensors.items()}
    factors = {f"base_model.model.{n}": t for n, t in plain.items() if ".lora_" in n}
    others = {n: t for n, t in plain.items() if ".lora_" not in n}
    modules = sorted({n.rsplit(".lora_", 1)[0].removeprefix("base_model.model.") for n in factors})
    adapter = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": settings.lora_rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.lora_dropout,
        "target_modules": modules,
        "bias": "none",
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(adapter, indent=1), encoding="utf-8")
    save_file(factors, folder / WEIGHTS, metadata={"format": "pt"})
    if others:
        save_file(others, folder / OTHERS, metadata={"format": "pt"})
    write_config(model, folder, base)


def write_config(model: Any, folder: Path, base: str) -> None:
    """Write config.json for a folder whose other tensors come from `base`."""
    values = {**model.config.to_dict(), "_name_or_path": base}
    values.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
