"""The model that vLLM runs: our encoders in front of vLLM's own language model."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import SupportsLoRA, SupportsMultiModal, SupportsPP
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import WeightsMapper, init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors

from ...errors import TensorMismatch
from ...weights.original.names import DERIVED_BUFFERS, our_name
from .configuring import ARCHITECTURES, language_config
from .encoders import PARTS, Encoders
from .processing import DummyInputs, Info, Processor

_LANGUAGE = "model.language_model."
_KINDS = ("image", "video", "audio")


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=DummyInputs)
class VideoLlama2OnVllm(nn.Module, SupportsMultiModal, SupportsPP, SupportsLoRA):
    """Encoders, connector and projector are replicated on every rank; the language model is split."""

    packed_modules_mapping: ClassVar[dict[str, list[str]]] = {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }
    # of adapters, in our layout and in the original's
    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_prefix={
            _LANGUAGE: "language_model.model.",
            "model.layers.": "language_model.model.layers.",
            "model.embed_tokens.": "language_model.model.embed_tokens.",
            "model.norm.": "language_model.model.norm.",
            "lm_head.": "language_model.lm_head.",
        }
    )

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.config = vllm_config.model_config.hf_config
        text = language_config(self.config)
        marks: Any = self  # vLLM's interfaces are untyped here
        with marks._mark_tower_model(vllm_config, set(_KINDS)):
            # on every stage of a pipeline: vLLM measures memory with media on each
            self.encoders = Encoders(self.config).eval().to(vllm_config.model_config.dtype)
        with marks._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=text,
                prefix=maybe_prefix(prefix, "language_model"),
                architectures=[ARCHITECTURES[text.model_type]],
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """The tag of a media item in a prompt that is text."""
        return f"<{modality}>"

    def get_mm_mapping(self) -> MultiModelKeys:
        """Where adapters may be: in the language model."""
        return MultiModelKeys.from_string_field(language_model="language_model.", tower_model="encoders.")

    def embed_multimodal(self, **kwargs: Any) -> tuple[Tensor, ...]:
        """The tokens [n, D] of each item, in the order of the arguments."""
        made: list[Tensor] = []
        for kind in _first_mentioned(kwargs):
            stills = kwargs[f"{kind}_still"]
            for pixels, still, fbank in zip(kwargs[f"{kind}_pixels"], stills, kwargs[f"{kind}_fbank"], strict=True):
                made.append(self.encoders.tokens(pixels, bool(still), fbank))
        return tuple(made)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor | IntermediateTensors:
        """Hidden states of the language model."""
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model.model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Logits [positions, V]."""
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load a checkpoint in our layout or the original's; returns the names of all parameters that were loaded.

        Raises:
            TensorMismatch: a tensor is missing, unexpected, misshapen, or a copy that differs.
        """
        parts: dict[str, Tensor] = {}
        language = self.language_model.load_weights(self._language(weights, parts))
        loaded = {f"language_model.{name}" for name in language}
        if isinstance(self.encoders, Encoders):  # vLLM drops them where media are limited to none
            loaded |= {f"encoders.{name}" for name in self.encoders.load(parts)}
        return loaded

    def _language(
        self, weights: Iterable[tuple[str, Tensor]], parts: dict[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """The language model's tensors, under the names of its own checkpoints; the others are put into `parts`."""
        keep = isinstance(self.encoders, Encoders)
        for found, tensor in weights:
            name = our_name(found)
            if DERIVED_BUFFERS.search(name):
                continue
            if name.startswith(_LANGUAGE):
                yield f"model.{name.removeprefix(_LANGUAGE)}", tensor
            elif name == "lm_head.weight":
                yield name, tensor
            elif (own := name.removeprefix("model.")).split(".", 1)[0] in PARTS:
                if own in parts and not torch.equal(parts[own], tensor):
                    raise TensorMismatch(f"copies of {name} differ; the checkpoint is damaged: fetch it again.")
                if keep:
                    parts[own] = tensor
            else:
                raise TensorMismatch(
                    f"{found} belongs to no part of this model; fetch the checkpoint again, or merge an adapter first "
                    "(`videollama2 merge`)."
                )


def _first_mentioned(kwargs: dict[str, Any]) -> list[str]:
    kinds = [name.split("_", 1)[0] for name in kwargs]
    return [kind for kind in dict.fromkeys(kinds) if kind in _KINDS]
