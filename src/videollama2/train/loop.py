"""The training loop, whole and visible: one phase, one device.

    batches ──► model(**batch) → loss ──► backward ──► clip ──► AdamW ──► cosine

Weights and optimiser state stay float32; on a GPU the arithmetic runs in bfloat16 through autocast.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NumericsError, UsageError
from ..phases import Phase

logger = logging.getLogger(__name__)

BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Step:
    """What one step did. `rate` is the fraction of the peak learning rate."""

    step: int
    loss: float
    gradient_norm: float
    rate: float
    seconds: float


def schedule(step: int, steps: int, warmup: float) -> float:
    """Fraction of the peak rate at a step: a linear rise, then half a cosine down to zero."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def optimiser(phase: Phase, learning: Mapping[str, list[nn.Parameter]]) -> torch.optim.AdamW:
    """AdamW with a group per part; matrices decay, vectors (norms, biases) do not."""
    groups: list[dict[str, Any]] = []
    for part, parameters in learning.items():
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            rate, decay = phase.rate(part), phase.weight_decay if decays else 0.0
            if chosen:
                groups.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": decay})
    fused = all(p.is_cuda for ps in learning.values() for p in ps)
    return torch.optim.AdamW(groups, betas=BETAS, fused=fused)


def fit(
    model: nn.Module,
    phase: Phase,
    batches: Iterable[Mapping[str, Any]],
    *,
    steps: int,
    report: Callable[[Step], None] | None = None,
    every: int = 50,
    loss_of: Callable[[nn.Module, Mapping[str, Any]], Tensor] | None = None,
    seconds: float | None = None,
) -> Step:
    """Train a model for one phase.

    Args:
        batches: keyword arguments of the model, on its device; at least `steps` of them.
        report: called every `every` steps and after the last.
        loss_of: how a batch becomes a loss (default: `model(**batch).loss`).
        seconds: when this much time has passed the schedule is cut short: the rate falls to zero over the rest of
            what time allows. The schedule then follows time instead of steps.

    Returns:
        The last step.

    Raises:
        NumericsError: a loss that is not finite.
        UsageError: no batches.
    """
    learning = phase.apply(model)
    optimizer = optimiser(phase, learning)
    parameters = [p for ps in learning.values() for p in ps]
    device = parameters[0].device
    model.train()
    started, last = time.perf_counter(), None
    recent: list[Tensor] = []
    for step, batch in enumerate(batches):
        elapsed = time.perf_counter() - started
        if step >= steps or (seconds is not None and elapsed >= seconds):
            break
        # the position in the schedule: whichever of the two limits is nearer to its end
        done = max(step / steps, elapsed / seconds if seconds is not None else 0.0)
        rate = schedule(round(done * steps), steps, phase.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(**batch).loss if loss_of is None else loss_of(model, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, phase.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.detach())
        if step % every == 0 or step + 1 == steps:
            last = Step(step, float(torch.stack(recent).mean()), float(norm), rate, time.perf_counter() - started)
            recent.clear()
            if not math.isfinite(last.loss):
                raise NumericsError(f"{phase.name}: the loss is {last.loss} at step {step}; lower the learning rate")
            logger.info(
                "%s %5d  loss %.4f  |g| %.2f  rate %.2f  %.0f s", phase.name, step, last.loss, norm, rate, last.seconds
            )
            if report is not None:
                report(last)
    if last is None:
        raise UsageError(f"{phase.name}: there were no batches to train on")
    return last
