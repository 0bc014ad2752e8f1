"""BEATs: the audio encoder (paper §2.3, spec §1.5).

    fbank [B, frames, 128] ── patches of 16×16 ──► [B, T·8, 512]      time-major: patch t·8 + f
                           ── project, add position ──► [B, T·8, D]
                           ── L post-norm layers ──► features [B, T·8, D]

Unusual parts: DeepNorm residuals (α·x + f(x)); a convolutional position embedding with its own weight norm; and one
table of relative-position biases, shared by all layers, that each layer gates per query and head.

The bias depends only on key − query, so it is stored as one row of 2N − 1 numbers per head and read through a strided
view; scores are computed for a slice of queries at a time, so memory grows with N, not N².
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from transformers import initialization
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from .audio import AudioEncoder, register_audio_encoder
from .beats_config import BeatsConfig as BeatsConfig
from .errors import EmptyMedia
from .linear import MANY_ROWS, Linear, applies, linear, onednn_leads

FBANK_MEAN = 15.41663
FBANK_STD = 6.55582
WEIGHT_NORM_EPS = 1e-6  # not in the usual weight norm; the original adds it under the root
LONG = 1000  # positions from which attention head by head is faster on every CPU
QUERY_SLICE = 1536  # queries whose biases exist at once: covers 30 s; longer audio needs no N × N matrix
HEAD_SCORES = 1 << 21  # scores that exist at once where each head is computed by itself: they fit a CPU's cache
SCORE_SCALE = 32.0  # the original divides queries by this and multiplies scores back, against fp16 overflow


@dataclass
class BeatsOutput(ModelOutput):
    """BEATs' output.

    Attributes:
        last_hidden_state: the features [B, patches, D]; patches are time-major, `config.rows` per time step.
        padding: bool [B, patches], True where a patch is padding; None: no padding.
        hidden_states: the first layer's input and every layer's output, if requested.
        attentions: every layer's weights [B, heads, patches, patches], if requested; eager attention only.
    """

    last_hidden_state: Tensor | None = None
    padding: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@register_audio_encoder
class BeatsModel(AudioEncoder):
    """BEATs with its (optional) sound-event predictor, so that every tensor of the original checkpoint has a place."""

    config_class = BeatsConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("BeatsLayer",)

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__(config)
        patch = config.input_patch_size
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, patch, patch, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        same = config.embed_dim == config.encoder_embed_dim
        self.post_extract_proj = None if same else Linear(config.embed_dim, config.encoder_embed_dim)
        self.encoder = BeatsEncoder(config)
        self.predictor = Linear(config.encoder_embed_dim, config.predictor_class) if config.finetuned_model else None
        self.post_init()

    @property
    def _can_record_outputs(self) -> dict[str, Any]:
        return {"hidden_states": BeatsLayer, "attentions": BeatsAttention}

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True  # read from the configuration at every call; transformers looks for its own interface

    def get_correct_attn_implementation(self, requested: str | None, *args: Any, **kwargs: Any) -> str:
        """Eager or sdpa; any other implementation can't take a bias and becomes sdpa."""
        requested = requested if requested in (None, "eager") else "sdpa"
        found: str = super().get_correct_attn_implementation(requested, *args, **kwargs)
        return found

    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(self, input_features: Tensor, padding_mask: Tensor | None = None, **kwargs: Any) -> BeatsOutput:
        """Encode log-mel filterbanks.

        Args:
            input_features: float [B, frames, 128], as `media.fbank.fbank` makes them.
            padding_mask: bool [B, frames], True where a frame is padding.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Raises:
            EmptyMedia: fewer frames than one patch.
        """
        patch = self.config.input_patch_size
        frames = input_features.shape[1]
        if frames < patch:
            raise EmptyMedia(
                f"the audio has {frames} filterbank frames; BEATs expects at least {patch} "
                f"({(25 + 10 * (patch - 1)) / 1000:.3f} s)."
            )
        dtype = self.patch_embedding.weight.dtype
        x = (input_features.to(dtype) - FBANK_MEAN) / (2 * FBANK_STD)
        x = self.patch_embedding(x[:, None]).flatten(2).transpose(1, 2)
        x = self.layer_norm(x)
        padding = None if padding_mask is None else _mask_of_patches(padding_mask, x.shape[1])
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)
        x = F.dropout(x, self.config.dropout_input, self.training)
        return BeatsOutput(self.encoder(x, padding), padding)

    def encode(self, input_features: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Features of each audio clip: [B, frames, 128] → B tensors [n, D]; a trailing partial patch is dropped."""
        return self._encode(input_features, mask)[0]

    def record(
        self, input_features: Tensor, mask: Tensor | None = None, **flags: bool
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """See `AudioEncoder.record`."""
        features, out = self._encode(input_features, mask, **flags)
        return features, {name: out[name] for name in ("hidden_states", "attentions") if name in out}

    def _encode(self, input_features: Tensor, mask: Tensor | None, **flags: bool) -> tuple[list[Tensor], BeatsOutput]:
        patch, rows = self.config.input_patch_size, self.config.rows
        steps = [input_features.shape[1] // patch] * len(input_features)
        padding = None
        if mask is not None and not bool(mask.all()):
            whole = mask.sum(1) // patch * patch
            steps = (whole // patch).tolist()
            longest = max(steps) * patch  # later frames belong to no clip's whole patches
            input_features = input_features[:, :longest]
            padding = torch.arange(longest, device=whole.device) >= whole[:, None]
        out = self(input_features, padding, return_dict=True, **flags)
        return [x[: n * rows] for x, n in zip(out.last_hidden_state, steps, strict=True)], out

    def class_probabilities(self, input_features: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Probabilities of the sound events that a fine-tuned BEATs was trained on: float [B, classes]."""
        if self.predictor is None:
            raise ValueError("this BEATs has no predictor (finetuned_model is False)")
        out = self(input_features, padding_mask, return_dict=True)
        logits = self.predictor(F.dropout(out.last_hidden_state, self.config.predictor_dropout, self.training))
        if out.padding is None:
            return logits.mean(1).sigmoid()
        real = (~out.padding).to(logits.dtype)[..., None]
        return ((logits * real).sum(1) / real.sum(1).clamp(min=1)).sigmoid()

    def _init_weights(self, module: nn.Module) -> None:
        """BEATs' original initialisation is unknown; this one trains well (docs/log.md)."""
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv1d) and not parametrize.is_parametrized(module):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, BeatsAttention):
            nn.init.ones_(module.grep_a)
        elif isinstance(module, PositionalConv):
            module.reset_parameters()


