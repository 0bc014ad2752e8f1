"""Several prompts at once → keys, values and first logits; what prompts share is computed once.

prompts [L_i, D] ─┬─ the same beginning (questions about one clip) ── computed once, copied, then the rest of each
                  └─ others ── one padded pass for those of similar length, so that little padding is computed
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from .sequence import ActiveSequence
from .steps import DecodeSteps, pad_left

_MIN_SHARED = 48  # positions; below, another pass costs more than it saves
_MIN_LENGTH = 0.75  # of a pass's longest prompt


@dataclass(frozen=True)
class Prefilled:
    """Sequences of one pass, in this order, with their cache and the logits [B, V] of their first tokens."""

    sequences: list[ActiveSequence]
    cache: DynamicCache
    steps: DecodeSteps
    logits: Tensor


def prefill(model: Any, new: Sequence[ActiveSequence], cache: DynamicCache | None = None) -> list[Prefilled]:
    """Compute the prompts. No sequence is changed, so that nothing has happened if memory runs out.

    Args:
        cache: holds what comes before `embeds` of each of `new` (equally long), which are then computed in one pass.
    """
    if cache is not None:
        return [_pass(model, new, cache)]
    empty = DynamicCache(config=model.config.text_config)
    if slides(empty):  # its rows can't be joined later
        return [_pass(model, new, empty)]
    done, single = [], []
    for shared, sequences in _same_beginnings(new):
        if len(sequences) == 1:
            single += sequences
        else:
            done.append(_pass(model, sequences, _beginning(model, sequences, shared), shared))
    return done + [
        _pass(model, group, DynamicCache(config=model.config.text_config)) for group in _similar_lengths(single)
    ]


def slides(cache: DynamicCache) -> bool:
    """Whether a cache keeps the last positions only."""
    return any(layer.is_sliding for layer in cache.layers)


def _pass(model: Any, sequences: Sequence[ActiveSequence], cache: DynamicCache, skipped: int = 0) -> Prefilled:
    """One padded pass over what the cache does not hold; `skipped`: positions of `embeds` that it does hold."""
    embeds, mask = pad_left([s.embeds[0, skipped:] for s in sequences if s.embeds is not None])
    mask = nn.functional.pad(mask, (cache.get_seq_length(), 0), value=1)
    steps = DecodeSteps(model, cache, mask, max(s.tokens_left for s in sequences))
    return Prefilled(list(sequences), cache, steps, steps.prefill(embeds))


def _beginning(model: Any, sequences: Sequence[ActiveSequence], length: int) -> DynamicCache:
    """A cache of the first positions, computed once for all."""
    embeds, cache = sequences[0].embeds, DynamicCache(config=model.config.text_config)
    assert embeds is not None
    mask = torch.ones(1, length, dtype=torch.long, device=embeds.device)
    DecodeSteps(model, cache, mask, 0).prefill(embeds[:, :length])
    cache.batch_repeat_interleave(len(sequences))
    return cache


def _same_beginnings(new: Sequence[ActiveSequence]) -> Iterator[tuple[int, list[ActiveSequence]]]:
    """Sequences by their beginning, and its length; 0 for one that is alone."""
    groups: list[tuple[int, list[ActiveSequence]]] = []
    for sequence in new:
        for i, (length, members) in enumerate(groups):
            shared = _shared(members[0], sequence)
            shared = shared if len(members) == 1 else min(shared, length)
            if shared >= max(_MIN_SHARED, length // 2):
                groups[i] = shared, [*members, sequence]
                break
        else:
            groups.append((0, [sequence]))
    yield from groups


def _shared(one: ActiveSequence, other: ActiveSequence) -> int:
    """How many first positions are equal, both prompts being longer."""
    if one.embeds is None or other.embeds is None:
        return 0
    length = 0
    for a, b in zip(one.account.input_ids[:-1], other.account.input_ids[:-1], strict=False):
        if a != b:
            break
        length += 1
    if length < _MIN_SHARED:  # different text: no need to compare tensors
        return 0
    different = (one.embeds[0, :length] != other.embeds[0, :length]).any(-1).nonzero()
    return int(different[0]) if len(different) else length


def _similar_lengths(sequences: Sequence[ActiveSequence]) -> Iterator[list[ActiveSequence]]:
    def length(sequence: ActiveSequence) -> int:
        return 0 if sequence.embeds is None else sequence.embeds.shape[1]

    group: list[ActiveSequence] = []
    for sequence in sorted(sequences, key=length, reverse=True):
        if group and length(sequence) < _MIN_LENGTH * length(group[0]):
            yield group
            group = []
        group.append(sequence)
    if group:
        yield group
