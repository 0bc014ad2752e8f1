"""Several prompts at once → keys, values and first logits; what prompts share is computed once.

prompts [L_i, D] ─┬─ begin as others do, or as one before (questions about one clip): the beginning is computed once
                  │                                                  └─► copied for each ── the rest, in one pass
                  └─ others ── one padded pass for those of similar length, so that little padding is computed
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
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


@dataclass(frozen=True)
class Beginning:
    """The first positions of a prompt, computed: keys and values [1, heads, positions, d] of each layer."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def positions(self) -> int:
        """How many."""
        return self.layers[0][0].shape[2]

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def cache(self, model: Any, rows: int) -> DynamicCache:
        """A cache of so many sequences that begin with it."""
        cache = DynamicCache(config=model.config.text_config)
        for i, (keys, values) in enumerate(self.layers):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        return cache


class BeginningsCache:
    """Beginnings of prompts up to the end of their media, the least recently used dropped. Thread-safe.

    Attributes:
        nbytes: memory in use.
    """

    def __init__(self, max_bytes: int) -> None:
        self.nbytes, self._max = 0, max_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Beginning] = OrderedDict()

    def get(self, key: Hashable | None) -> Beginning | None:
        """The beginning cached under a key; None also for the key None."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Hashable, value: Beginning) -> None:
        """Cache it, unless it is larger than the cache."""
        if value.nbytes > self._max:
            return
        with self._lock:
            old = self._held.pop(key, None)
            self.nbytes += value.nbytes - (old.nbytes if old else 0)
            self._held[key] = value
            while self.nbytes > self._max:
                self.nbytes -= self._held.popitem(last=False)[1].nbytes


def prefill(
    model: Any,
    new: Sequence[ActiveSequence],
    cache: DynamicCache | None = None,
    beginnings: BeginningsCache | None = None,
) -> list[Prefilled]:
    """Compute the prompts. No sequence is changed, so that nothing has happened if memory runs out.

    Args:
        cache: holds what comes before `embeds` of each of `new` (equally long), which are then computed in one pass.
        beginnings: of earlier prompts; those of `new` are added.
    """
    empty = DynamicCache(config=model.config.text_config)
    if cache is not None or slides(empty):  # rows of a sliding window can't be joined later
        return [_pass(model, new, cache or empty)]
    known: list[tuple[ActiveSequence, Beginning]] = []
    unknown: list[ActiveSequence] = []
    for sequence in new:
        found = None if beginnings is None else beginnings.get(beginning_key(sequence)[0])
        if found is None:
            unknown.append(sequence)
        else:
            known.append((sequence, found))
    single: list[ActiveSequence] = []
    for shared, sequences in same_beginnings(unknown):
        if len(sequences) == 1:
            single += sequences
            continue
        found = beginning(model, sequences[0], shared)
        known += [(sequence, found) for sequence in sequences]
        key, length = beginning_key(sequences[0])
        if beginnings is not None and key is not None and shared == length:
            beginnings.put(key, found)
    passes = [_continued(model, known)] if known else []
    for group in _similar_lengths(single):
        passes.append(_pass(model, group, DynamicCache(config=model.config.text_config)))
        if beginnings is not None:
            _add(beginnings, passes[-1])
    return passes


def slides(cache: DynamicCache) -> bool:
    """Whether a cache keeps the last positions only."""
    return any(layer.is_sliding for layer in cache.layers)


def _pass(model: Any, sequences: Sequence[ActiveSequence], cache: DynamicCache) -> Prefilled:
    """One padded pass over what the cache does not hold."""
    embeds, mask = pad_left([s.embeds[0] for s in sequences if s.embeds is not None])
    mask = nn.functional.pad(mask, (cache.get_seq_length(), 0), value=1)
    steps = DecodeSteps(model, cache, mask, max(s.tokens_left for s in sequences))
    return Prefilled(list(sequences), cache, steps, steps.prefill(embeds))


def _continued(model: Any, known: Sequence[tuple[ActiveSequence, Beginning]]) -> Prefilled:
    """One padded pass over what follows the beginnings, which are padded on the left, too."""
    sequences, beginnings = [s for s, _ in known], [b for _, b in known]
    width = max(beginning.positions for beginning in beginnings)
    cache = DynamicCache(config=model.config.text_config)
    for i in range(len(beginnings[0].layers)):
        keys, values = zip(*(beginning.layers[i] for beginning in beginnings), strict=True)
        cache.update(stacked(keys, width), stacked(values, width), i)
    embeds, mask = pad_left([s.embeds[0, b.positions :] for s, b in known if s.embeds is not None])
    before = torch.zeros(len(known), width, dtype=mask.dtype, device=mask.device)
    for row, beginning in zip(before, beginnings, strict=True):
        row[width - beginning.positions :] = 1
    steps = DecodeSteps(model, cache, torch.cat([before, mask], 1), max(s.tokens_left for s in sequences))
    return Prefilled(sequences, cache, steps, steps.prefill(embeds))


def stacked(tensors: Sequence[Tensor], width: int) -> Tensor:
    """Keys or values [B_i, heads, n_i, d] of several caches as one tensor [ΣB_i, heads, width, d], zeros first."""
    first, rows = tensors[0], sum(len(t) for t in tensors)
    out = first.new_empty(rows, first.shape[1], width, first.shape[3])
    for part, tensor in zip(out.split([len(t) for t in tensors]), tensors, strict=True):
        padding = width - tensor.shape[2]
        part[:, :, :padding] = 0
        part[:, :, padding:] = tensor
    return out


@torch.inference_mode()
def beginning(model: Any, sequence: ActiveSequence, length: int) -> Beginning:
    """The first positions of a prompt that has not been computed."""
    assert sequence.embeds is not None
    cache = DynamicCache(config=model.config.text_config)
    mask = torch.ones(1, length, dtype=torch.long, device=sequence.embeds.device)
    DecodeSteps(model, cache, mask, 0).prefill(sequence.embeds[:, :length])
    return Beginning(tuple((layer.keys, layer.values) for layer in cache.layers))


def _add(beginnings: BeginningsCache, done: Prefilled) -> None:
    """Keep a copy of the beginnings that a pass has computed."""
    for row, sequence in enumerate(done.sequences):
        key, length = beginning_key(sequence)
        if key is not None and sequence.embeds is not None:
            start = done.steps.mask.shape[1] - sequence.embeds.shape[1]
            part = (slice(row, row + 1), slice(None), slice(start, start + length))
            layers = tuple((layer.keys[part].clone(), layer.values[part].clone()) for layer in done.cache.layers)
            beginnings.put(key, Beginning(layers))


def beginning_key(sequence: ActiveSequence) -> tuple[Hashable | None, int]:
    """What the beginning up to the end of the media depends on, and its length; None if that is not known."""
    account = sequence.account
    end = max((span.start + span.length for span in account.spans), default=0)
    if end < _MIN_SHARED or not account.media_keys or None in account.media_keys:
        return None, 0
    return (account.input_ids[:end], account.media_keys), end


def same_beginnings(new: Sequence[ActiveSequence]) -> Iterator[tuple[int, list[ActiveSequence]]]:
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
    key, length = beginning_key(one)
    if key is not None and key == beginning_key(other)[0]:
        return length
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
