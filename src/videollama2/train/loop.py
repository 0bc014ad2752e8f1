"""The training loop: one phase, on any number of processes.

    source.steps ──► micro-batches ──► model → loss ──► backward ─┐ (summed over micro-batches and processes)
                                                                  └──► clip ──► AdamW ──► schedule ──► StepReport

A step is a function of the weights, the optimizer's state and the step number: data order, dropout and learning rate
follow from the number alone, so a resumed run takes the steps that the uninterrupted one would have taken. The loss of
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
from .distributed import Processes
from .strategy import SingleProcess, Strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The outcome of one step, over all processes.

    Attributes:
        loss: mean over the supervised tokens.
        gradient_norm: before clipping.
        rate: fraction of the peak learning rate.
        seconds: wall-clock time of the step, including reading its data.
        supervised: tokens with a label.
        positions, padding: of the sequences that went through the language model.
        skipped: samples of this process that could not be read.
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
    """Fraction of the peak learning rate at a step: linear warm-up, then cosine or linear decay, or constant."""
    rise = max(1, round(steps * phase.warmup))
    if step < rise:
        return (step + 1) / rise
    left = (steps - step) / max(1, steps - rise)
    if phase.schedule == "constant":
        return 1.0
    return left if phase.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))


def build_optimizer(phase: Phase, learning: Mapping[str, list[nn.Parameter]]) -> torch.optim.AdamW:
    """AdamW with the phase's rate per part; weight decay on matrices, none on vectors (norms, biases)."""
    groups: list[dict[str, Any]] = []
    for part, parameters in learning.items():
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            rate, decay = phase.rate(part), phase.weight_decay if decays else 0.0
            if chosen:
                groups.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": decay})
    return torch.optim.AdamW(
        groups,
        betas=(0.9, phase.beta2),
        fused=all(p.device.type in ("cuda", "cpu") for g in groups for p in g["params"]),
    )


def set_train_mode(model: Any, phase: Phase) -> None:
    """`train()`, but without dropout in frozen parts, so that their output is deterministic.

    The language model stays in training mode even when frozen: activation checkpointing works only in training mode,
    and none of the supported models has dropout. Encoders handle this themselves.
    """
    model.train()
    for part in {"connector", "audio_projector"} - phase.learns:
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
    strategy: Strategy | None = None,
    autocast: torch.dtype | None = None,
) -> Iterator[StepReport]:
    """Train from step `start` to `steps`, yielding a report after each; the caller may evaluate or save in between.

    Args:
        model: VideoLlama2ForConditionalGeneration, on its device; `phase.apply` has marked its trainable parameters.
        optimizer: for the trainable parameters, in groups with a "peak" rate (`build_optimizer`).
        source: of the steps' micro-batches.
        seed: for dropout; mixed with the step number and the samples' names.
        strategy: how model and optimizer are spread over processes; None: this process alone.
        autocast: dtype of the arithmetic; None: the weights' dtype.

    Raises:
        NumericsError: a loss or gradient is not finite; the message names the samples, and the weights are unchanged.
        UsageError: the source has no steps.
    """
    strategy = strategy or SingleProcess.on(next(model.parameters()).device)
    processes = strategy.processes
    set_train_mode(model, phase)
    done, began = start, time.perf_counter()
    for batch in source.steps(start, steps):
        ready = [micro for micro in batch.micro if micro is not None]
        counts = [[m.supervised, m.positions, m.padding] for m in ready]
        supervised, positions, padding = processes.sum([sum(c) for c in zip(*counts, strict=True)] or [0, 0, 0])
        losses = []
        for number, micro in enumerate(batch.micro, start=1):
            torch.manual_seed(_dropout_seed(seed, batch.step, micro))
            last = number == len(batch.micro)
            losses.append(_backward(model, micro, supervised, strategy, autocast, last=last))
        loss = processes.sum([float(torch.stack(losses).sum())])[0]
        rate = schedule(batch.step, steps, phase)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        norm = strategy.step(optimizer, phase.clip) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            optimizer.zero_grad(set_to_none=True)
            raise _not_finite(phase, batch, losses, loss, norm, processes)
        seconds = time.perf_counter() - began
        done = batch.step + 1
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
        set_train_mode(model, phase)  # the caller may have evaluated the model
    if done == start < steps:
        raise UsageError(f"{phase.name}: expected {steps - start} steps of training data, got none.")


