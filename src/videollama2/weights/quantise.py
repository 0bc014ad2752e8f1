"""8- and 4-bit language models; encoders, connector and projectors are not quantised (spec §3.3).

bitsandbytes' 4-bit code for CPUs is wrong in three ways (found in 0.50; tests/weights/test_quantise.py), so on a CPU

- a matrix whose rows are not whole blocks of 64 weights stays unquantised: it would be read back incorrectly;
- the kernel for AVX512-BF16 is not used: it repacks weights at the first answer, computes in bfloat16 regardless of
  the requested dtype, fails on matrices whose sizes it does not divide, and gives no gradient in training afterwards.
"""

import copy
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..configuration import read_json
from ..errors import ConfigError, MissingExtra, UsageError
from ..phases import PARTS
from .meta import ShapesOnly

logger = logging.getLogger(__name__)

_STORED = re.compile(r"(.+?)\.(?:weight\.absmax|SCB)$")
BLOCK = 64  # weights of a row that share one scale in 4 bits
# Quantising the others costs accuracy and saves little: the language model is nine tenths of every released checkpoint.
# transformers matches names from the root on; a part's name alone would match none of its layers.
KEPT = tuple(prefix.removesuffix(".") for part, prefix in PARTS.items() if part != "language_model")


def quantisation_config(bits: int, dtype: Any = None) -> Any:
    """transformers' bitsandbytes configuration for the language model.

    Args:
        bits: 4 (NF4, its scales quantised too) or 8.
        dtype: of the arithmetic on 4-bit weights; None: float16. (8-bit weights follow their input.)

    Raises:
        UsageError: bits is neither 4 nor 8.
        MissingExtra: bitsandbytes is not installed.
    """
    if bits not in (4, 8):
        raise UsageError(f"expected 4 or 8 bits, got {bits}.")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingExtra("quantisation requires bitsandbytes: pip install 'videollama2[quant]'") from None
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(KEPT))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16 if dtype is None else dtype,
        llm_int8_skip_modules=list(KEPT),
    )


def with_default_skips(options: dict[str, Any]) -> dict[str, Any]:
    """from_pretrained's options, with encoders, connector, projector and head kept if the caller named no modules.

    Args:
        options: with a `quantization_config` of any method, or without.
    """
    quantisation: Any = options.get("quantization_config")
    if isinstance(quantisation, dict):
        from transformers.quantizers.auto import AutoQuantizationConfig

        quantisation = AutoQuantizationConfig.from_dict(dict(quantisation))
    for name in ("llm_int8_skip_modules", "modules_to_not_convert"):
        if getattr(quantisation, name, ()) is None:
            quantisation = copy.deepcopy(quantisation)
            setattr(quantisation, name, [*KEPT, *(part.removeprefix("model.") for part in KEPT)])  # the latter: a trunk
    return options if quantisation is None else {**options, "quantization_config": quantisation}


def quantised_layers(names: Iterable[str]) -> set[str]:
    """The layers that bitsandbytes quantised, recognised by the tensors that it stores next to their weights."""
    return {match[1] for name in names if (match := _STORED.match(name))}


def with_stored_quantisation(cls: type[nn.Module], config: Any, folder: Path, names: list[str]) -> Any:
    """The configuration, with a bitsandbytes quantisation if, and only if, the checkpoint's tensors have one.

    Which layers are quantised is read off the tensors: a released layout names other modules than ours, and training
    in 4 bits leaves its settings behind in the config.json of weights that are whole.

    Args:
        cls, config, folder: of the model.
        names: of the checkpoint's tensors, under our names.

    Raises:
        ConfigError: quantised tensors, but no settings.
        UsageError: on a CPU, 4-bit matrices that bitsandbytes would read as other numbers.
    """
    packed = quantised_layers(names)
    stored = getattr(config, "quantization_config", None)
    if not packed:
        if stored is not None and _is_bitsandbytes(stored):
            logger.warning("%s: config.json names a quantisation, but no tensor is quantised; ignored", folder)
            config = copy.deepcopy(config)
            del config.quantization_config
        return config
    file = folder / "config.json"
    stored = stored or (read_json(file).get("quantization_config") if file.is_file() else None)
    if stored is None:
        raise ConfigError(f"{folder}: {len(packed)} layers are quantised, but config.json has no quantization_config.")
    values = dict(stored if isinstance(stored, dict) else stored.to_dict())
    trunk = "model."  # which a trunk's names leave out
    packed = {name.removeprefix(trunk) for name in packed}
    with ShapesOnly(), torch.device("meta"):
        linear = {n: m for n, m in cls(config).named_modules() if isinstance(m, nn.Linear)}
    values["llm_int8_skip_modules"] = sorted(n for n in linear if n.removeprefix(trunk) not in packed)
    ragged = [n for n, m in linear.items() if n.removeprefix(trunk) in packed and m.in_features % BLOCK]
    if values.get("load_in_4bit") and ragged and not torch.cuda.is_available():
        raise UsageError(
            f"{folder}: {len(ragged)} layers ({ragged[0]}, …) have 4-bit rows that are not whole blocks of {BLOCK}, "
            "which bitsandbytes misreads on a CPU; load it on a GPU, or load the unquantised model."
        )
    config = copy.deepcopy(config)
    config.quantization_config = values
    return config


def _is_bitsandbytes(stored: Any) -> bool:
    values = stored if isinstance(stored, dict) else stored.to_dict()
    return bool(values.get("load_in_4bit") or values.get("load_in_8bit"))


def correct_on_cpu(cls: type[nn.Module], config: Any, options: dict[str, Any]) -> dict[str, Any]:
    """from_pretrained's options, with the matrices that 4 bits would corrupt on a CPU left unquantised.

    Args:
        cls, config: of the model.
        options: with a `quantization_config`, or without.
    """
    options = with_default_skips(options)
    quantisation: Any = options.get("quantization_config")
    if not getattr(quantisation, "load_in_4bit", False) or not _on_cpu(options.get("device_map")):
        return options
    kept = tuple(quantisation.llm_int8_skip_modules or ())
    with ShapesOnly(), torch.device("meta"):
        linear = {n: m for n, m in cls(config).named_modules() if isinstance(m, nn.Linear)}
    layers = {n: m for n, m in linear.items() if not n.startswith(kept)}
    ragged = [n for n, m in layers.items() if m.in_features % BLOCK]
    if not ragged:
        return options
    logger.warning(
        "%d of %d linear layers stay unquantised: on a CPU, 4-bit rows must be whole blocks of %d weights (%s has %d)",
        len(ragged), len(layers), BLOCK, ragged[0], layers[ragged[0]].in_features,
    )  # fmt: skip
    changed = copy.deepcopy(quantisation)
    changed.llm_int8_skip_modules = [*kept, *ragged]
    return {**options, "quantization_config": changed}


def portable_kernels(model: nn.Module) -> None:
    """Make 4-bit layers on a CPU compute in the requested dtype, and train, on every CPU."""
    module: Any
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False) and module.weight.device.type == "cpu":
            module.support_avx512bf16_for_cpu = False


def _on_cpu(device_map: Any) -> bool:
    if isinstance(device_map, dict):
        return any(torch.device(place).type == "cpu" for place in device_map.values() if place != "disk")
    if device_map in (None, "auto", "balanced", "balanced_low_0", "sequential"):
        return not torch.cuda.is_available()
    return torch.device(device_map).type == "cpu"
