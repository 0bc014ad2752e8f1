"""Tensor names, the original's and ours (spec §2). Only this file knows both.

    original                                             ours
    model.vision_tower.vision_tower.vision_model.*       model.vision_encoder.*
    model.mm_projector.*                                 model.connector.*
    model.audio_tower.*                                  model.audio_encoder.*      (BEATs; see below)
    model.mm_projector_a.*                               model.audio_projector.*
    model.{embed_tokens, layers, norm}.*                 model.language_model.*
    lm_head.weight                                       lm_head.weight

BEATs shares one relative_attention_bias among its layers; a checkpoint holds 1 … L copies of it, ours holds one. Its
weight-normed convolution is spelled `weight_g, weight_v` or `parametrizations.weight.original0, original1`.
"""

import re
from collections.abc import Iterable

import torch

from ...errors import TensorMismatch

_WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
_SHARED_BIAS = re.compile(r"encoder\.layers\.(\d+)\.self_attn\.relative_attention_bias\.weight$")
_OUR_SHARED_BIAS = "encoder.relative_attention_bias.weight"

# (original pattern, ours); applied in this order, each to the whole name
_RENAMINGS = (
    (r"^model\.vision_tower\.(?:vision_tower\.)?(?:vision_model\.)?", r"model.vision_encoder."),
    (r"^model\.mm_projector\.", r"model.connector."),
    (r"^model\.mm_projector_a\.", r"model.audio_projector."),
    (r"^model\.audio_tower\.", r"model.audio_encoder."),
    (r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1."),
    (r"^(model\.audio_encoder\.encoder\.pos_conv\.0)\.weight_g$", r"\1.parametrizations.weight.original0"),
    (r"^(model\.audio_encoder\.encoder\.pos_conv\.0)\.weight_v$", r"\1.parametrizations.weight.original1"),
)
# Buffers that older libraries saved; recomputed, never loaded.
DERIVED_BUFFERS = re.compile(r"(embeddings\.position_ids|rotary_emb\.inv_freq)$")


def is_original(names: Iterable[str]) -> bool:
    """Whether a checkpoint's tensors carry the original's names."""
    return any(re.match(r"^model\.(embed_tokens|layers|norm|vision_tower|mm_projector|audio_tower)", n) for n in names)


def our_name(name: str) -> str:
    """Our name for an original tensor; names that are already ours pass through."""
    for pattern, target in _RENAMINGS:
        name = re.sub(pattern, target, name)
    return _SHARED_BIAS.sub(_OUR_SHARED_BIAS, name)


def original_name(name: str) -> str:
    """The original's name for one of our tensors (the shared bias is named for layer 0)."""
    name = name.replace(_OUR_SHARED_BIAS, "encoder.layers.0.self_attn.relative_attention_bias.weight")
    for theirs, ours in _WEIGHT_NORM.items():
        name = name.replace(f"pos_conv.0.{ours}", f"pos_conv.0.{theirs}")
    for ours, theirs in (
        ("model.vision_encoder.", "model.vision_tower.vision_tower.vision_model."),
        ("model.connector.", "model.mm_projector."),
        ("model.audio_projector.", "model.mm_projector_a."),
        ("model.audio_encoder.", "model.audio_tower."),
        ("model.language_model.", "model."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def key_mapping(names: Iterable[str]) -> dict[str, str]:
    """Renamings, as transformers' `key_mapping`, for a checkpoint with these tensor names; empty for our own layout."""
    names = list(names)
    if not is_original(names):
        return {}
    mapping = {}
    copies = shared_bias_copies(names)
    if copies:
        first = re.escape(copies[0])
        mapping[f"^{first}$"] = our_name(copies[0])
    return mapping | dict(_RENAMINGS)


def shared_bias_copies(names: Iterable[str]) -> list[str]:
    """The tensors among `names` that are copies of BEATs' shared bias, by layer."""
    found = [(int(match[1]), name) for name in names if (match := _SHARED_BIAS.search(name))]
    return [name for _, name in sorted(found)]


def beats_state_dict(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A BEATs state dict of the original (names below `audio_tower.`) under our names.

    Raises:
        TensorMismatch: copies of the shared bias differ.
    """
    prefix = "model.audio_encoder."
    ours: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        target = our_name(prefix + name).removeprefix(prefix)
        if target in ours and not torch.equal(ours[target], tensor):
            raise TensorMismatch(f"copies of BEATs' shared relative_attention_bias differ (seen at {name}).")
        ours.setdefault(target, tensor)
    return ours
