"""LoRA adapters as PEFT saves them, merged into tensors before a model is built: W + α/r · B A.

Merging tensors instead of modules works for every layout: an adapter names the tensors of the model it was trained on,
the original's or ours. PEFT is not needed.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError, TensorMismatch
from .files import Changed, LazyTensor, OnDisk, TensorInfo, read_headers, refuse_pickles
from .original.names import our_name

CONFIG, WEIGHTS, OTHERS = "adapter_config.json", "adapter_model.safetensors", "non_lora_trainables.safetensors"

_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
_WRAPPERS = ("base_model.model.", "base_model.")
# Settings whose result is not W + α/r · B A
_UNSUPPORTED = (
    "use_dora",
    "lora_bias",
    "fan_in_fan_out",
    "layer_replication",
    "alora_invocation_tokens",
    "target_parameters",
    "trainable_token_indices",
)
_CHANGES_THE_BASE = ("pissa", "olora", "loftq", "corda")  # initialisations that change the base


def add_low_rank(weight: Tensor, down: Tensor, up: Tensor, scale: float = 1.0) -> Tensor:
    """W + scale · B A in float32, for W [out, …], A [r, in], B [out, r]."""
    update = up.float() @ down.float()
    return weight.float() + scale * update.view(weight.shape)


@dataclass(frozen=True)
class Factors:
    """The two factors of one module's update: `down` [r, in], `up` [out, r]."""

    down: LazyTensor
    up: LazyTensor
    scale: float

    def add_to(self, weight: Tensor) -> Tensor:
        """`add_low_rank`, rounded once to the dtype of W."""
        return add_low_rank(weight, self.down[...], self.up[...], self.scale).to(weight.dtype)


def plain_name(name: str) -> str:
    """Our name of a tensor in a file that PEFT or the original's training wrote."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    name = name.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")
    if name.startswith(("model.model.", "model.lm_head.")):
        name = name.removeprefix("model.")
    elif name.startswith(("mm_projector", "audio_tower.", "vision_tower.")):
        name = f"model.{name}"
    return our_name(name)


def apply_lora(folder: Path, settings: Mapping[str, Any], base: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The base's tensors with the adapter in `folder` merged into them, and its other trained tensors in place.

    Args:
        folder: with adapter_model.safetensors and, if connectors or encoders were trained too,
            non_lora_trainables.safetensors.
        settings: the parsed adapter_config.json.
        base: tensors under our names.

    Raises:
        CheckpointNotFound: a file exists only as a pickle.
        ConfigError: an adapter of a kind that is not W + α/r · B A.
        TensorMismatch: a factor is missing or misshapen, or adapts a module that the base lacks.
    """
    _check(folder, settings)
    refuse_pickles(folder, (WEIGHTS, OTHERS))
    headers = read_headers([folder / WEIGHTS])
    factors, others = _factors(folder, headers, settings)
    unknown = sorted(name for name in factors if name not in base)
    if unknown:
        raise TensorMismatch(
            f"{folder} adapts {len(unknown)} module(s) that the base does not have: {', '.join(unknown)}. "
            "It was trained on another model; pass that one as base."
        )
    merged = dict(base)
    for name, update in factors.items():
        _check_shapes(name, update, base[name].shape)
        merged[name] = Changed(base[name], update.add_to, update.down, update.up)
    merged |= {plain_name(name): OnDisk(headers, name) for name in others}
    if (folder / OTHERS).is_file():
        trained = read_headers([folder / OTHERS])
        merged |= {plain_name(name): OnDisk(trained, name) for name in trained}
    return merged


def _check(folder: Path, settings: Mapping[str, Any]) -> None:
    kind = str(settings.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise ConfigError(f"{folder} is a {kind} adapter; expected LORA. Apply and merge it with peft itself.")
    found = [key for key in _UNSUPPORTED if settings.get(key)]
    start = str(settings.get("init_lora_weights", "")).lower()
    if start.startswith(_CHANGES_THE_BASE):
        found.append(f"init_lora_weights={start}")
    if found:
        raise ConfigError(
            f"{folder} uses {', '.join(found)}, which is not plain LoRA. Apply and merge it with peft itself."
        )


def _factors(
    folder: Path, headers: Mapping[str, TensorInfo], settings: Mapping[str, Any]
) -> tuple[dict[str, Factors], list[str]]:
    """Factors by the name of the weight that they change, and the names of everything else in the file."""
    sides: dict[str, dict[str, str]] = {}
    others = []
    for name in headers:
        if match := _FACTOR.match(name):
            sides.setdefault(match["module"], {})[match["side"]] = name
        elif "lora_" in name:
            raise ConfigError(f"{folder} has {name}, which is not plain LoRA. Apply and merge it with peft itself.")
        else:
            others.append(name)
    single = sorted(module for module, pair in sides.items() if len(pair) != 2)
    if single:
        raise TensorMismatch(f"{folder / WEIGHTS} has only one of lora_A and lora_B for {', '.join(single)}.")
    if not sides:
        raise TensorMismatch(f"{folder / WEIGHTS} has no lora_A and lora_B; expected an adapter's file.")
    factors = {}
    for module, pair in sides.items():
        down, up = OnDisk(headers, pair["A"]), OnDisk(headers, pair["B"])
        scale = _scale(module, down.shape[0], settings, folder)
        factors[plain_name(f"{module}.weight")] = Factors(down, up, scale)
    return factors, others


def _scale(module: str, rank: int, settings: Mapping[str, Any], folder: Path) -> float:
    stated = _pattern(settings.get("rank_pattern"), module, settings.get("r", rank))
    if stated != rank:
        raise TensorMismatch(f"{folder}: {module} has rank {rank}, but adapter_config.json states {stated}.")
    alpha = _pattern(settings.get("alpha_pattern"), module, settings.get("lora_alpha", rank))
    return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """PEFT's rule: a pattern matches a module whose name ends with it."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _check_shapes(name: str, update: Factors, shape: tuple[int, ...]) -> None:
    down, up = update.down.shape, update.up.shape
    rows, columns = shape[0], math.prod(shape[1:])
    if (math.prod(down[1:]), up[0], down[0]) != (columns, rows, up[1]):
        raise TensorMismatch(
            f"the adapter's factors for {name} are {list(down)} and {list(up)}, "
            f"which do not form an update of shape {list(shape)}."
        )
