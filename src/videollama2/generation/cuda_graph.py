"""Decoding steps as a CUDA graph: one launch per token instead of a thousand.

A 7B model reads its weights in 5 ms on a data-centre GPU, but Python needs 25 ms to launch a step's kernels one by one.
Recorded once, they are replayed as one. A recorded graph always reads and writes the same memory, so the cache becomes
tensors of fixed length, with a mask over the part that is not filled yet.
"""

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ..outputs import CACHE

logger = logging.getLogger(__name__)
EAGER_STEPS = 8  # recording takes about as long as this many steps: shorter answers skip it
_STEPS = 1024  # capacity of one recording; a longer answer records another
_WARM_UP = 2  # steps run before recording; their positions are then overwritten


class FixedCache:
    """Keys and values of at most `length` positions, all layers, as transformers' attention modules use a cache.

    `keys[layer]` and `values[layer]` are [B, heads, length, d]; new ones are written at `position`, int64 [1].
    """

    is_compileable = False

    def __init__(self, grown: DynamicCache, length: int) -> None:
        self.keys = [_room_for(layer.keys, length) for layer in grown.layers]
        self.values = [_room_for(layer.values, length) for layer in grown.layers]
        self.position = torch.tensor([grown.get_seq_length()], device=self.keys[0].device)

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one position's [B, heads, 1, d] of a layer; returns all of the layer's."""
        self.keys[layer_idx].index_copy_(2, self.position, keys)
        self.values[layer_idx].index_copy_(2, self.position, values)
        return self.keys[layer_idx], self.values[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """0: transformers derives positions from it, and ours are passed explicitly."""
        return 0


def _room_for(filled: Tensor, length: int) -> Tensor:
    room = filled.new_zeros(*filled.shape[:2], length, filled.shape[3])
    room[:, :, : filled.shape[2]] = filled
    return room


class FixedStep:
    """One token through the model, at fixed addresses: `step(ids)` → logits of the next token.

    Args:
        model: VideoLlama2ForConditionalGeneration.
        cache: filled by the prompt; `close` adds what was processed since.
        mask: int64 [B, positions in `cache`], 1 where a position is real.
        positions: int64 [B, 1] of the next token of each sequence.
        steps: how many calls there is room for.
    """

    def __init__(self, model: Any, cache: DynamicCache, mask: Tensor, positions: Tensor, steps: int) -> None:
        self.room = steps
        filled = cache.get_seq_length()
        self._model, self._grown, self._filled = model, cache, filled
        self._cache = FixedCache(cache, filled + steps)
        self._seen = torch.zeros(len(mask), 1, 1, filled + steps, dtype=torch.bool, device=mask.device)
        self._seen[:, 0, 0, :filled] = mask.bool()
        self._positions = positions.clone()
        self._ids = torch.zeros_like(positions)
        self._logits = torch.empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._done = 0

    def __call__(self, ids: Tensor) -> Tensor:
        """The token of each sequence, int64 [B] → logits [B, V], valid until the next call."""
        self._ids.copy_(ids[:, None])
        if self._graph is None:
            self._run()
        else:
            self._graph.replay()
        self._done += 1
        self.room -= 1
        return self._logits

    def record(self) -> "FixedStep":
        """Make a CUDA graph of the step."""
        start = [t.clone() for t in self.state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries allocate on first use, which can't be recorded
            for _ in range(_WARM_UP):
                self._run()
        torch.cuda.current_stream().wait_stream(side)
        self.rewind(start)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._run()
        self.rewind(start)
        self._graph = graph
        return self

    def close(self) -> None:
        """Copy what was computed back into the growing cache."""
        length = self._filled + self._done
        for i, layer in enumerate(self._grown.layers):
            layer.keys, layer.values = self._cache.keys[i][:, :, :length], self._cache.values[i][:, :, :length]
        self._graph = None

    @property
    def state(self) -> list[Tensor]:
        """What a step advances besides the cache: the mask, each sequence's next position, and where it is written."""
        return [self._seen, self._positions, self._cache.position]

    def rewind(self, start: list[Tensor]) -> None:
        """Restore a copy of an earlier `state`."""
        for tensor, before in zip(self.state, start, strict=True):
            tensor.copy_(before)

    def _run(self) -> None:
        self._seen.index_fill_(3, self._cache.position, True)
        out = self._model(
            inputs_embeds=self._model.get_input_embeddings()(self._ids),
            attention_mask=self._seen,
            position_ids=self._positions,
            use_cache=True,
            logits_to_keep=1,
            **{CACHE: self._cache},
        )
        self._logits = out.logits[:, -1]
        self._positions.add_(1)
        self._cache.position.add_(1)


def record(model: Any, cache: DynamicCache, mask: Tensor, positions: Tensor, steps: int) -> FixedStep | None:
    """A recorded step with room for that many tokens (1024 at most), or None if it can't be recorded.

    Requires CUDA, the whole model on one device, and attention to all positions.

    Args:
        steps: tokens that may follow. The others are those of `FixedStep`.
    """
    if steps < EAGER_STEPS or model.device.type != "cuda" or not _recordable(model, cache):
        return None
    step = FixedStep(model, cache, mask, positions, min(steps, _STEPS))
    try:
        return step.record()
    except RuntimeError as error:  # the model synchronises with the GPU within a step (some rotary embeddings do)
        logger.info("decoding without a CUDA graph: %s", error)
        return None


def _recordable(model: Any, cache: DynamicCache) -> bool:
    text = model.config.text_config
    dense = getattr(text, "num_local_experts", None) is None  # with experts, the host decides which ones run
    whole = len({p.device for p in model.parameters()}) == 1
    sliding = any(getattr(layer, "is_sliding", False) for layer in cache.layers)
    return dense and whole and not sliding and text._attn_implementation == "sdpa"
