"""The finished model of a run, in the run's folder: whole, or an adapter, or the parts that learned."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import UsageError
from ..phases import Phase, part_of
from ..weights.adapters import STAGE_FILES
from ..weights.layouts import original_name
from ..weights.load import quiet
from .adapters import save_lora, write_config
from .checkpoint import UNFINISHED, learning, writing
from .parallel import Processes
from .settings import Settings


def check_save(phase: Phase, settings: Settings) -> None:
    """Refuse, before training, a kind of result that can't hold what learns.

    Raises:
        UsageError: the language model learns as it is, and only parts are to be saved.
    """
    held = set(STAGE_FILES.values())
    if settings.save == "parts" and not settings.lora_rank and phase.learns - held:
        raise UsageError(
            f"save=parts can hold {', '.join(sorted(held))}, but {', '.join(sorted(phase.learns - held))} learn too; "
            "use --save whole, or adapters (--lora-rank)"
        )


def save_result(
    run: Path, model: Any, processor: Any, settings: Settings, base: str, dtype: torch.dtype, processes: Processes
) -> None:
    """Write the finished model into the run's folder; every process calls this, the first one writes.

    Args:
        base: folder or name of the model that the run started from.
        dtype: of a whole model's tensors; adapters and parts stay float32, as they were trained.

    Raises:
        StorageError: it can't be written; the checkpoints are untouched.
    """
    adapted = bool(settings.lora_rank)
    names = learning(model).keys() if adapted or settings.save == "parts" else model.state_dict().keys()
    tensors = whole_tensors(model, set(names), processes)
    if not processes.first:
        return
    made = run / f"model{UNFINISHED}"
    with writing(run / "model"):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        if adapted:
            save_lora(model, tensors, made, settings, base)
        elif settings.save == "parts":
            for stem, part in STAGE_FILES.items():
                kept = {original_name(n): t for n, t in tensors.items() if part_of(n) == part}
                if kept:
                    save_file(kept, made / f"{stem}.safetensors", metadata={"format": "pt"})
            write_config(model, made, base)
        else:
            with quiet():
                model.save_pretrained(made, state_dict={n: _rounded(t, dtype) for n, t in tensors.items()})
        processor.save_pretrained(made)
        for file in made.iterdir():
            file.chmod(0o644)  # safetensors makes its files readable by their owner alone
            file.replace(run / file.name)
        made.rmdir()


def whole_tensors(model: torch.nn.Module, names: set[str], processes: Processes) -> dict[str, Tensor]:
    """Name → tensor on the CPU, gathered from all processes; empty on all but the first."""
    whole: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name in names:
            gathered = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            if processes.first:
                whole[name] = gathered.detach().cpu().contiguous()
    return whole


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
