"""How often greedy decoding would give exactly the labelled answer, in one pass per batch and without generating."""

from typing import Any

import torch
from torch import Tensor

from ..data.labels import IGNORE


@torch.no_grad()
def exact_match(model: Any, batch: dict[str, Tensor], segments: Tensor | None = None) -> list[bool]:
    """One truth per question: every supervised token is the likeliest, given those before it.

    Args:
        batch: keyword arguments of the model, with labels.
        segments: int64 [B, L], where rows hold several questions (`data.composed.batches.collate`); the k-th question's
            positions have k. Without it each row is one question.
    """
    labels = batch["labels"]
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "sound_targets")}
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=labels.is_cuda):
        hidden = model.model(**inputs).last_hidden_state[:, :-1]
        target = labels[:, 1:]
        supervised = target != IGNORE
        best = model.lm_head(hidden[supervised]).argmax(-1)
    wrong = torch.zeros_like(supervised)
    wrong[supervised] = best != target[supervised]
    if segments is None:
        return (~wrong.any(1)).tolist()
    found: list[bool] = []
    for row, numbers in zip(wrong, segments[:, 1:].to(wrong.device), strict=True):
        found += [not bool(row[numbers == k].any()) for k in range(1, int(numbers.max()) + 1)]
    return found