def _mask_of_patches(padding_mask: Tensor, patches: int) -> Tensor:
    """A patch is padding if all frames assigned to it are: bool [B, frames] → [B, patches].

    The original distributes the frames evenly over the time-major patches, so the frequency patches of one time step
    are two frames apart; the checkpoints were trained this way.
    """
    share = padding_mask.shape[1] // patches
    return padding_mask[:, : share * patches].unflatten(1, (patches, share)).all(-1)


class BeatsEncoder(nn.Module):
    """Position embedding and norm, then layers that share one table of relative positions."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        self.pos_conv = nn.Sequential(PositionalConv(config), nn.GELU())
        self.layer_norm = nn.LayerNorm(config.encoder_embed_dim)
        self.relative_attention_bias = nn.Embedding(config.num_buckets, config.encoder_attention_heads)
        self.layers = nn.ModuleList(BeatsLayer(config) for _ in range(config.encoder_layers))

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, N, D] → [B, N, D]; positions where `padding` (bool [B, N]) is True are not attended to."""
        if padding is not None:
            x = x.masked_fill(padding[..., None], 0)
        x = x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2)
        x = F.dropout(self.layer_norm(x), self.config.dropout, self.training)
        bias = self.relative_bias(x.shape[1], x.device)
        for layer in self.layers:
            # the original scales gradients in evaluation mode too; only layer dropping is limited to training
            if torch.is_grad_enabled():
                x = _ScaleGradient.apply(x, self.config.layer_wise_gradient_decay_ratio)
            if self.training and torch.rand(()) < self.config.encoder_layerdrop:
                continue
            x = layer(x, bias, padding)
        return x

    def relative_bias(self, length: int, device: torch.device) -> Tensor:
        """The bias for every distance key − query = −(length − 1) … length − 1: [heads, 2·length − 1]."""
        distance = torch.arange(1 - length, length, device=device)
        buckets = relative_buckets(distance, self.config.num_buckets, self.config.max_distance)
        table: Tensor = self.relative_attention_bias(buckets)
        return table.T.contiguous()


