"""Runs the language model: first the prompt, then one token per sequence and step; each call returns the next logits.

    prefill: embeddings [B, L, D] ──► cache, logits [B, V]
    decode:  token ids [B]        ──► cache grows by one position, logits [B, V]

Prompts of different lengths are padded on the left. After a few steps on a GPU, decoding is recorded as a CUDA graph.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ..outputs import CACHE
from .cuda_graph import EAGER_STEPS, FixedStep, record


class DecodeSteps:
    """Forward passes over one cache.

    Attributes:
        mask: int64 [B, positions so far], 1 at real positions, 0 at padding.
    """

    def __init__(self, model: Any, cache: DynamicCache, mask: Tensor, limit: int) -> None:
        """`cache` holds the first positions of `mask`, or all of them; at most `limit` tokens follow."""
        self._model, self._cache, self.mask, self._left = model, cache, mask, limit
        # transformers turns a mask of ones into a bias added to every score; without a mask, attention is causal
        self._plain = bool(mask.all())
        self._next = mask.sum(1, keepdim=True)  # position of the next token
        self._eager = 0
        self._fixed: FixedStep | None = None

    def prefill(self, embeds: Tensor) -> Tensor:
        """[B, L, D], the last L positions of the mask."""
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
        return self._forward(embeds, positions)

    def decode(self, ids: Tensor) -> Tensor:
        """int64 [B], the newest token of each sequence."""
        if self._fixed is not None and self._fixed.room == 0:
            self.close()
        if self._fixed is None and self._eager == EAGER_STEPS:
            self._eager = 0
            self._fixed = record(self._model, self._cache, self.mask, self._next, self._left)
        self._left -= 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], 1)
        if self._fixed is not None:
            logits = self._fixed(ids)
        else:
            self._eager += 1
            logits = self._forward(self._model.get_input_embeddings()(ids[:, None]), self._next)
        self._next = self._next + 1
        return logits

    def close(self) -> None:
        """Write back into the cache what a recorded graph has computed."""
        if self._fixed is not None:
            self._fixed.close()
            self._fixed = None

    def _forward(self, embeds: Tensor, positions: Tensor) -> Tensor:
        out = self._model(
            inputs_embeds=embeds,
            attention_mask=None if self._plain else self.mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{CACHE: self._cache},
        )
        logits: Tensor = out.logits[:, -1]
        return logits


def pad_left(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts [L_i, D] as one tensor [B, L, D], zeros first, and its mask int64 [B, L]."""
    width = max(len(prompt) for prompt in prompts)
    embeds = prompts[0].new_zeros(len(prompts), width, prompts[0].shape[1])
    mask = torch.zeros(len(prompts), width, dtype=torch.long, device=embeds.device)
    for i, prompt in enumerate(prompts):
        embeds[i, width - len(prompt) :], mask[i, width - len(prompt) :] = prompt, 1
    return embeds, mask
