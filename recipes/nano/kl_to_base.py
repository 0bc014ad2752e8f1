"""Loss of text-only samples: the KL divergence from the same model without adapters.

It keeps the adapters from changing conversation without media. Cross-entropy on some hundred answers of the base model
would only be memorised; its whole distribution at every position says more, for one extra forward pass.
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
from videollama2.media_features import MEDIA_INPUTS


@contextlib.contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Disable all adapters."""
    layers = [m for m in model.modules() if isinstance(m, LoraLinear)]
    scales = [layer.scale for layer in layers]
    for layer in layers:
        layer.scale = 0.0
    try:
        yield
    finally:
        for layer, scale in zip(layers, scales, strict=True):
            layer.scale = scale


class KLToBase(nn.Module):
    """A model whose loss on text alone is the mean KL divergence from itself without adapters.

    Parameters have the same names as in the wrapped model.
    """

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.model, self.lm_head, self.config = whole.model, whole.lm_head, whole.config
        self._whole = (whole,)  # in a tuple, so that its parameters are not registered twice

    def forward(self, **inputs: Any) -> Any:
        if any(inputs.get(name) is not None for name in MEDIA_INPUTS):
            return self._whole[0](**inputs)
        labels, count = inputs.pop("labels"), inputs.pop("num_items_in_batch")
        target = F.pad(labels[:, 1:], (0, 1), value=IGNORE) != IGNORE
        with torch.no_grad(), adapters_off(self.model):
            base = self._logits(inputs, target).log_softmax(-1)
        adapted = self._logits(inputs, target).log_softmax(-1)
        return argparse.Namespace(loss=F.kl_div(adapted, base, reduction="sum", log_target=True) / count)

    def _logits(self, inputs: dict[str, Any], target: Tensor) -> Tensor:
        hidden = self.model(**inputs).last_hidden_state[target]
        return self.lm_head(hidden).float()
