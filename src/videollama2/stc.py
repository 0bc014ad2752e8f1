"""The connector: fold a video's frame features into a short sequence of language-model tokens (paper §2.2, spec §1.4).

    frames [B, T, h·w, C] ── s1 ──► mix within each frame          RegStage, C → D
                          ── sampler ──► fold t × h × w             3D convolution (or pooling), SiLU
                          ── s2 ──► mix again                       RegStage, D → D
                          ── readout ──► tokens [B, T'·h'·w', D]    MLP

B clips, T frames, h × w patches, C vision width, D language width. 16 frames of SigLIP-384 (27 × 27 patches) become
8 × 13 × 13 = 1352 tokens. The variants of the paper's ablation differ only in `ConnectorSettings`.

Parameters have the original's shapes and names, so its tensors load unmodified; the arithmetic runs with
channels last, where a LayerNorm needs no transpose, a 1×1 convolution is a matrix product, and so is the sampler,
whose kernel equals its stride. Every layer with weights is called as a module, on channels-first views where it is a
convolution, so hooks, adapters and offloading see it.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .errors import ConfigError, MediaError
from .linear import Linear, PointConv, linear
from .recompute import norm_silu

NORM_EPS = 1e-5  # the original passes a LayerNorm with 1e-6, but its library replaces it with 1e-5 (spec §1.4.2)
SQUEEZE_RATIO = 0.25
PASS_BYTES = 5 << 20  # of frames that pass through a RegStage together on a CPU: a few times this fits its cache


@dataclass(frozen=True)
class ConnectorSettings:
    """What distinguishes one connector from another.

    Attributes:
        learned: the sampler is a convolution; otherwise it averages.
        downsample: how many frames, rows and columns become one.
        padding: zeros added on every side of all three axes before sampling.
        depth: bottleneck blocks in each RegStage; 0 means no RegStage.
    """

    learned: bool
    downsample: tuple[int, int, int] = (2, 2, 2)
    padding: int = 0
    depth: int = 4

    def grid(self, frames: int, rows: int, columns: int) -> tuple[int, int, int]:
        """Frames, rows and columns after sampling.

        Raises:
            MediaError: too few frames or patches for one token.
        """
        sizes = (frames, rows, columns)
        folded = tuple((n + 2 * self.padding) // k for n, k in zip(sizes, self.downsample, strict=True))
        if min(folded) < 1:
            raise MediaError(
                f"{frames} frame(s) of {rows}×{columns} patches are too few for a connector that folds "
                f"{'×'.join(map(str, self.downsample))} into one; use at least {self.downsample[0]} frames."
            )
        return folded[0], folded[1], folded[2]

    def num_tokens(self, frames: int, rows: int, columns: int) -> int:
        """Tokens of a clip with that many frames, rows and columns of patches; raises like `grid`."""
        T, H, W = self.grid(frames, rows, columns)
        return T * H * W


@dataclass(frozen=True)
class MeanSettings:
    """A connector that averages over time and projects each patch.

    Attributes:
        projector: `linear` or `mlpNx_gelu`.
    """

    projector: str
    downsample: ClassVar[tuple[int, int, int]] = (1, 1, 1)  # one frame is enough, and every patch is a token

    def num_tokens(self, frames: int, rows: int, columns: int) -> int:
        """Tokens of a clip: one per patch, however many frames."""
        return rows * columns


class OtherSettings(Protocol):
    """A connector of another file, which adds itself to CONNECTORS (names.py)."""

    downsample: ClassVar[tuple[int, int, int]]

    def num_tokens(self, frames: int, rows: int, columns: int) -> int: ...

    def build(self, vision_width: int, language_width: int) -> nn.Module: ...


CONNECTORS: dict[str, ConnectorSettings | OtherSettings] = {
    "stc_connector": ConnectorSettings(learned=True, padding=1),  # VideoLLaMA 2
    "stc_connector_v35": ConnectorSettings(learned=True),  # VideoLLaMA 2.1
    "stp_connector": ConnectorSettings(learned=False),
    "spatial_conv": ConnectorSettings(learned=True, downsample=(1, 2, 2), padding=1, depth=0),
    "spatial_pool": ConnectorSettings(learned=False, downsample=(1, 2, 2), depth=0),
    # rows of the paper's Table 1 that were never released under a name; none pads, as its numbers of tokens tell
    "conv_1x2x2": ConnectorSettings(learned=True, downsample=(1, 2, 2), depth=0),
    "pool_8x1x1": ConnectorSettings(learned=False, downsample=(8, 1, 1), depth=0),
    "pool_2x2x2": ConnectorSettings(learned=False, depth=0),
    "conv_2x2x2": ConnectorSettings(learned=True, depth=0),
    "reg_pool_1x2x2": ConnectorSettings(learned=False, downsample=(1, 2, 2)),
    "reg_conv_1x2x2": ConnectorSettings(learned=True, downsample=(1, 2, 2)),
}
# the paper's Table 1, row by row (recipes/sweep trains all nine)
TABLE_1 = (
    "spatial_pool", "conv_1x2x2", "pool_8x1x1", "pool_2x2x2", "conv_2x2x2",
    "reg_pool_1x2x2", "reg_conv_1x2x2", "stp_connector", "stc_connector_v35",
)  # fmt: skip
_MLP = re.compile(r"^mlp(\d+)x_gelu$")


def connector_settings(connector_type: str) -> "ConnectorSettings | MeanSettings | OtherSettings":
    """The settings of the connector of that name; they count tokens without building it.

    Raises:
        ConfigError: an unknown name.
    """
    if connector_type in CONNECTORS:
        return CONNECTORS[connector_type]
    if connector_type == "linear" or _MLP.match(connector_type):
        return MeanSettings(connector_type)
    raise ConfigError(f"unknown connector {connector_type!r}; available: {', '.join(CONNECTORS)}, linear, mlpNx_gelu.")


def build_connector(connector_type: str, vision_width: int, language_width: int) -> nn.Module:
    """The connector of that name, freshly initialised.

    Raises:
        ConfigError: an unknown name, or widths that the connector can't join.
    """
    settings = connector_settings(connector_type)
    if isinstance(settings, MeanSettings):
        return MeanConnector(settings, vision_width, language_width)
    if isinstance(settings, ConnectorSettings):
        return STCConnector(settings, vision_width, language_width)
    return settings.build(vision_width, language_width)


def build_mlp(kind: str, width_in: int, width_out: int) -> nn.Module:
    """`linear`, or `mlpNx_gelu`: N linear layers with GELU between (spec §1.4, §1.6).

    Raises:
        ConfigError: any other name.
    """
    if kind == "linear":
        return Linear(width_in, width_out)
    match = _MLP.match(kind)
    if match is None or int(match[1]) < 1:
        raise ConfigError(f"unknown projector {kind!r}; available: linear, mlpNx_gelu (N ≥ 1).")
    layers: list[nn.Module] = [Linear(width_in, width_out)]
    for _ in range(int(match[1]) - 1):
        layers += [nn.GELU(), Linear(width_out, width_out)]
    return nn.Sequential(*layers)


class STCConnector(nn.Module):
    """Spatial-temporal convolution connector, and its ablation variants.

    1. `s1` mixes each frame's patches: [B·T, h, w, C] → [B·T, h, w, D]
    2. `sampler` folds blocks of t × h × w: → [B, T', h', w', D]
    3. `s2` mixes each folded frame again
    4. `readout` maps each position: → [B, T'·h'·w', D], in the order time, row, column
    """

    def __init__(self, settings: ConnectorSettings, vision_width: int, language_width: int) -> None:
        super().__init__()
        if settings.depth == 0 and vision_width != language_width:
            raise ConfigError(
                f"a connector without a RegStage can't map vision width {vision_width} to language width "
                f"{language_width}; use equal widths or another connector."
            )
        self.settings = settings
        self.s1 = _reg_stage(settings.depth, vision_width, language_width)
        D, kernel = language_width, settings.downsample
        fold = BlockConv(D, D, kernel, stride=kernel) if settings.learned else BlockMean(kernel)
        self.sampler = nn.Sequential(fold, nn.SiLU())
        self.s2 = _reg_stage(settings.depth, language_width, language_width)
        self.readout = nn.Sequential(
            Linear(language_width, language_width), nn.GELU(), Linear(language_width, language_width)
        )

    def forward(self, features: Tensor, still: int | None = None) -> Tensor:
        """Frame features → tokens [B, T'·h'·w', D].

        Args:
            features: [B, T, h·w, C] (a square grid) or [B, T, h, w, C].
            still: T is 1, and the frame counts as this many copies; the result equals that of the copies, computed
                once (spec §1.3). A folded frame depends on its own block of frames only, so of a still there are at
                most three kinds: zeros then frames, frames only, frames then zeros.
        """
        x_BTHWC = _as_grid(features)
        B, T, H, W, _ = x_BTHWC.shape
        p = self.settings.padding
        T_folded = self.settings.grid(T if still is None else still, H, W)[0]
        x_BTHWD = self.s1(x_BTHWC.flatten(0, 1)).unflatten(0, (B, T))
        if still is None:
            return self._read(self._fold(F.pad(x_BTHWD, (0, 0, p, p, p, p, p, p)) if p else x_BTHWD)).flatten(1, 2)

        t = self.settings.downsample[0]
        present = [p <= i < p + still for i in range(T_folded * t)]
        blocks = [tuple(present[i : i + t]) for i in range(0, len(present), t)]
        kinds = list(dict.fromkeys(blocks))
        pattern = torch.tensor([frame for kind in kinds for frame in kind], dtype=x_BTHWD.dtype, device=x_BTHWD.device)
        x_BTHWD = x_BTHWD * pattern[:, None, None, None]
        per_kind = self._read(self._fold(F.pad(x_BTHWD, (0, 0, p, p, p, p)) if p else x_BTHWD))
        return per_kind[:, [kinds.index(block) for block in blocks]].flatten(1, 2)

    def _fold(self, x_BTHWD: Tensor) -> Tensor:
        """Padded frames [B, T, H, W, D] → [B, T', h', w', D]."""
        folded: Tensor = self.sampler(x_BTHWD.movedim(-1, 1)).movedim(1, -1)
        return folded

    def _read(self, x_BTHWD: Tensor) -> Tensor:
        """[B, T', h', w', D] → [B, T', h'·w', D]."""
        B, T = x_BTHWD.shape[:2]
        mixed = self.s2(x_BTHWD.flatten(0, 1)).unflatten(0, (B, T))
        out: Tensor = self.readout(mixed.flatten(2, 3))
        return out


class MeanConnector(nn.Module):
    """Average over time, then a projector on each patch: [B, T, N, C] → [B, N, D] (spec §1.3)."""

    def __init__(self, settings: MeanSettings, vision_width: int, language_width: int) -> None:
        super().__init__()
        self.settings = settings
        projector = build_mlp(settings.projector, vision_width, language_width)
        # the projector's own parameters carry the original's names: `weight`, or `0.weight`, `2.weight`, …
        for name, child in projector.named_children():
            self.add_module(name, child)
        for name, parameter in projector.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    def forward(self, features: Tensor, still: int | None = None) -> Tensor:
        """Frame features [B, T, N, C] or [B, T, h, w, C] → tokens [B, N, D]; the mean of copies is the frame itself."""
        features = features.flatten(2, 3) if features.dim() == 5 else features
        return self._project(features.mean(1) if still is None else features[:, 0])

    def _project(self, x_BNC: Tensor) -> Tensor:
        if not self._modules:
            return linear(x_BNC, self.weight, self.bias)  # type: ignore[arg-type]
        for layer in self.children():
            x_BNC = layer(x_BNC)
        return x_BNC


class BlockConv(nn.Conv3d):
    """A 3D convolution whose stride equals its kernel, as one matrix product. [B, D, T, H, W] → [B, D, T', H', W']."""

    def forward(self, x_BDTHW: Tensor) -> Tensor:
        """Channels last in memory, as is the result."""
        blocks = _blocks(x_BDTHW, self.kernel_size)  # [B, T', t, H', h, W', w, D]
        rows = blocks.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6)  # copied in whole channels first: twice as fast
        columns = rows.transpose(-1, -2).flatten(4)  # the weight's order: channel, t, h, w
        return linear(columns, self.weight.flatten(1), self.bias).movedim(-1, 1)


class BlockMean(nn.Module):
    """Average pooling over non-overlapping blocks. [B, D, T, H, W] → [B, D, T', H', W']."""

    def __init__(self, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x_BDTHW: Tensor) -> Tensor:
        return _blocks(x_BDTHW, self.kernel).mean((2, 4, 6)).movedim(-1, 1)


def _blocks(x_BDTHW: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """[B, D, T, H, W] cut into [B, T', t, H', h, W', w, D]; a part of a block at the end is dropped.

    Channels come last before the cut, because the gradient of a cut is laid out in the order of its dimensions. With
    channels first, every operation of the RegStage before would read it across memory, four times slower.
    """
    t, h, w = kernel
    T, H, W = x_BDTHW.shape[2:]
    whole = x_BDTHW.movedim(1, -1)[:, : T // t * t, : H // h * h, : W // w * w]
    return whole.unflatten(3, (-1, w)).unflatten(2, (-1, h)).unflatten(1, (-1, t))


def _as_grid(features: Tensor) -> Tensor:
    """[B, T, h·w, C] → [B, T, h, w, C]; a grid passes through."""
    if features.dim() == 5:
        return features
    N = features.shape[2]
    side = round(N**0.5)
    if side * side != N:
        raise ConfigError(
            f"the connector needs a square grid of patches, got {N} per frame; "
            "a class token must be dropped (vision_feature_select='patch')."
        )
    return features.unflatten(2, (side, side))


def _reg_stage(depth: int, width_in: int, width_out: int) -> nn.Module:
    """`depth` bottleneck blocks, named b1 … as in RegNet; the first one changes the width."""
    stage = RegStage()
    for i in range(depth):
        stage.add_module(f"b{i + 1}", Bottleneck(width_in if i == 0 else width_out, width_out))
    return stage


class RegStage(nn.Sequential):
    """Blocks that mix each frame by itself. [N, H, W, C] → [N, H, W, D].

    On a CPU without gradients, a few frames at a time pass through all blocks and stay in its cache, unless hooks
    expect all of them.
    """

    def forward(self, x: Tensor) -> Tensor:
        frames = max(1, PASS_BYTES // max(x[:1].nbytes, 1))
        whole = x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling()
        if whole or len(x) <= frames or self._hooked():
            return self._blocks(x)
        return torch.cat([self._blocks(part) for part in x.split(frames)])

    def _blocks(self, x: Tensor) -> Tensor:
        for block in self:
            x = block(x)
        return x

    def _hooked(self) -> bool:
        return any(m._forward_hooks or m._forward_pre_hooks or hasattr(m, "_hf_hook") for m in self.modules())


class Bottleneck(GradientCheckpointingLayer):
    """RegNet's block with a bottleneck ratio of 1 and depthwise groups (spec §1.4.2). [N, H, W, C] → [N, H, W, D].

    1×1 → 3×3 depthwise → squeeze and excite → 1×1, plus a shortcut, then SiLU.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width_in, width_out)
        self.conv2 = ConvNorm(width_out, width_out, depthwise=True)
        self.se = SqueezeExcite(width_out, round(SQUEEZE_RATIO * width_in))
        self.conv3 = ConvNorm(width_out, width_out, activate=False)
        self.downsample = ConvNorm(width_in, width_out, activate=False) if width_in != width_out else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv3(self.se(self.conv2(self.conv1(x))))
        return F.silu(x + shortcut, inplace=not torch.is_grad_enabled())


class ConvNorm(nn.Module):
    """A convolution without bias (1×1, or 3×3 depthwise), LayerNorm over channels, and SiLU where `activate`."""

    def __init__(self, width_in: int, width_out: int, *, depthwise: bool = False, activate: bool = True) -> None:
        super().__init__()
        self.activate = activate
        self.conv = (
            nn.Conv2d(width_in, width_out, 3, padding=1, groups=width_in, bias=False)
            if depthwise
            else PointConv(width_in, width_out, 1, bias=False)
        )
        self.bn = nn.LayerNorm(width_out, eps=NORM_EPS)  # `bn` in the original's tensor names

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.movedim(-1, 1)).movedim(1, -1)
        return norm_silu(self.bn, x) if self.activate else self.bn(x)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the frame's mean. [N, H, W, D] → the same."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = PointConv(width, squeezed, 1)
        self.fc2 = PointConv(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.silu(self.fc1(x.mean((1, 2))[:, :, None, None]))
        return x * self.fc2(squeezed).sigmoid().movedim(1, -1)