def relative_buckets(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of each distance key − query: half for each sign, exact up to half of that, then logarithmic."""
    half = num_buckets // 2
    exact = half // 2
    size = distance.abs()
    # the original computes the logarithm in float32, which decides which bucket a distance at an edge falls into
    far = torch.log(size.float().clamp(min=1) / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + far.to(torch.long)).clamp(max=half - 1)
    return torch.where(size < exact, size, far) + (distance > 0) * half


class BeatsLayer(GradientCheckpointingLayer):
    """x ← LN(α·x + Attention(x)); x ← LN(α·x + FFN(x)), with DeepNorm's α = (2 L)^¼."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        D = config.encoder_embed_dim
        self.alpha = (2 * config.encoder_layers) ** 0.25
        self.dropout, self.activation_dropout = config.dropout, config.activation_dropout
        self.self_attn = BeatsAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(D)
        self.fc1 = Linear(D, config.encoder_ffn_embed_dim)
        self.fc2 = Linear(config.encoder_ffn_embed_dim, D)
        self.final_layer_norm = nn.LayerNorm(D)

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None) -> Tensor:
        attended = F.dropout(self.self_attn(x, bias, padding)[0], self.dropout, self.training)
        x = self.self_attn_layer_norm(torch.add(attended, x, alpha=self.alpha))
        hidden = F.gelu(self.fc1(x).float()).type_as(x)  # in float32 in the original, whatever the model's dtype
        hidden = F.dropout(hidden, self.activation_dropout, self.training)
        hidden = F.dropout(self.fc2(hidden), self.dropout, self.training)
        return self.final_layer_norm(torch.add(hidden, x, alpha=self.alpha))


