"""Number formats of a GGUF file: which each tensor gets, and the conversion by existing code.

The mixtures Q4_K_M and Q5_K_M are llama.cpp's own: half of the value and down projections, the first and last eighth of
the layers among them, and the head get six bits. Rows that are not whole blocks of 256 weights get the format that
llama.cpp falls back to. Norms, biases and routers stay float32.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from ...errors import UsageError, did_you_mean
from . import library

# name → llama.cpp's file type, and the format of most tensors
TYPES: dict[str, tuple[int, Kind]] = {
    "Q4_K_M": (15, Kind.Q4_K),
    "Q5_K_M": (17, Kind.Q5_K),
    "Q8_0": (7, Kind.Q8_0),
    "F16": (1, Kind.F16),
    "F32": (0, Kind.F32),
}
_FALLBACKS = {Kind.Q4_K: Kind.Q5_0, Kind.Q5_K: Kind.Q5_1, Kind.Q6_K: Kind.Q8_0}
_BY_PACKAGE = (Kind.F32, Kind.F16, Kind.Q8_0)  # formats that the gguf package writes itself
_CHUNK = 1 << 22  # weights that one thread converts at a time


def named_type(name: str) -> str:
    """The name of a file type, in its usual spelling.

    Raises:
        UsageError: an unknown one.
    """
    if name.upper() not in TYPES:
        raise UsageError(f"unknown GGUF type {name!r}; expected one of {', '.join(TYPES)}" + did_you_mean(name, TYPES))
    return name.upper()


def tensor_kind(name: str, shape: tuple[int, ...], type_name: str, *, layers: int, experts: int, tied: bool) -> Kind:
    """The format of one tensor.

    Args:
        name: in the file.
        shape: rows last but one, channels last.
        layers, experts: of the model; `tied`: the token embedding is the head, too.
    """
    _, kind = TYPES[type_name]
    if len(shape) < 2 or "_norm" in name or "ffn_gate_inp" in name:
        return Kind.F32
    if type_name in ("Q4_K_M", "Q5_K_M"):
        kind = _in_mixture(name, kind, layers=layers, experts=experts, tied=tied)
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    if shape[-1] % block and kind in _FALLBACKS:
        kind = _FALLBACKS[kind]
        block, _ = gguf.GGML_QUANT_SIZES[kind]
    return Kind.F16 if shape[-1] % block else kind


def _in_mixture(name: str, kind: Kind, *, layers: int, experts: int, tied: bool) -> Kind:
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return Kind.Q6_K
    if experts == 8 and (".attn_v." in name or ".attn_k." in name):
        return Kind.Q8_0
    if experts == 8 and ".attn_output." in name and kind is Kind.Q4_K:
        return Kind.Q5_K
    if (".attn_v." in name or ".ffn_down" in name) and _more_bits(int(name.split(".")[1]), layers):
        return Kind.Q6_K
    return kind


def _more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def quantise(values: NDArray[np.float32], kind: Kind) -> NDArray[np.generic]:
    """Values [..., channels] in a format: floats, or bytes [..., bytes of a row].

    Raises:
        MissingExtra: the format is llama.cpp's, and the wheel is not installed.
    """
    if kind in _BY_PACKAGE:
        converted: NDArray[np.generic] = gguf.quants.quantize(values, kind)
        return converted
    found = library.load()
    rows, channels = values.reshape(-1, values.shape[-1]), values.shape[-1]
    out = np.empty((len(rows), found.ggml_row_size(kind, channels)), np.uint8)

    def convert(first: int, count: int) -> None:
        part, target = rows[first : first + count], out[first : first + count]
        found.ggml_quantize_chunk(kind, part.ctypes.data, target.ctypes.data, 0, len(part), channels, None)

    step = max(1, _CHUNK // channels)
    with ThreadPoolExecutor(os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()) as pool:
        list(pool.map(lambda first: convert(first, step), range(0, len(rows), step)))
    return out.reshape(*values.shape[:-1], -1)
