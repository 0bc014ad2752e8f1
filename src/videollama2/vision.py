"""The frame encoder: pixels → patch features from an intermediate block (spec §1.2).

The encoders are transformers' own modules and two of ours (paired_vision.py); this file says how each family runs, and
how far. Blocks after the chosen one, the last norm and the pooling head keep their tensors, so that a checkpoint stays
complete, but never run.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from .errors import ConfigError

FRAMES_PER_PASS = 32  # bounds activation memory for long clips; larger passes were not faster
# of a pass's widest activation in a transformer on a CPU: glibc then reuses the block (device.ANSWERING)
PASS_BYTES = 40 << 20
MLP_RATIO = 4  # width of a block's MLP, in widths of the encoder


@dataclass(frozen=True)
class VisionFamily:
    """How one family of transformers' vision encoders differs from the others.

    Attributes:
        image_processor: transformers' image processor class, whose defaults hold without a preprocessor_config.json.
        class_token: whether a class token precedes the patches.
        blocks: where the transformer blocks are in the model.
        pre_norm: name of a norm between embeddings and blocks; None: there is none.
        attention_mask: whether a block takes an `attention_mask`.
        exact_size: frames are resized to S × S; otherwise the shorter side is, and the centre is cropped.
        part_of: model_type of the text-and-image model that this encoder is published in; None: published alone.
    """

    image_processor: str
    class_token: bool
    blocks: str = "encoder.layers"
    pre_norm: str | None = None
    attention_mask: bool = True
    exact_size: bool = False
    part_of: str | None = None


# by model_type; to add an encoder, add a row here, and one in media/pixels.py if its image processor is new too
VISION_FAMILIES = {
    "clip_vision_model": VisionFamily(
        "CLIPImageProcessor",
        class_token=True,
        pre_norm="pre_layrnorm",
        part_of="clip",  # transformers' spelling
    ),
    "siglip_vision_model": VisionFamily("SiglipImageProcessor", class_token=False, exact_size=True, part_of="siglip"),
    "dinov2": VisionFamily("BitImageProcessor", class_token=True, blocks="encoder.layer", attention_mask=False),
    # ours (efficientnet_lite.py, paired_vision.py)
    "efficientnet_lite": VisionFamily("BitImageProcessor", class_token=False, blocks="blocks", attention_mask=False),
    "paired_vision": VisionFamily("BitImageProcessor", class_token=False, blocks="blocks", attention_mask=False),
}


def vision_family(model_type: str | None, where: str = "the vision encoder") -> VisionFamily:
    """The family of a vision encoder's model_type.

    Raises:
        ConfigError: not in VISION_FAMILIES.
    """
    if model_type not in VISION_FAMILIES:
        raise ConfigError(f"{where} is a {model_type!r}; expected one of {', '.join(VISION_FAMILIES)}.")
    return VISION_FAMILIES[model_type]


def num_patches(vision_config: Any, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Rows and columns of features in one frame of that size (default: the configuration's).

    Pixels that don't fill a patch are unused. A convolutional encoder's configuration has both as `grid`: its strides
    round up.
    """
    if getattr(vision_config, "grid", None):
        rows, columns = vision_config.grid
        return int(rows), int(columns)
    rows, columns = size or (vision_config.image_size, vision_config.image_size)
    return rows // vision_config.patch_size, columns // vision_config.patch_size


def blocks_needed(num_layers: int, feature_layer: int) -> int:
    """How many blocks run to reach `hidden_states[feature_layer]`, which counts the embedding as 0.

    Raises:
        ConfigError: no such layer.
    """
    index = feature_layer if feature_layer >= 0 else num_layers + 1 + feature_layer
    if not 0 <= index <= num_layers:
        raise ConfigError(
            f"vision_feature_layer {feature_layer} does not exist in an encoder of {num_layers} blocks; "
            f"expected {-num_layers - 1} … {num_layers}."
        )
    return index


def encode_frames(encoder: Any, pixels: Tensor, feature_layer: int, select: str = "patch") -> Tensor:
    """Features of each frame.

    Args:
        encoder: a vision model of transformers, of a family in VISION_FAMILIES.
        pixels: float [N, 3, S, S], normalised.
        feature_layer: index into the hidden states.
        select: `patch` drops a class token, `cls_patch` keeps it.

    Returns:
        [N, patches, C] in the dtype of the encoder.

    Raises:
        ConfigError: an unknown family or `select`, or `cls_patch` for an encoder without a class token.
    """
    family = _checked_family(encoder, select)
    blocks = attrgetter(family.blocks)(encoder)
    blocks = blocks[: blocks_needed(len(blocks), feature_layer)]
    with torch.no_grad() if is_frozen(encoder) else contextlib.nullcontext():
        passes = pixels.split(_frames_per_pass(encoder, pixels))
        features = torch.cat([_run(encoder, family, blocks, part) for part in passes])
    return features[:, 1:] if family.class_token and select == "patch" else features


def record_frames(
    encoder: Any, pixels: Tensor, feature_layer: int, select: str = "patch", **flags: bool
) -> tuple[Tensor, dict[str, Any]]:
    """Like `encode_frames`, with the intermediate outputs of the whole encoder.

    Args:
        flags: `output_hidden_states`, `output_attentions`.

    Returns:
        The features, and the requested ones of `hidden_states` and `attentions`, of all blocks.
    """
    features = encode_frames(encoder, pixels, feature_layer, select)
    with torch.no_grad() if is_frozen(encoder) else contextlib.nullcontext():
        out = encoder(pixels.to(next(encoder.parameters()).dtype), return_dict=True, **flags)
    names = {"output_hidden_states": "hidden_states", "output_attentions": "attentions"}
    return features, {names[flag]: out[names[flag]] for flag, wanted in flags.items() if wanted}


def _checked_family(encoder: Any, select: str) -> VisionFamily:
    family = vision_family(encoder.config.model_type)
    if select not in ("patch", "cls_patch") or (select == "cls_patch" and not family.class_token):
        raise ConfigError(
            f"vision_feature_select is {select!r}; this encoder expects 'patch'"
            + (" or 'cls_patch'" if family.class_token else "")
        )
    return family


def is_frozen(encoder: nn.Module) -> bool:
    """Whether no parameter learns, so that no activations need be kept."""
    return not any(p.requires_grad for p in encoder.parameters())


def _execution_device(encoder: Any, pixels: Tensor) -> Any:
    """Where Accelerate's hook would send the pixels, as the encoder itself is not called; else, where they are."""
    return getattr(getattr(encoder, "_hf_hook", None), "execution_device", None) or pixels.device


def _frames_per_pass(encoder: Any, pixels: Tensor) -> int:
    if torch.device(_execution_device(encoder, pixels)).type != "cpu" or getattr(encoder.config, "grid", None):
        return FRAMES_PER_PASS
    rows, columns = num_patches(encoder.config, (pixels.shape[-2], pixels.shape[-1]))
    widest = rows * columns * MLP_RATIO * encoder.config.hidden_size * next(encoder.parameters()).itemsize
    return max(1, min(FRAMES_PER_PASS, PASS_BYTES // max(widest, 1)))


def _run(encoder: Any, family: VisionFamily, blocks: Sequence[Any], pixels: Tensor) -> Tensor:
    x = encoder.embeddings(pixels.to(_execution_device(encoder, pixels), next(encoder.parameters()).dtype))
    if family.pre_norm is not None:
        x = getattr(encoder, family.pre_norm)(x)
    for block in blocks:
        x = block(x, attention_mask=None) if family.attention_mask else block(x)
        x = x[0] if isinstance(x, tuple) else x
    return x
