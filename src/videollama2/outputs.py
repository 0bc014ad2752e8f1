"""What the model returns: transformers' outputs, plus those of the media encoders.

transformers 5.24 renamed the cache of an output and of `forward` from `past_key_values` to `cache`; callers may use
either name with any version.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast

from .errors import UsageError

CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
MODALITY_OUTPUTS = ("image_outputs", "video_outputs", "audio_outputs")


class _Multimodal:
    """As a tuple, the media encoders' outputs are tuples, too."""

    def to_tuple(self: Any) -> tuple[Any, ...]:
        return tuple(self[key].to_tuple() if key in MODALITY_OUTPUTS else self[key] for key in self)


@dataclass
class VideoLlama2ModelOutput(_Multimodal, BaseModelOutputWithPast):
    """Hidden states of a prompt.

    Attributes:
        router_logits: of a mixture of experts, per layer [B·L, experts], if `output_router_logits` requests them.
        image_outputs, video_outputs, audio_outputs: what `get_image_features` and its siblings returned; None without
            media of that kind.
    """

    router_logits: Any = None
    image_outputs: BaseModelOutputWithPooling | None = None
    video_outputs: BaseModelOutputWithPooling | None = None
    audio_outputs: BaseModelOutputWithPooling | None = None


@dataclass
class VideoLlama2CausalLMOutput(_Multimodal, CausalLMOutputWithPast):
    """Logits and loss of a prompt, and the media encoders' outputs.

    Attributes:
        aux_loss: of a mixture of experts, with `output_router_logits`: how unevenly tokens spread over experts; `loss`
            holds it times `router_aux_loss_coef`.
    """

    router_logits: Any = None
    aux_loss: Any = None
    image_outputs: BaseModelOutputWithPooling | None = None
    video_outputs: BaseModelOutputWithPooling | None = None
    audio_outputs: BaseModelOutputWithPooling | None = None


def modality_outputs(outputs: dict[str, Any]) -> dict[str, Any]:
    """modality → output, as fields of the classes above."""
    return {f"{modality}_outputs": output for modality, output in outputs.items()}


def cache_argument(past_key_values: Any, cache: Any) -> dict[str, Any]:
    """The cache under the name that the installed transformers gives it.

    Raises:
        UsageError: both names were used.
    """
    if past_key_values is not None and cache is not None:
        raise UsageError("got both past_key_values and cache, two names of one argument; expected one.")
    if past_key_values is not None and CACHE == "cache" and not torch.compiler.is_compiling():
        warnings.warn("`past_key_values` is deprecated in this transformers; pass `cache`", FutureWarning, stacklevel=4)
    return {CACHE: past_key_values if cache is None else cache}


def balancing_loss(router_logits: Any, config: Any, attention_mask: Any) -> Any:
    """transformers' load balancing loss of a mixture of experts; None if its router's logits were not requested."""
    if router_logits is None:
        return None
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    experts = getattr(config, "num_local_experts", None) or config.num_experts
    return load_balancing_loss_func(router_logits, experts, config.num_experts_per_tok, attention_mask)
