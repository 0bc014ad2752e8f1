"""Writes a run's finished model into its folder: the whole model, adapters, or the trained parts."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UsageError
from ..phases import Phase, part_of
from ..weights.original.names import original_name
from ..weights.stages import STAGE_FILES
from ..weights.strict import quiet
from .adapters import save_lora, write_config
from .checkpoint import UNFINISHED, learning, writing
from .distributed import Processes
from .settings import Settings


def check_save(phase: Phase, settings: Settings) -> None:
    """Reject, before training, a kind of result that can't store every trained part.

    Raises:
        UsageError: save is "parts", and the language model or an encoder learns without adapters.
    """
    held = set(STAGE_FILES.values())
    if settings.save == "parts" and not settings.lora_rank and phase.learns - held:
        raise UsageError(
            f"save=parts can store {', '.join(sorted(held))}, but {', '.join(sorted(phase.learns - held))} learn too; "
            "use --save whole, or adapters (--lora-rank)."
        )


def save_result(
    run: Path, model: Any, processor: Any, settings: Settings, base: str, dtype: torch.dtype, processes: Processes
) -> None:
    """Write the finished model into the run's folder. Call on every process; the first one writes.

    Args:
        base: folder or name of the model that the run started from.
        dtype: for the tensors of a whole model; adapters and parts stay float32, the dtype of training.

    Raises:
        StorageError: it can't be written; the checkpoints are untouched.
    """
    adapted = bool(settings.lora_rank)
    names = learning(model).keys() if adapted or settings.save == "parts" else model.state_dict().keys()
    tensors = gather_tensors(model, set(names), processes)
    if not processes.first:
        return
    unfinished = run / f"model{UNFINISHED}"
    with writing(run / "model"):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        if adapted:
            save_lora(model, tensors, unfinished, settings, base)
        elif settings.save == "parts":
            for stem, part in STAGE_FILES.items():
                kept = {original_name(n): t for n, t in tensors.items() if part_of(n) == part}
                if kept:
                    save_file(kept, unfinished / f"{stem}.safetensors", metadata={"format": "pt"})
            write_config(model, unfinished, base)
        else:
            with quiet():
                model.save_pretrained(unfinished, state_dict={n: _rounded(t, dtype) for n, t in tensors.items()})
        processor.save_pretrained(unfinished)
        for file in unfinished.iterdir():
            file.chmod(0o644)  # safetensors files are readable only by their owner
            file.replace(run / file.name)
        unfinished.rmdir()


def gather_tensors(model: torch.nn.Module, names: set[str], processes: Processes) -> dict[str, Tensor]:
    """Name → whole tensor on the CPU, on the first process; empty on the others. Call on every process."""
    whole: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name in names:
            gathered = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            if processes.first:
                whole[name] = gathered.detach().cpu().contiguous()
    return whole


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
