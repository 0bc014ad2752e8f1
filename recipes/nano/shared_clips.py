"""Several questions about one clip in one sequence, which share the clip and do not see each other.

shared ──► one sequence per clip ── collate ──► a batch with `segments` ── segment_mask ─► attention mask
                                                                        └─ exact_match ─► right or wrong, each
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videollama2.data.labels import IGNORE


@dataclass(frozen=True)
class Sequenced:
    """A sequence of a batch. `segments`: 0 for positions that all questions share, k for the k-th question's."""

    ids: list[int]
    labels: list[int]
    positions: list[int]
    segments: list[int]


def shared(samples: Sequence[tuple[list[int], list[int]]]) -> Sequenced:
    """(ids, labels) of questions about one clip as one sequence: their common prefix once, then the rest of each."""
    first = samples[0][0]
    common = 0
    if len(samples) > 1:  # the prompts differ from the first word of the question at the latest
        shortest = min(labels.index(next(i for i in labels if i != IGNORE)) for _, labels in samples)
        while common < shortest and all(ids[common] == first[common] for ids, _ in samples):
            common += 1
    row = Sequenced(first[:common], [IGNORE] * common, list(range(common)), [0] * common)
    for k, (ids, labels) in enumerate(samples):
        row.ids.extend(ids[common:])
        row.labels.extend(labels[common:])
        row.positions.extend(range(common, len(ids)))
        row.segments.extend([k + 1] * (len(ids) - common))
    return row


def collate(rows: Sequence[Sequenced], pad: int) -> dict[str, Tensor]:
    """Pad on the right: `input_ids`, `labels`, `attention_mask`, int64 [B, L] each.

    Sequences of several questions also have `position_ids` and `segments` (-1 for padding), from which `segment_mask`
    makes the attention mask.
    """
    longest = max(len(row.ids) for row in rows)
    out = {
        "input_ids": torch.full((len(rows), longest), pad),
        "labels": torch.full((len(rows), longest), IGNORE),
        "attention_mask": torch.zeros((len(rows), longest), dtype=torch.long),
    }
    several = any(max(row.segments) > 1 for row in rows)
    if several:
        out["position_ids"] = torch.zeros((len(rows), longest), dtype=torch.long)
        out["segments"] = torch.full((len(rows), longest), -1)
    for i, row in enumerate(rows):
        length = len(row.ids)
        out["input_ids"][i, :length] = torch.tensor(row.ids)
        out["labels"][i, :length] = torch.tensor(row.labels)
        out["attention_mask"][i, :length] = 1
        if several:
            out["position_ids"][i, :length] = torch.tensor(row.positions)
            out["segments"][i, :length] = torch.tensor(row.segments)
    return out


def segment_mask(segments: Tensor) -> Tensor:
    """bool [B, 1, L, L]: each position attends to the shared positions and its own question's, up to itself."""
    L = segments.shape[1]
    same = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
    return (same & torch.ones(L, L, dtype=torch.bool, device=segments.device).tril())[:, None]


@torch.no_grad()
def exact_match(model: Any, batch: dict[str, Tensor], segments: Tensor | None = None) -> list[bool]:
    """Whether greedy decoding would give exactly the labelled answer, per question, in one pass without generating.

    Args:
        model: in evaluation mode.
        batch: keyword arguments of the model, with labels.
        segments: int64 [B, L], as `collate` makes them; None: each sequence is one question.
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
