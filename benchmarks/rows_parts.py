"""Rows of inference.py: connector, BEATs and vision encoder at released sizes."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import plain
import public
from measure import Case
from videollama2.device import TRAINING, cpu_rates, keep_freed_blocks
from videollama2.linear import Linear, use_onednn

SHAPE_7B = (1152, 3584, 27)  # SigLIP-384 and Qwen2-7B
Builder = Callable[[], Case]
CLIP_L = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip


def rows(public_code: Path | None = None) -> dict[str, Builder]:
    """Rows by name; with `public_code`, connectors have a variant of the public implementation."""
    found: dict[str, Builder] = {}
    for kind in ("stc_connector", "stc_connector_v35"):
        for frames in (8, 16):
            for backward in (True, False):
                name = f"connector.{kind}.T{frames}.{'fwd_bwd' if backward else 'fwd'}"
                found[name] = partial(_connector, kind, frames, backward, public_code)
    of_7b = {"public_code": public_code, "shape": SHAPE_7B}
    found["connector_7b.stc_connector_v35.T16.fwd"] = partial(_connector, "stc_connector_v35", 16, False, **of_7b)
    found["connector_7b.stc_connector_v35.T8.fwd_bwd"] = partial(_connector, "stc_connector_v35", 8, True, **of_7b)
    found["beats_base.10s_998frames"] = partial(_beats, 998, 1.4)
    found["beats_base.30s_2998frames"] = partial(_beats, 2998, 2.8)
    found["vision_tower.clip_l_336.8frames"] = partial(_vision, 8)
    if cpu_rates().bfloat16 > cpu_rates().float32:  # against plain in float32
        other = {"dtype": torch.bfloat16}
        found["connector.stc_connector_v35.T8.fwd.bf16"] = partial(_connector, "stc_connector_v35", 8, False, **other)
        found["connector.stc_connector_v35.T8.fwd_bwd.bf16"] = partial(
            _connector, "stc_connector_v35", 8, True, **other
        )
        other_7b = {"shape": SHAPE_7B, **other}
        found["connector_7b.stc_connector_v35.T16.fwd.bf16"] = partial(
            _connector, "stc_connector_v35", 16, False, **other_7b
        )
        found["connector_7b.stc_connector_v35.T8.fwd_bwd.bf16"] = partial(
            _connector, "stc_connector_v35", 8, True, **other_7b
        )
        found["beats_base.10s_998frames.bf16"] = partial(_beats, 998, None, **other)
        found["beats_base.30s_2998frames.bf16"] = partial(_beats, 2998, 3.3, **other)
    return found


@torch.no_grad()
def seeded(module: Any) -> Any:
    """Fill the module with random weights that bfloat16 represents exactly, as in a checkpoint.

    Matrices repeat one block of normal numbers of prime length, because drawing a billion takes longer than the rows.
    """
    block = torch.randn(1_000_003, generator=torch.Generator().manual_seed(3)).mul_(0.02).to(torch.bfloat16)
    for parameter in module.parameters():
        block = block.to(parameter.device)
        if parameter.dim() > 1:
            for piece in parameter.view(-1).split(len(block)):
                piece.copy_(block[: len(piece)])
        else:
            parameter.copy_(parameter.to(torch.bfloat16))
    return module.eval()


def random_model(config: Any, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A model with random weights, created on its device, without drawing each weight."""
    from videollama2.modeling import VideoLlama2ForConditionalGeneration

    with torch.device("meta"):
        model: Any = VideoLlama2ForConditionalGeneration(config)
    model = model.to(dtype).to_empty(device=device)
    for module in model.modules():
        if "inv_freq" in module._buffers:
            with torch.device(device):
                fresh = type(module)(config.text_config)
            for name, buffer in fresh.named_buffers():
                module._buffers[name] = buffer
        if "position_ids" in module._buffers:
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=device)[None]
        if isinstance(module, torch.nn.LayerNorm) or type(module).__name__.endswith("RMSNorm"):
            torch.nn.init.ones_(module.weight)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and not name.endswith("weight"):
            torch.nn.init.zeros_(parameter)
    if config.text_config.tie_word_embeddings:
        model.lm_head.weight = model.get_input_embeddings().weight
    return seeded(model).requires_grad_(False)


def stage_flop(positions: int, width_in: int, width: int) -> float:
    """Multiplications and additions of a four-block RegStage at `positions` positions."""
    first = width_in * width * 2 + width * width + 9 * width if width_in != width else 2 * width * width + 9 * width
    return 2.0 * positions * (first + 3 * (2 * width * width + 9 * width))


def connector_flop(frames: int, rows_: int, width_in: int, width: int, padding: int) -> tuple[float, int]:
    """Work of STC, and the number of its tokens."""
    T, H = (frames + 2 * padding) // 2, (rows_ + 2 * padding) // 2
    tokens = T * H * H
    mixing = stage_flop(frames * rows_ * rows_, width_in, width) + stage_flop(tokens, width, width)
    return mixing + 2.0 * tokens * (8 * width * width + 2 * width * width), tokens


