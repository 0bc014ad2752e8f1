"""Read the pickles of older checkpoints without running them.

Only tensors, numbers, strings and plain containers are read, by torch's weights-only unpickler. A file that requires
anything else (any class, any function) is rejected before it runs. Only `convert` reads pickles.
"""

import warnings
from pathlib import Path
from pickle import UnpicklingError  # only the exception; this module does not use pickle itself
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsafeFile, WeightsError

_PLAIN = (str, int, float, bool, type(None))
_MAX_GROWTH = 4  # views of shared storage are written out whole; a file that would grow more than this is an attack


def read_pickle(file: Path) -> Any:
    """The contents of a `.bin` or `.pt` file: tensors in plain containers, on the CPU, memory-mapped if possible.

    Raises:
        UnsafeFile: reading it would run code, or it claims far more data than it holds.
        WeightsError: it is corrupt or truncated.
    """
    try:
        loaded = _load(file)
    except (UnpicklingError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise UnsafeFile(
            f"{file} is not a file of tensors and plain data only ({_reason(error)}). It was not run. If you trust "
            "its source, load it with its own software and save the bare state dict."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, UnicodeDecodeError, MemoryError, OverflowError) as error:
        if "TorchScript" in str(error):
            raise UnsafeFile(f"{file} is a TorchScript program, not a file of tensors. It was not run.") from None
        raise WeightsError(f"{file} is corrupt or truncated ({_reason(error)}). Fetch it again.") from None
    _refuse_objects(loaded, file)
    _refuse_growth(loaded, file)
    return loaded


def _load(file: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about formats; real problems are raised
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
        return torch.load(file, map_location="cpu", weights_only=True)  # the format before torch 1.6


def _reason(error: BaseException) -> str:
    """The first informative line of torch's long explanation."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("WeightsUnpickler error", "GLOBAL", "Unsupported"))]
    text = (telling or lines or [type(error).__name__])[0].removeprefix("WeightsUnpickler error: ")
    return text.split(" was not an allowed global")[0].rstrip(".")[:200] + (
        " is not allowed" if " was not an allowed global" in text else ""
    )


def _refuse_objects(value: Any, file: Path) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, _PLAIN):
                raise UnsafeFile(f"{file} has a {type(key).__name__} as a key; expected strings. It was not used.")
            _refuse_objects(item, file)
    elif isinstance(value, list | tuple | set):
        for item in value:
            _refuse_objects(item, file)
    elif not isinstance(value, (Tensor, torch.dtype, *_PLAIN)):
        raise UnsafeFile(f"{file} contains a {type(value).__name__}; expected tensors and plain data. It was not used.")


def _refuse_growth(value: Any, file: Path) -> None:
    """Views can make a small file claim any amount of data."""
    total = 0
    for name, tensor in _walk(value):
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise WeightsError(f"{file}: {name} is not a plain dense tensor; safetensors can't store others.")
        size = tensor.numel() * tensor.element_size()
        if size > tensor.untyped_storage().nbytes():
            raise UnsafeFile(f"{file}: {name} claims {size:,} bytes, more than its storage has. It was not used.")
        total += size
    size = file.stat().st_size
    if total > _MAX_GROWTH * max(size, 1 << 20):
        raise UnsafeFile(f"{file} claims {total:,} bytes of tensors but is {size:,} bytes long. It was not used.")


def _walk(value: Any, name: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple | set):
        items = enumerate(value)
    return [found for key, item in items for found in _walk(item, f"{name}.{key}".lstrip("."))]
