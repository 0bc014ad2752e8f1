"""The training loop, whole and visible: one phase, any number of processes.

    source.steps ──► micro-batches ──► model → loss ──► backward ─┐ (summed over micro-batches and processes)
                                                                  └──► clip ──► AdamW ──► cosine ──► StepReport

A step is a function of the weights, the optimiser's state and the step's number: the order of the data, dropout and
the learning rate follow from the number alone, so a run that is resumed goes on as if it had never stopped. The loss of
a step is the mean over all its supervised tokens, however they are spread over micro-batches and processes.
"""

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batches import MicroBatch, StepBatch, StepSource
from ..errors import NumericsError, UsageError
from ..phases import Phase
from .parallel import Processes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step did, over all processes.

    `loss` is the mean over supervised tokens; `rate` the fraction of the peak learning rate; `positions` and `padding`
    count what went through the language model; `skipped` are the samples that could not be read (of this process).
    """

    step: int
    loss: float
    gradient_norm: float
    rate: float
    seconds: float
    supervised: int
    positions: int
    padding: int
    skipped: tuple[Any, ...] = ()


def schedule(step: int, steps: int, phase: Phase) -> float:
    """Fraction of the peak rate at a step: a linear rise, then half a cosine (or a line) down to zero, or neither."""
    rise = max(1, round(steps * phase.warmup))
    if step < rise:
        return (step + 1) / rise
    left = (steps - step) / max(1, steps - rise)
    if phase.schedule == "constant":
        return 1.0
    return left if phase.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))


def optimiser(phase: Phase, learning: Mapping[str, list[nn.Parameter]]) -> torch.optim.AdamW:
    """AdamW with a group per part; matrices decay, vectors (norms, biases) do not."""
    groups: list[dict[str, Any]] = []
    for part, parameters in learning.items():
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            rate, decay = phase.rate(part), phase.weight_decay if decays else 0.0
            if chosen:
                groups.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": decay})
    return torch.optim.AdamW(
        groups, betas=(0.9, phase.beta2), fused=all(p.is_cuda for g in groups for p in g["params"])
    )


def learning_mode(model: Any, phase: Phase) -> None:
    """`train()`, except that what is frozen drops nothing out: its output is the same every time.

    The language model stays in training mode: it checkpoints activations only there, and none drops anything out.
    """
    model.train()
    for part in {"connector", "audio_projector"} - phase.learns:  # encoders see to it themselves
        frozen = getattr(model.model, part)
        if frozen is not None:
            frozen.eval()


def optimise(
    model: nn.Module,
    phase: Phase,
    optimizer: torch.optim.Optimizer,
    source: StepSource,
    *,
    steps: int,
    start: int = 0,
    seed: int = 0,
    processes: Processes | None = None,
    autocast: torch.dtype | None = None,
) -> Iterator[StepReport]:
    """Train from step `start` to `steps`; a report after each, and whatever the caller does between them.

    Args:
        model: VideoLlama2ForConditionalGeneration, on its device; `phase.apply` says what of it learns.
        optimizer: of the learning parameters, in groups that have a "peak" rate (`optimiser`).
        source: of the steps' micro-batches.
        seed: of dropout; mixed with the step's number and the samples' names.
        processes: those that train together (None: this one alone).
        autocast: number format of the arithmetic (None: that of the weights).

    Raises:
        NumericsError: a loss or a gradient is not finite; the message names the samples. The weights are as before.
        UsageError: there is nothing to train on.
    """
    processes = processes or Processes.alone(next(model.parameters()).device)
    learning_mode(model, phase)
    at, began = start, time.perf_counter()
    for batch in source.steps(start, steps):
        ready = [micro for micro in batch.micro if micro is not None]
        counts = [[m.supervised, m.positions, m.padding] for m in ready]
        supervised, positions, padding = processes.sum([sum(c) for c in zip(*counts, strict=True)] or [0, 0, 0])
        losses = []
        for number, micro in enumerate(batch.micro, start=1):
            torch.manual_seed(_chance(seed, batch.step, micro))
            last = number == len(batch.micro)
            losses.append(_backward(model, micro, supervised, processes, autocast, last=last))
        loss = processes.sum([float(torch.stack(losses).sum())])[0]
        rate = schedule(batch.step, steps, phase)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        norm = processes.step(optimizer, phase.clip) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            optimizer.zero_grad(set_to_none=True)
            raise _not_finite(phase, batch, losses, loss, norm, processes)
        seconds = time.perf_counter() - began
        at = batch.step + 1
        yield StepReport(
            step=batch.step,
            loss=loss,
            gradient_norm=norm,
            rate=rate,
            seconds=seconds,
            supervised=int(supervised),
            positions=int(positions),
            padding=int(padding),
            skipped=batch.skipped,
        )
        began = time.perf_counter()
        learning_mode(model, phase)  # whoever looked at the report may have measured the model
    if at == start < steps:
        raise UsageError(f"{phase.name}: there was nothing to train on")


def _backward(
    model: nn.Module,
    micro: MicroBatch | None,
    supervised: float,
    processes: Processes,
    autocast: torch.dtype | None,
    *,
    last: bool,
) -> Tensor:
    """Add a micro-batch's gradients to the step's (`last` of it); returns its share of the step's loss."""
    device = processes.device
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        if micro is None:  # every sample was left out; the other processes still expect this one in every layer
            if not processes.together:
                return torch.zeros((), device=device)
            ids = torch.zeros((1, 2), dtype=torch.long, device=device)
            loss = processes.forward(model, {"input_ids": ids, "labels": ids, "num_items_in_batch": 1}).loss * 0
        else:
            inputs = {name: to_device(value, device) for name, value in micro.inputs.items()}
            loss = processes.forward(model, {**inputs, "num_items_in_batch": supervised}).loss
    if loss.requires_grad:  # it does not where a sample meets nothing that learns; among processes, see `shard`
        processes.backward(loss, last=last)
    return loss.detach().float()


