"""8- and 4-bit language models; encoders, connector and projectors stay as they are (spec §3.3).

bitsandbytes' 4-bit code for CPUs is wrong in three ways (found in 0.50; tests/weights/test_quantise.py), so on a CPU

- a matrix whose rows are not whole blocks of 64 weights stays unquantised: it would be read back as other numbers;
- the kernel for AVX512-BF16 is not used: it repacks weights at the first answer, computes in bfloat16 whatever dtype
  was requested, fails on matrices whose sizes it does not divide, and gives no gradient in training afterwards.
"""

import copy
import logging
from typing import Any

import torch
from torch import nn

from ..errors import MissingExtra, UsageError
from ..phases import PARTS

logger = logging.getLogger(__name__)

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
        UsageError: neither 4 nor 8.
        MissingExtra: bitsandbytes is not installed.
    """
    if bits not in (4, 8):
        raise UsageError(f"expected 4 or 8 bits, got {bits}")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingExtra("quantisation needs bitsandbytes; run: pip install 'videollama2[quant]'") from None
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


def correct_on_cpu(cls: type[nn.Module], config: Any, options: dict[str, Any]) -> dict[str, Any]:
    """from_pretrained's options, with the matrices that 4 bits would corrupt on a CPU left unquantised.

    Args:
        cls, config: of the model.
        options: with a `quantization_config`, or without.
    """
    quantisation: Any = options.get("quantization_config")
    if not getattr(quantisation, "load_in_4bit", False) or not _on_cpu(options.get("device_map")):
        return options
    kept = tuple(quantisation.llm_int8_skip_modules or ())
    with torch.device("meta"):
        linear = {n: m for n, m in cls(config).named_modules() if isinstance(m, nn.Linear)}
    layers = {n: m for n, m in linear.items() if not n.startswith(kept)}
    ragged = [n for n, m in layers.items() if m.in_features % BLOCK]
    if not ragged:
        return options
    logger.warning(
        "%d of %d linear layers stay unquantised: on a CPU, 4 bits need rows of whole blocks of %d weights (%s has %d)",
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
