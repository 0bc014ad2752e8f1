"""EfficientNet-Lite: a small convolutional vision encoder with a classifier (Apache-2.0 upstream, reimplemented).

    pixels [N, 3, S, S] ── stem, stages of inverted residuals ──► [N, 352, h, w] ── head ──► features [N, h·w, 1280]
                                                                          scores [N, h·w, 1000] ◄── classifier ─┘

h = w = ⌈S / 32⌉. Inverted residuals without squeeze-and-excite, ReLU6 throughout; a convolution holds its batch norm.
The classifier is linear, so the mean of the class scores over positions is the class score of the mean feature: each
position says which classes it speaks for.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

# kernel, stride, expansion, width, depth of each stage of EfficientNet-Lite2
LITE2 = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 3), (5, 2, 6, 48, 3), (3, 2, 6, 88, 4), (5, 1, 6, 120, 4), (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
)  # fmt: skip


class EfficientNetLiteConfig(PreTrainedConfig):
    """Attributes:
    stem: width of the first convolution, which halves the image.
    stages: kernel, stride, expansion, width and depth of each.
    hidden_size: width of the features.
    num_classes: of the classifier.
    """

    model_type = "efficientnet_lite"
    attribute_map: ClassVar[dict[str, str]] = {}

    image_size: int = 260
    stem: int = 32
    stages: Any = LITE2
    hidden_size: int = 1280
    num_classes: int = 1000
    num_hidden_layers: int = len(LITE2) + 1  # the stages and the head

    def __post_init__(self, **kwargs: Any) -> None:
        self.num_hidden_layers = len(self.stages) + 1
        super().__post_init__(**kwargs)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of features: every stride rounds up."""
        side = -(-self.image_size // 2)
        for _, stride, *_ in self.stages:
            side = -(-side // stride)
        return side, side


class EfficientNetLite(PreTrainedModel):
    """`embeddings` and `blocks` map [N, C, h, w] → the same; the last block gives features [N, h·w, C]."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.embeddings = SameConv(3, config.stem, 3, stride=2)
        self.blocks = nn.ModuleList()
        width = config.stem
        for kernel, stride, expansion, out, depth in config.stages:
            layers = [
                InvertedResidual(width if i == 0 else out, out, kernel, stride if i == 0 else 1, expansion)
                for i in range(depth)
            ]
            self.blocks.append(nn.Sequential(*layers))
            width = out
        self.blocks.append(Head(width, config.hidden_size))
        self.classifier = nn.Linear(config.hidden_size, config.num_classes)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features [N, h·w, C] of pixels [N, 3, S, S]."""
        x: Tensor = self.embeddings(pixel_values.contiguous(memory_format=torch.channels_last))  # twice as fast
        for block in self.blocks:
            x = block(x)
        return x


class SameConv(nn.Conv2d):
    """A convolution padded so that the output is ⌈size / stride⌉ wide, the odd row and column last, then ReLU6."""

    def __init__(
        self, width_in: int, width_out: int, kernel: int, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> None:
        super().__init__(width_in, width_out, kernel, stride=stride, groups=groups)
        self.activate = activate

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in input.shape[-2:]]
        (top, left), (bottom, right) = [m // 2 for m in missing], [m - m // 2 for m in missing]
        if (top, left) == (bottom, right):  # in place of a padded copy
            x = F.conv2d(input, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        else:
            x = super().forward(F.pad(input, (left, right, top, bottom)))
        return F.relu6(x) if self.activate else x


class InvertedResidual(nn.Module):
    """1×1 to `expansion` times the width → k × k depthwise → 1×1, plus the input where the shape allows it."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = width_in * expansion
        self.expand = SameConv(width_in, width, 1) if expansion != 1 else nn.Identity()
        self.depthwise = SameConv(width, width, kernel, stride, groups=width)
        self.project = SameConv(width, width_out, 1, activate=False)
        self.shortcut = stride == 1 and width_in == width_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return out + x if self.shortcut else out


class Head(nn.Module):
    """The last 1×1 convolution: [N, C, h, w] → features [N, h·w, D]."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = SameConv(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(2).transpose(1, 2)


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLite, exist_ok=True)