def _backward(
    model: nn.Module,
    micro: MicroBatch | None,
    supervised: float,
    strategy: Strategy,
    autocast: torch.dtype | None,
    *,
    last: bool,
) -> Tensor:
    """Accumulate a micro-batch's gradients (`last`: of the step); returns its share of the step's loss."""
    device = strategy.processes.device
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        if micro is None:  # all its samples were skipped
            if not strategy.lockstep:
                return torch.zeros((), device=device)
            ids = torch.zeros((1, 2), dtype=torch.long, device=device)
            loss = (
                strategy.forward(
                    model, {"input_ids": ids, "labels": ids, "num_items_in_batch": 1, "skip_logits": True}
                ).loss
                * 0
            )
        else:
            inputs = {name: to_device(value, device) for name, value in micro.inputs.items()}
            loss = strategy.forward(model, {**inputs, "num_items_in_batch": supervised, "skip_logits": True}).loss
    # a single process may get samples that reach no trainable part; in lockstep every loss reaches all of them
    if loss.requires_grad:
        strategy.backward(loss, last=last)
    return loss.detach().float()


@torch.no_grad()
def evaluate(
    model: nn.Module, source: StepSource, steps: int, strategy: Strategy, autocast: torch.dtype | None = None
) -> float:
    """Mean loss over the supervised tokens of the first `steps` steps, without dropout or learning.

    Raises:
        NumericsError: the loss is not finite; the message names the samples.
        UsageError: no sample could be read.
    """
    model.eval()
    device = strategy.processes.device
    total = count = 0.0
    skipped: list[Any] = []
    not_finite: list[str] = []
    for batch in source.steps(0, steps):
        skipped += batch.skipped
        for micro in batch.micro:
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                inputs = {"input_ids": torch.zeros((1, 2), dtype=torch.long)} if micro is None else micro.inputs
                inputs = {name: to_device(value, device) for name, value in inputs.items()}
                # with labels the head computes their positions alone; `logits_to_keep` spares the rest where none are
                out = model(**inputs, num_items_in_batch=1, logits_to_keep=1)
            if micro is not None:
                if not out.loss.isfinite():
                    not_finite += micro.records
                total += float(out.loss)
                count += micro.supervised
    strategy.after_evaluation(model)
    if skipped:
        names = ", ".join(one.record for one in skipped[:3])
        logger.warning("evaluated without %d skipped samples: %s%s", len(skipped), names, " …" if skipped[3:] else "")
    processes = strategy.processes
    total, count = processes.sum([total, count])
    if not count:
        raise UsageError("no sample of the evaluation data could be read; check it with `videollama2 data doctor`.")
    if not math.isfinite(total):  # otherwise NaN would remain the best loss
        raise NumericsError(
            f"the loss on the evaluation data is {total / count}; its samples: "
            f"{', '.join(processes.gather(not_finite))}. Check these samples, or lower the learning rate."
        )
    return total / count


def to_device(value: Any, device: torch.device) -> Any:
    """A tensor or a list of tensors, moved to the device; anything else unchanged."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return [to_device(v, device) for v in value] if isinstance(value, list | tuple) else value


def _dropout_seed(seed: int, step: int, micro: MicroBatch | None) -> int:
    """A seed from step and samples, so that dropout does not depend on which process has the samples."""
    names = "\n".join(() if micro is None else micro.records)
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {names}".encode()).digest()[:8]) >> 1


def _not_finite(
    phase: Phase, batch: StepBatch, losses: list[Tensor], loss: float, norm: float, processes: Processes
) -> NumericsError:
    """Name the samples of the micro-batches whose loss is not finite, or all samples if it is the gradients.

    Call on every process: the cause may be on another.
    """
    pairs = [(m, bool(v.isfinite())) for m, v in zip(batch.micro, losses, strict=True) if m is not None]
    seen = processes.gather([(name, finite) for micro, finite in pairs for name in micro.records])
    blamed = [name for name, finite in seen if not finite] or [name for name, _ in seen]
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradients is {norm}"
    return NumericsError(
        f"{phase.name}: {what} at step {batch.step}; its samples: {', '.join(blamed) or 'none'}. The weights are those "
        "of the step before. Check these samples, or lower the learning rate."
    )
