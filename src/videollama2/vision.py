"""The frame encoder: pixels → patch features from an intermediate block (spec §1.2).

CLIP, SigLIP and DINOv2 are transformers' own modules; here is only how far they run. Blocks after the chosen one, the
last norm and the pooling head keep their tensors, so that a checkpoint is complete, but are never computed.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import ConfigError

FRAMES_PER_PASS = 32  # bounds activation memory for long clips; larger passes were not faster


def num_patches(vision_config: Any) -> tuple[int, int]:
    """Rows and columns of patches in one frame; pixels that do not fill a patch are unused."""
    side = vision_config.image_size // vision_config.patch_size
    return side, side


def blocks_needed(num_layers: int, feature_layer: int) -> int:
    """How many blocks run to reach `hidden_states[feature_layer]`, which counts the embedding as 0.

    Raises:
        ConfigError: there is no such layer.
    """
    index = feature_layer if feature_layer >= 0 else num_layers + 1 + feature_layer
    if not 0 <= index <= num_layers:
        raise ConfigError(
            f"vision_feature_layer {feature_layer} does not exist in a tower of {num_layers} blocks; "
            f"expected {-num_layers - 1} … {num_layers}"
        )
    return index


def encode_frames(tower: nn.Module, pixels: Tensor, feature_layer: int, select: str = "patch") -> Tensor:
    """Features of each frame.

    Args:
        tower: a CLIP, SigLIP or DINOv2 vision model of transformers.
        pixels: float [N, 3, S, S], normalised.
        feature_layer: index into the hidden states.
        select: `patch` drops a class token, `cls_patch` keeps it.

    Returns:
        [N, patches, C] in the dtype of the tower.

    Raises:
        ConfigError: an unknown `select`, or a `cls_patch` where there is no class token.
    """
    has_class_token = hasattr(tower.embeddings, "class_embedding") or hasattr(tower.embeddings, "cls_token")
    if select not in ("patch", "cls_patch") or (select == "cls_patch" and not has_class_token):
        raise ConfigError(
            f"vision_feature_select {select!r} is not possible here; expected 'patch'"
            + (" or 'cls_patch'" if has_class_token else "")
        )
    blocks = _blocks(tower)[: blocks_needed(len(_blocks(tower)), feature_layer)]
    with torch.no_grad() if is_frozen(tower) else contextlib.nullcontext():
        features = torch.cat([_run(tower, blocks, part) for part in pixels.split(FRAMES_PER_PASS)])
    return features[:, 1:] if has_class_token and select == "patch" else features


def is_frozen(encoder: nn.Module) -> bool:
    """Whether nothing in it learns, so that no activations need be kept."""
    return not any(p.requires_grad for p in encoder.parameters())


def _blocks(tower: nn.Module) -> Sequence[nn.Module]:
    encoder: Any = tower.encoder
    return encoder.layers if hasattr(encoder, "layers") else encoder.layer  # DINOv2 says `layer`


def _run(tower: Any, blocks: Sequence[Any], pixels: Tensor) -> Tensor:
    x = tower.embeddings(pixels.to(next(tower.parameters()).dtype))
    if hasattr(tower, "pre_layrnorm"):  # CLIP's, with its spelling
        x = tower.pre_layrnorm(x)
    for block in blocks:
        x = block(x) if tower.config.model_type == "dinov2" else block(x, attention_mask=None)
        x = x[0] if isinstance(x, tuple) else x
    return x
