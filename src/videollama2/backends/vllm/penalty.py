"""The checkpoint's repetition penalty, on generated tokens only.

vLLM's own counts the prompt too, placeholders of media among it. The public implementation's prompt enters as
embeddings, so that it counts nothing there (generation/sampling.py). A request's own `repetition_penalty` stays vLLM's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

ARGUMENT = "generated_repetition_penalty"  # in a request's `vllm_xargs`, in place of the checkpoint's


class GeneratedTokenPenalty(LogitsProcessor):
    """Divides the positive logits of tokens that were generated before, and multiplies the negative ones."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        found = vllm_config.model_config.try_get_generation_config()
        self._default = float(found.get("repetition_penalty") or 1.0)
        self._held: dict[int, tuple[float, Sequence[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """It also acts on greedy search."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the rows of the batch; the lists of generated ids grow by themselves."""
        process_dict_updates(self._held, batch_update, self._state)

    def _state(self, params: SamplingParams, _: Any, generated: list[int]) -> tuple[float, Sequence[int]] | None:
        asked = (params.extra_args or {}).get(ARGUMENT, self._default)
        return None if params.repetition_penalty != 1.0 or asked == 1.0 else (float(asked), generated)

    def apply(self, logits: Tensor) -> Tensor:
        """Of each row with a penalty."""
        for row, (penalty, generated) in self._held.items():
            seen = sorted({token for token in generated if token >= 0})
            if seen:
                ids = torch.tensor(seen, device=logits.device)
                scores = logits[row, ids]
                logits[row, ids] = torch.where(scores < 0, scores * penalty, scores / penalty)
        return logits
