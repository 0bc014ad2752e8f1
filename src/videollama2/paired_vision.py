"""Two vision encoders as one: features of DINOv2, EfficientNet-Lite's class scores, and colours, at the same positions.

    pixels [N, 3, S, S] ─┬─ scaled ── DINOv2 ───────────────────────► [N, P, 384]  ─┐
                         ├─ EfficientNet-Lite ── classifier, resampled ► [N, P, 1000] ┼─► [N, P, 1395]
                         └─ colours that stand out ──────────────────► [N, P, 11]   ─┘

DINOv2 says what is where and how it moves, the classifier what it is called. Resampling keeps the mean over positions,
so the mean of the class scores is still the classifier's answer for the frame.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from .colours import COLOURS, colour_votes
from .efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig

# EfficientNet-Lite expects (x - 127) / 128, which is what the pixels are; DINOv2 the mean and deviation of its training
CLASSIFIER_MEAN, CLASSIFIER_STD = 127 / 255, 128 / 255
PATCHES_MEAN, PATCHES_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PairedVisionConfig(PreTrainedConfig):
    """Attributes:
    patches: configuration of the DINOv2 model.
    classes: configuration of the EfficientNet-Lite.
    """

    model_type = "paired_vision"
    sub_configs: ClassVar[dict[str, Any]] = {"patches": AutoConfig, "classes": EfficientNetLiteConfig}

    patches: Any = None
    classes: Any = None
    num_hidden_layers: int = 1  # both encoders together count as one block

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.patches, PreTrainedConfig):
            self.patches = AutoConfig.for_model(**({"model_type": "dinov2"} | (self.patches or {})))
        if not isinstance(self.classes, PreTrainedConfig):
            self.classes = EfficientNetLiteConfig(**(self.classes or {}))
        super().__post_init__(**kwargs)

    @property
    def image_size(self) -> int:
        """Side of the frames, in pixels: the classifier's."""
        return int(self.classes.image_size)

    @property
    def hidden_size(self) -> int:
        """DINOv2's width, the number of classes, and that of colours."""
        return int(self.patches.hidden_size + self.classes.num_classes + len(COLOURS))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of features: DINOv2's."""
        side = int(self.patches.image_size // self.patches.patch_size)
        return side, side


class PairedVision(PreTrainedModel):
    """Both encoders; `blocks` has one block, which runs them."""

    config_class = PairedVisionConfig
    main_input_name = "pixel_values"

    def __init__(self, config: PairedVisionConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Identity()
        self.blocks = nn.ModuleList([Both(config)])
        self.post_init()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features [N, P, C] of pixels [N, 3, S, S]."""
        x: Tensor = pixel_values
        for block in self.blocks:
            x = block(x)
        return x


class Both(nn.Module):
    """Pixels [N, 3, S, S] → features [N, P, C]."""

    def __init__(self, config: PairedVisionConfig) -> None:
        super().__init__()
        self.side, self.grid = int(config.patches.image_size), config.grid
        self.patches = AutoModel.from_config(config.patches)
        self.classes = EfficientNetLite(config.classes)

    def forward(self, pixels: Tensor) -> Tensor:
        scores = self.classes.classifier(self.classes(pixels))  # [N, h·w, K]
        scores = resample(scores, self.classes.config.grid, self.grid)
        # a CPU has no antialiasing in 16 bits
        small = F.interpolate(pixels.float(), size=(self.side, self.side), mode="bicubic", antialias=True)
        mean, std = (small.new_tensor(values)[:, None, None] for values in (PATCHES_MEAN, PATCHES_STD))
        small = small * CLASSIFIER_STD + CLASSIFIER_MEAN
        x = self.patches.embeddings(((small - mean) / std).to(pixels.dtype))
        for layer in self.patches.encoder.layer:  # without the last norm, as from a feature layer
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x
        return torch.cat([x[:, 1:], scores, colour_votes(small, self.grid).to(scores.dtype)], dim=-1)


def resample(scores: Tensor, grid: Sequence[int], target: Sequence[int]) -> Tensor:
    """[N, h·w, K] on one grid → on another, by the area that cells share; the mean over positions stays the same."""
    rows, columns = (overlaps(grid[i], target[i]).to(scores) for i in range(2))
    maps = scores.unflatten(1, tuple(grid))
    return torch.einsum("yh,nhwk,xw->nyxk", rows, maps, columns).flatten(1, 2)


def overlaps(count: int, target: int) -> Tensor:
    """f32[target, count]: which share of each new cell lies in each old one; rows add up to 1."""
    new, old = torch.arange(target)[:, None] * count, torch.arange(count)[None] * target  # where cells begin
    shared = torch.minimum(new + count, old + target) - torch.maximum(new, old)
    return shared.clamp_min(0) / count


AutoConfig.register(PairedVisionConfig.model_type, PairedVisionConfig, exist_ok=True)
AutoModel.register(PairedVisionConfig, PairedVision, exist_ok=True)