class BeatsAttention(nn.Module):
    """Bidirectional attention with a relative bias, gated per query.

    score(i, j) = q_i · k_j / √d + gate(q_i) · table[bucket(j − i)]
    """

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        D, H = config.encoder_embed_dim, config.encoder_attention_heads
        self.config, self.heads = config, H
        self.dropout = config.attention_dropout
        self.q_proj, self.k_proj = Linear(D, D), Linear(D, D)
        self.v_proj, self.out_proj = Linear(D, D), Linear(D, D)
        self.grep_linear = Linear(D // H, 8)
        self.grep_a = nn.Parameter(torch.ones(1, H, 1, 1))

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x [B, N, D], bias [heads, 2N − 1] by distance, padding bool [B, N] or None → [B, N, D], and the weights.

        The weights are [B, heads, N, N] with eager attention, otherwise None.
        """
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in projections)
        # Query i needs bias[:, N-1-i : 2N-1-i]. In reverse query order, consecutive windows are one element apart, so a
        # strided view covers them all and no N × N matrix is written.
        q = q.flip(2)
        gate = self.gate(q)
        N = x.shape[1]
        windows = bias.unfold(1, N, 1)
        if self._pays_by_heads(q, bias):
            return self.out_proj(_by_heads(q, k, v, gate, windows, padding).flip(2).transpose(1, 2).flatten(2)), None
        out, weights = [], []
        for start in range(0, N, QUERY_SLICE):
            rows = slice(start, start + QUERY_SLICE)
            mask = gate[:, :, rows] * windows[:, rows]
            if padding is not None:
                mask = mask.masked_fill(padding[:, None, None, :], float("-inf"))
            attended, seen = self._attend(q[:, :, rows], k, v, mask)
            out.append(attended)
            weights += [] if seen is None else [seen]
        joined = torch.cat(out, 2).flip(2).transpose(1, 2).flatten(2)
        return self.out_proj(joined), torch.cat(weights, 2).flip(2) if weights else None

    def _pays_by_heads(self, q: Tensor, bias: Tensor) -> bool:
        exact = self.config._attn_implementation != "eager" and not torch.is_grad_enabled() and applies(q, bias)
        return exact and (q.shape[2] >= LONG or onednn_leads(MANY_ROWS))

    def gate(self, q: Tensor) -> Tensor:
        """How strongly each query weights position: [B, heads, N, d] → [B, heads, N, 1]."""
        a, b = self.grep_linear(q).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        return a * (b * self.grep_a - 1.0) + 2.0

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        if self.config._attn_implementation != "eager":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype), dropout_p=dropout), None
        # softmax ignores a constant per row, so subtracting the row's maximum before scaling back changes no result
        scores = (q * (q.shape[-1] ** -0.5 / SCORE_SCALE)) @ k.transpose(-1, -2)
        scores = (scores - scores.amax(-1, keepdim=True)) * SCORE_SCALE
        weights = F.dropout((scores + mask).softmax(-1), dropout, self.training)
        return weights @ v, weights


def _by_heads(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, windows: Tensor, padding: Tensor | None) -> Tensor:
    """Attention head by head: on a CPU, plain products and a cache that holds the scores take less time than one call.

    q, k, v [B, heads, N, d], gate [B, heads, N, 1], windows [heads, N, N], padding bool [B, N] → [B, heads, N, d].
    """
    N, out = q.shape[2], torch.zeros_like(q, memory_format=torch.contiguous_format)
    lengths = [N] * len(q) if padding is None else (~padding).sum(1).tolist()  # 0: attends to nothing, and stays zero
    q = q * q.shape[-1] ** -0.5
    for b, head in itertools.product((b for b, length in enumerate(lengths) if length), range(q.shape[1])):
        keys, values = k[b, head].contiguous(), v[b, head].contiguous().t()
        step = max(1, HEAD_SCORES // N)
        for rows in (slice(start, start + step) for start in range(0, N, step)):
            scores = linear(q[b, head, rows], keys).addcmul_(gate[b, head, rows], windows[head, rows])
            if padding is not None:
                scores.masked_fill_(padding[b], float("-inf"))
            out[b, head, rows] = linear(scores.softmax(-1), values)
    return out


class _WeightNorm(nn.Module):
    """W = g · v / √(Σ v² + 1e-6), the sum over all but the last axis, in float32 (spec §1.5)."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        wide = v.float()
        scale = torch.rsqrt(wide.square().sum((0, 1), keepdim=True) + WEIGHT_NORM_EPS)
        return g * (wide * scale).to(v.dtype)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        if weight.is_meta:  # torch would import sympy to find the shape
            return torch.empty(1, 1, weight.shape[2], dtype=weight.dtype, device="meta"), weight
        return weight.float().square().sum((0, 1), keepdim=True).sqrt().to(weight.dtype), weight


class PositionalConv(nn.Conv1d):
    """Grouped convolution over time; the extra step that its even kernel adds is dropped. [B, D, N] → [B, D, N]."""

    def __init__(self, config: BeatsConfig) -> None:
        D, kernel = config.encoder_embed_dim, config.conv_pos
        super().__init__(D, D, kernel, padding=kernel // 2, groups=config.conv_pos_groups)
        parametrize.register_parametrization(self, "weight", _WeightNorm(), unsafe=True)

    def forward(self, x: Tensor) -> Tensor:
        exact = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if exact and x.device.type == "cpu" and not torch.is_grad_enabled():
            # oneDNN's convolution over channels last, which x has in memory, takes half the time of the one over time;
            # in bfloat16 it gives NaN (torch 2.13)
            x, weight = x[..., None], self.weight[..., None].contiguous(memory_format=torch.channels_last)
            out = F.conv2d(x, weight, self.bias, padding=(*self.padding, 0), groups=self.groups)[..., 0]
        else:
            out = super().forward(x)
        return out[:, :, :-1] if self.kernel_size[0] % 2 == 0 else out

    def reset_parameters(self) -> None:
        """Normal, with the standard deviation that preserves the input's scale."""
        std = (4.0 / (self.kernel_size[0] * self.in_channels)) ** 0.5
        if parametrize.is_parametrized(self):
            norm: Any = self.parametrizations
            g, v = norm.weight.original0, norm.weight.original1
            nn.init.normal_(v, std=std)
            initialization.copy_(g, v.float().square().sum((0, 1), keepdim=True).sqrt())  # unless it is loaded
        else:
            nn.init.normal_(self.weight, std=std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class _ScaleGradient(torch.autograd.Function):
    """The identity, with its gradient multiplied by `scale`: updates shrink towards the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.scale, None
