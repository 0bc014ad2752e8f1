"""Text-only samples teach the adapters to change nothing: the loss is the divergence from the same model without them.

A hundred or so answers of the base model are soon learned by heart, and then say nothing about other talk. The base
model's whole distribution at every position says more than the one word that it chose, and costs one more pass forward.
"""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from adapters import LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F

from videollama2.data.labels import IGNORE
from videollama2.modeling import MEDIA_INPUTS


@contextlib.contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before it had adapters."""
    layers = [m for m in model.modules() if isinstance(m, LoraLinear)]
    scales = [layer.scale for layer in layers]
    for layer in layers:
        layer.scale = 0.0
    try:
        yield
    finally:
        for layer, scale in zip(layers, scales, strict=True):
            layer.scale = scale


class Preserving(nn.Module):
    """The whole model; its loss on text alone is the mean KL divergence from itself without adapters.

    Parameters have the same names as in the whole model.
    """

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.model, self.lm_head, self.config = whole.model, whole.lm_head, whole.config
        self._whole = (whole,)  # in a tuple it is no second name of the same parameters

    def forward(self, **inputs: Any) -> Any:
        if any(inputs.get(name) is not None for name in MEDIA_INPUTS):
            return self._whole[0](**inputs)
        labels, count = inputs.pop("labels"), inputs.pop("num_items_in_batch")
        target = F.pad(labels[:, 1:], (0, 1), value=IGNORE) != IGNORE
        with torch.no_grad(), adapters_off(self.model):
            wanted = self._logits(inputs, target).log_softmax(-1)
        found = self._logits(inputs, target).log_softmax(-1)
        return argparse.Namespace(loss=F.kl_div(found, wanted, reduction="sum", log_target=True) / count)

    def _logits(self, inputs: dict[str, Any], target: Tensor) -> Tensor:
        hidden = self.model(**inputs).last_hidden_state[target]
        return self.lm_head(hidden).float()
