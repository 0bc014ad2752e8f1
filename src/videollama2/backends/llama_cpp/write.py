"""A checkpoint's language model as a GGUF file, tensor by tensor: no more than a few tensors are in memory at once."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ...errors import UsageError
from ...hub import DEFAULTS
from ...storage import work_folder
from ...text.tokenization import load_tokenizer
from ...weights import stages
from ...weights.locate import locate
from ...weights.nano_cache import is_nano
from . import origin
from .families import HEAD, GgufTensor, add_settings, family_of, gguf_tensors
from .quantise import TYPES, named_type, quantise, tensor_kind
from .tokens import add_tokenizer

logger = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]  # tensor, bytes of it and those before it that are still to come, in total


def write_gguf(
    model: str | Path, target: Path, type_name: str, *, base: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """Write the language model of a checkpoint.

    Args:
        model: nano, a released name, a hub id, or a folder of any kind; adapters are merged.
        target: the file; it appears only when it is complete.
        type_name: a key of TYPES.
        base: of a training stage.
        progress: called before each tensor.

    Raises:
        UsageError: the language model's family or `type_name` is not supported.
        MissingExtra: the type is llama.cpp's, and the wheel is not installed.
    """
    type_name = named_type(type_name)
    folder, name = locate(model, base)
    base = None if is_nano(model) else base
    collected = stages.collect(folder, base)
    if collected.config is None:
        raise UsageError(f"{folder} is a language model without encoders; expected a VideoLLaMA 2.")
    text = collected.config.text_config
    tensors = gguf_tensors(text, collected.tensors)
    kinds = [
        tensor_kind(
            t.name, t.shape, type_name, layers=text.num_hidden_layers,
            experts=getattr(text, "num_local_experts", 0), tied=HEAD not in collected.tensors,
        )
        for t in tensors
    ]  # fmt: skip
    tokenizer = _tokenizer(folder, base)
    sizes = [int(np.prod(gguf.quant_shape_to_byte_shape(t.shape, k))) for t, k in zip(tensors, kinds, strict=True)]
    with work_folder(target, sum(sizes)) as work:
        path = work / target.name
        writer = gguf.GGUFWriter(path, family_of(text).architecture)
        writer.add_name(name)
        writer.add_file_type(TYPES[type_name][0])
        writer.add_quantization_version(2)
        add_settings(writer, text)
        add_tokenizer(writer, tokenizer, text.vocab_size)
        writer.add_string(origin.KEY, origin.sample(collected.tensors))
        _write(writer, tensors, kinds, sizes, progress)
        path.replace(target)
    return target


def _write(
    writer: gguf.GGUFWriter, tensors: list[GgufTensor], kinds: list[Any], sizes: list[int], progress: Progress | None
) -> None:
    for tensor, kind, size in zip(tensors, kinds, sizes, strict=True):
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done = 0
    for tensor, kind, size in zip(tensors, kinds, sizes, strict=True):
        if progress is not None:
            progress(tensor.name, done, sum(sizes))
        writer.write_tensor_data(quantise(tensor.read(), kind))
        done += size
    if progress is not None:
        progress("", done, sum(sizes))
    writer.close()


def _tokenizer(folder: Path, base: str | Path | None) -> Any:
    place = folder if stages.kind(folder) == "complete" else stages.tokenizer_folder(folder, base, DEFAULTS)
    return load_tokenizer(place)