def vision_flop(config: Any, images: int, blocks: int) -> float:
    """Work of `blocks` blocks of a vision encoder."""
    tokens = (config.image_size // config.patch_size) ** 2 + (config.model_type == "clip_vision_model")
    D, M = config.hidden_size, config.intermediate_size
    return images * blocks * (2.0 * tokens * (4 * D * D + 2 * D * M) + 4.0 * tokens * tokens * D)


def _connector(
    kind: str,
    frames: int,
    backward: bool,
    public_code: Path | None = None,
    shape: tuple[int, int, int] = (1024, 1024, 24),
    dtype: torch.dtype = torch.float32,
) -> Case:
    """`shape`: widths and patches per side. In bfloat16 ours runs under autocast if `backward`; plain stays float32."""
    from videollama2.stc import build_connector

    torch.manual_seed(1)
    width_in, width, side = shape
    ours: Any = build_connector(kind, width_in, width)
    padding = ours.settings.padding
    theirs = plain.Connector(width_in, width, padding)
    theirs.load_state_dict(ours.state_dict())
    features = torch.randn(1, frames, side * side, width_in)
    flop, _ = connector_flop(frames, side, width_in, width, padding)

    def forward(module: Any) -> Tensor:
        with torch.inference_mode():
            out: Tensor = module(features.to(next(module.parameters()).dtype))
            return out

    def train(module: Any) -> list[Tensor]:
        module.train().zero_grad(set_to_none=True)
        if module is ours:
            keep_freed_blocks(TRAINING)  # as `train` does
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32 and module is ours):
            out = module(features)
        out.float().square().mean().backward()
        return [module.s1.b1.conv1.conv.weight.grad, module.readout[2].weight.grad]

    run = train if backward else forward
    exact = dtype is torch.float32
    if not backward and not exact:
        ours.to(dtype)
    variants = {"ours": partial(run, ours), "plain": partial(run, theirs)}
    if public_code is not None:
        variants["public"] = partial(run, public.connector(public_code, kind, ours.state_dict(), shape))
    goals = {(True, True): 1.25, (True, False): 1.2, (False, True): 1.8, (False, False): 2.5}
    note = f"{width_in} → {width}, {side}×{side} patches, batch 1" + (
        "; gradients to the parameters" if backward else ""
    )
    return Case(
        variants,
        flop=flop * (3 if backward else 1),
        goal=goals[exact, backward],
        tolerance=1e-3 if exact else 5e-2,
        slow=shape == SHAPE_7B,
        dtype=dtype,
        note=note if exact else f"{note}; ours in bfloat16, plain in float32",
    )


def _beats(frames: int, goal: float | None, dtype: torch.dtype = torch.float32) -> Case:
    from videollama2.beats import BeatsConfig, BeatsModel

    torch.manual_seed(2)
    model = seeded(BeatsModel(BeatsConfig()))
    sound = torch.randn(1, frames, 128) * 6 + 12
    time, rows_ = frames // model.config.input_patch_size, model.config.rows
    N, D, layers = time * rows_, 768, 12
    flop = layers * (2.0 * N * 12 * D * D + 4.0 * N * N * D) + 2.0 * N * D * (D // 16) * 128
    mine = model if dtype is torch.float32 else copy.deepcopy(model).to(dtype)

    def ours() -> Tensor:
        with torch.inference_mode():
            out: Tensor = mine(sound).last_hidden_state
            return out

    variants = {"ours": ours, "plain": partial(plain.beats, as_torch(model), sound)}
    tolerance = 1e-3 if dtype is torch.float32 else 5e-2
    return Case(variants, flop=flop, goal=goal, dtype=dtype, tolerance=tolerance)


def _vision(frames: int) -> Case:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from videollama2.vision import encode_frames

    torch.manual_seed(3)
    config = CLIPVisionConfig(**{k: v for k, v in CLIP_L.items() if k != "model_type"})
    config._attn_implementation = "sdpa"
    encoder = seeded(CLIPVisionModel(config))
    theirs = with_attention(encoder, "eager")
    use_onednn(encoder)  # as `load` does
    pixels = torch.randn(frames, 3, 336, 336)

    def ours() -> Tensor:
        with torch.inference_mode():
            return encode_frames(encoder, pixels, -2)

    return Case(
        {"ours": ours, "plain": partial(plain.vision, theirs, pixels)},
        flop=vision_flop(config, frames, 23),
        slow=True,
    )


def with_attention(module: Any, implementation: str) -> Any:
    """A second module with the same tensors and another attention implementation."""
    config = copy.deepcopy(module.config)
    config._attn_implementation = implementation
    with torch.device("meta"):
        twin = type(module)(config)
    twin.load_state_dict(module.state_dict(), assign=True)
    for name, buffer in module.named_buffers():
        parent, _, leaf = name.rpartition(".")
        setattr(twin.get_submodule(parent), leaf, buffer)
    return twin.eval().requires_grad_(False)


def as_torch(module: Any) -> Any:
    """A second module with the same tensors, whose linear layers are torch's own."""
    twin = copy.deepcopy(module, {id(t): t for t in [*module.parameters(), *module.buffers()]})
    for layer in twin.modules():
        if type(layer) is Linear:
            layer.__class__ = torch.nn.Linear
    return twin