@torch.no_grad()
def evaluate(
    model: nn.Module, source: StepSource, steps: int, processes: Processes, autocast: torch.dtype | None = None
) -> float:
    """Mean loss over the supervised tokens of the first `steps` steps; nothing is dropped out, nothing learns.

    Raises:
        NumericsError: it is not finite; the message names the samples.
        UsageError: no sample could be read.
    """
    model.eval()
    total = count = 0.0
    skipped: list[Any] = []
    spoilt: list[str] = []
    for batch in source.steps(0, steps):
        skipped += batch.skipped
        for micro in batch.micro:
            with torch.autocast(processes.device.type, autocast, enabled=autocast is not None):
                inputs = {"input_ids": torch.zeros((1, 2), dtype=torch.long)} if micro is None else micro.inputs
                inputs = {name: to_device(value, processes.device) for name, value in inputs.items()}
                # the head runs where labels are; of the other positions only the last one's logits are made
                out = model(**inputs, num_items_in_batch=1, logits_to_keep=1)
            if micro is not None:
                if not out.loss.isfinite():
                    spoilt += micro.records
                total += float(out.loss)
                count += micro.supervised
    processes.measured(model)
    if skipped:
        names = ", ".join(lost.record for lost in skipped[:3])
        logger.warning("measured without %d samples: %s%s", len(skipped), names, " …" if skipped[3:] else "")
    total, count = processes.sum([total, count])
    if not count:
        raise UsageError("the evaluation data has no sample that could be read")
    if not math.isfinite(total):  # it would be the best for ever, as nothing is less
        raise NumericsError(
            f"the loss on the evaluation data is {total / count}; its samples: {', '.join(processes.gather(spoilt))}. "
            "Look at these samples, or lower the learning rate"
        )
    return total / count


def to_device(value: Any, device: torch.device) -> Any:
    """A tensor, or a list of them, on the device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return [to_device(v, device) for v in value] if isinstance(value, list | tuple) else value


def _chance(seed: int, step: int, micro: MicroBatch | None) -> int:
    """Seed of what is dropped out: of the samples and the step, so that it matters not which process has them."""
    names = "\n".join(() if micro is None else micro.records)
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {names}".encode()).digest()[:8]) >> 1


def _not_finite(
    phase: Phase, batch: StepBatch, losses: list[Tensor], loss: float, norm: float, processes: Processes
) -> NumericsError:
    """Names the samples of the micro-batches whose loss is not finite, or of all where it is the gradients.

    Every process calls this: the one to blame may be another.
    """
    pairs = [(m, bool(v.isfinite())) for m, v in zip(batch.micro, losses, strict=True) if m is not None]
    met = processes.gather([(name, finite) for micro, finite in pairs for name in micro.records])
    blamed = [name for name, finite in met if not finite] or [name for name, _ in met]
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradients is {norm}"
    return NumericsError(
        f"{phase.name}: {what} at step {batch.step}; its samples: {', '.join(blamed) or 'none'}. The weights are those "
        "of the step before. Look at these samples, or lower the learning rate"
    )
