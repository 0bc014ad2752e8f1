"""8- and 4-bit language models; encoders, connector and projectors stay as they are (spec §3.3, demand row 8)."""

from typing import Any

from ..errors import MissingExtra, UsageError
from ..phases import PARTS

# Quantising the others costs accuracy and saves little: the language model is nine tenths of every released checkpoint.
# transformers takes whole names from the root on; a part's name alone would match none of its layers.
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
        raise UsageError(f"{bits} bits are not possible; expected 4 or 8")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingExtra("quantisation needs bitsandbytes; run: pip install 'videollama2[quant]'") from None
    import torch
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
