"""Which language models llama.cpp runs as transformers does, and how their tensors and settings are named in GGUF.

Tensor names are those of the `gguf` package. Two things differ from transformers: the `llama` architecture rotates
neighbouring channels where transformers rotates halves, so the rows of its queries and keys are reordered, and the
experts of a layer are one tensor per matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...weights.files import LazyTensor

Values = NDArray[np.float32]
PREFIX, HEAD = "model.language_model.", "lm_head.weight"


@dataclass(frozen=True)
class Family:
    """One of transformers' language model types.

    Attributes:
        architecture: llama.cpp's name for it.
        interleaved: whether it rotates neighbouring channels.
    """

    architecture: str
    interleaved: bool = False


FAMILIES: dict[str, Family] = {
    "llama": Family("llama", interleaved=True),
    "mistral": Family("llama", interleaved=True),
    "mixtral": Family("llama", interleaved=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
}


def family_of(text: Any) -> Family:
    """The family of a language model's configuration.

    Raises:
        UsageError: llama.cpp does not compute it as transformers does, or nobody has checked that it does.
    """
    family = FAMILIES.get(text.model_type)
    if family is None:
        raise UsageError(
            f"the language model is a {text.model_type}, which is not supported with llama.cpp; "
            f"supported: {', '.join(FAMILIES)}. Use --engine torch."
        )
    rope = str(_rope(text).get("rope_type", "default"))
    if rope != "default":
        raise UsageError(f"rotary positions of type {rope!r} are not supported with llama.cpp; use --engine torch.")
    if getattr(text, "hidden_act", "silu") != "silu":
        raise UsageError(f"activation {text.hidden_act!r} is not supported with llama.cpp; use --engine torch.")
    return family


def context_limit(text: Any) -> int:
    """The longest prompt and answer, in positions: llama.cpp attends to all of them, without a sliding window."""
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    return min(int(text.max_position_embeddings), int(window or text.max_position_embeddings))


def add_settings(writer: gguf.GGUFWriter, text: Any) -> None:
    """Write the sizes and constants of a language model."""
    heads = text.num_attention_heads
    head_dim = _head_dim(text)
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(text.hidden_size)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_feed_forward_length(text.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(text.num_key_value_heads or heads)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_freq_base(float(_rope(text).get("rope_theta", 10000.0)))
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_vocab_size(text.vocab_size)
    if getattr(text, "num_local_experts", 0):
        writer.add_expert_count(text.num_local_experts)
        writer.add_expert_used_count(text.num_experts_per_tok)


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of the file: computed from some of the checkpoint's when it is written."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[LazyTensor, ...]
    heads: int = 0  # whose channels are reordered; 0: none
    part: tuple[int, int] | None = None  # (i, n): the i-th of n equal parts of its rows
    stacked: bool = False

    def read(self) -> Values:
        """Its values."""
        found = [_values(source) for source in self.sources]
        values = np.stack(found) if self.stacked else found[0]
        if self.part is not None:
            index, count = self.part
            values = np.split(values, count, axis=-2)[index]
        return np.ascontiguousarray(_interleaved(values, self.heads) if self.heads else values)


def gguf_tensors(text: Any, tensors: Mapping[str, LazyTensor]) -> list[GgufTensor]:
    """The file's tensors, in the order of layers.

    Args:
        text: configuration of the language model.
        tensors: of the whole model, under our names.

    Raises:
        UsageError: the family, or one of its tensors, is not supported.
    """
    family = family_of(text)
    names = gguf.get_tensor_name_map(_arch(family.architecture), text.num_hidden_layers)
    made: list[GgufTensor] = []
    experts: dict[str, dict[int, LazyTensor]] = {}
    for name, tensor in tensors.items():
        if not name.startswith(PREFIX) and name != HEAD:
            continue
        plain = name if name == HEAD else "model." + name.removeprefix(PREFIX)
        if ".experts." in plain:
            made += _joined_experts(plain, tensor)
            _collect_expert(plain, tensor, experts)
            continue
        found = names.get_name(plain, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise UsageError(f"tensor {name} has no place in a GGUF of a {text.model_type}; use --engine torch.")
        made.append(GgufTensor(found, tuple(tensor.shape), (tensor,), heads=_heads(plain, text, family)))
    for target, parts in experts.items():
        stacked = tuple(parts[i] for i in sorted(parts))
        made.append(GgufTensor(target, (len(stacked), *stacked[0].shape), stacked, stacked=True))
    return sorted(made, key=lambda tensor: _order(tensor.name))


def _joined_experts(plain: str, tensor: LazyTensor) -> list[GgufTensor]:
    """transformers' own form: gate and up of all experts in one tensor [E, 2·I, D], down in another."""
    block = plain.split(".")[2]
    count, rows, *rest = tensor.shape if len(tensor.shape) == 3 else (0, 0)
    if plain.endswith("experts.gate_up_proj"):
        shape = (count, rows // 2, *rest)
        return [
            GgufTensor(f"blk.{block}.ffn_{kind}_exps.weight", shape, (tensor,), part=(i, 2))
            for i, kind in enumerate(("gate", "up"))
        ]
    if plain.endswith("experts.down_proj"):
        return [GgufTensor(f"blk.{block}.ffn_down_exps.weight", tuple(tensor.shape), (tensor,))]
    return []


def _collect_expert(plain: str, tensor: LazyTensor, experts: dict[str, dict[int, LazyTensor]]) -> None:
    """The released form: w1 (gate), w2 (down), w3 (up) of each expert."""
    kind = {"w1": "gate", "w2": "down", "w3": "up"}.get(plain.removesuffix(".weight").rsplit(".", 1)[-1])
    if kind is not None:
        block, expert = plain.split(".")[2], int(plain.split(".experts.")[1].split(".")[0])
        experts.setdefault(f"blk.{block}.ffn_{kind}_exps.weight", {})[expert] = tensor


def _heads(plain: str, text: Any, family: Family) -> int:
    if family.interleaved and ".q_proj." in plain:
        return int(text.num_attention_heads)
    if family.interleaved and ".k_proj." in plain:
        return int(text.num_key_value_heads or text.num_attention_heads)
    return 0


def _interleaved(values: Values, heads: int) -> Values:
    """Rows [heads · d, …], the halves of each head's channels interleaved."""
    split = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return split.swapaxes(1, 2).reshape(values.shape)


def _values(tensor: LazyTensor) -> Values:
    values: Values = tensor[...].float().numpy()
    return values


def _order(name: str) -> tuple[int, int, str]:
    parts = name.split(".")
    return (1, int(parts[1]), name) if parts[0] == "blk" else (0 if name.startswith("token_embd") else 2, 0, name)


def _arch(name: str) -> Any:
    return next(arch for arch, known in gguf.MODEL_ARCH_NAMES.items() if known == name)


def _rope(text: Any) -> dict[str, Any]:
    return dict(getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {})


def _head_dim(text: Any) -> int:
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
