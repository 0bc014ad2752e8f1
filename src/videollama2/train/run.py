"""Run phases: batches from workers to the device, the loop, and what comes out of it as files."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data.rendering import to_inputs
from ..phases import Phase, part_of
from .loop import Step, fit
from .lora import adapter_state_dict

logger = logging.getLogger(__name__)


def device_batches(
    data: Dataset[dict[str, Any]], side: int, device: torch.device, *, workers: int = 0, seed: int | None = None
) -> Iterator[dict[str, Any]]:
    """The data set's batches as model inputs on `device`; augmented where `seed` is given."""
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    loader = DataLoader(data, batch_size=None, num_workers=workers, prefetch_factor=3 if workers else None)
    for batch in loader:
        inputs = to_inputs(batch, side, device, generator)
        if "sound_targets" in batch:
            inputs["sound_targets"] = batch["sound_targets"].to(device)
        yield inputs


def train_phase(
    model: nn.Module,
    phase: Phase,
    data: Dataset[dict[str, Any]],
    *,
    steps: int,
    side: int,
    seconds: float | None = None,
    workers: int = 0,
    seed: int = 0,
    **options: Any,
) -> Step:
    """`fit` on composed batches, on the device where the model is; `options` go to `fit`."""
    device = next(model.parameters()).device
    batches = device_batches(data, side, device, workers=workers, seed=seed)
    return fit(model, phase, batches, steps=steps, seconds=seconds, **options)


def trained_parts(model: nn.Module, parts: set[str]) -> dict[str, Tensor]:
    """The tensors of these parts, under their names in the model; adapters come without a language model's weights."""
    out = {n: p for n, p in model.state_dict().items() if "lora_" not in n and part_of(n) in parts}
    prefix = "model.language_model."
    adapters = adapter_state_dict(model)
    return out | {n: t for n, t in adapters.items() if n.startswith(prefix)}


def save_parts(model: nn.Module, parts: set[str], path: Path) -> None:
    """`trained_parts` as float16 safetensors, written whole or not at all."""
    tensors = {n: t.detach().to("cpu", torch.float16).contiguous() for n, t in trained_parts(model, parts).items()}
    unfinished = path.with_suffix(".part")
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.replace(path)
    logger.info("wrote %s: %d tensors, %.1f MB", path, len(tensors), path.stat().st_size / 1e6)


@torch.no_grad()
def exact_match(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """bool [B]: would greedy decoding give exactly the labelled answer? (every supervised token is the likeliest)"""
    labels = batch["labels"]
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "sound_targets")}
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=labels.is_cuda):
        hidden = model.model(**inputs).last_hidden_state[:, :-1]
        target = labels[:, 1:]
        supervised = target != -100
        best = model.lm_head(hidden[supervised]).argmax(-1)
    wrong = torch.zeros_like(supervised)
    wrong[supervised] = best != target[supervised]
    return ~wrong.any(1)
