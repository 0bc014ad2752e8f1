"""A checkpoint's files: where they are, which tensors they hold (from headers alone), and tensors read on demand.

transformers reads every tensor by `tensor[...]`, the only operation of a lazy tensor: it is read, renamed and changed
when a model takes it, so loading needs no second copy.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointNotFound, TensorMismatch, WeightsError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor on disk."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def has_weights(folder: Path, variant: str | None = None) -> bool:
    """Whether the folder holds a complete model's safetensors."""
    return any((folder / _of_variant(name, variant)).is_file() for name in (SINGLE, INDEX))


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a complete model in `folder`, the index's shards or the single file.

    Args:
        variant: in the files' names, as in `model.fp16.safetensors`.

    Raises:
        CheckpointNotFound: no safetensors (for a folder of pickles, with how to convert it).
        TensorMismatch: the index names a file that is missing or lies outside the folder.
    """
    single, index_name = _of_variant(SINGLE, variant), _of_variant(INDEX, variant)
    if (folder / index_name).is_file():
        try:
            index = json.loads((folder / index_name).read_text(encoding="utf-8"))
            shards = sorted(set(index["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TensorMismatch(f"{folder / index_name} is not a safetensors index: {error!r}") from None
        for shard in shards:
            # a name with a path separator could read tensors from elsewhere on the disk
            if not isinstance(shard, str) or Path(shard).name != shard:
                raise TensorMismatch(f"{folder / index_name} names {shard!r}, but no such file is next to it.")
            if not (folder / shard).is_file():
                raise TensorMismatch(
                    f"{folder / index_name} names {shard!r}, which is missing; fetch the checkpoint again."
                )
        return [folder / shard for shard in shards]
    if (folder / single).is_file():
        return [folder / single]
    pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt"))
    if pickles:
        raise CheckpointNotFound(
            f"{folder} has no safetensors, only pickles ({', '.join(pickles[:3])}), which are never read at run time; "
            f"run `videollama2 convert {folder} DST` once and load DST."
        )
    raise CheckpointNotFound(f"{folder} has neither {single} nor {index_name}; expected a checkpoint folder.")


def _of_variant(name: str, variant: str | None) -> str:
    """`model.safetensors` → `model.fp16.safetensors`; the variant goes before the last suffix."""
    if variant is None:
        return name
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{variant}.{ending}"


def refuse_pickles(folder: Path, names: Iterable[str]) -> None:
    """Raise CheckpointNotFound if one of these safetensors files exists only as a pickle."""
    files = [folder / name for name in names]
    pickled = [f.with_suffix(".bin").name for f in files if not f.is_file() and f.with_suffix(".bin").is_file()]
    if pickled:
        raise CheckpointNotFound(
            f"{folder} has pickles ({', '.join(pickled)}), which are never read at run time; "
            f"run `videollama2 convert {folder} DST` once and load DST."
        )


def read_headers(files: list[Path]) -> dict[str, TensorInfo]:
    """Name, shape and dtype of every tensor in `files`.

    Raises:
        WeightsError: a file is truncated or corrupt.
        TensorMismatch: two files have a tensor with the same name.
    """
    found: dict[str, TensorInfo] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a dict
                    part = opened.get_slice(name)
                    if name in found:
                        raise TensorMismatch(f"{name} is in both {found[name].file.name} and {file.name}.")
                    found[name] = TensorInfo(file, tuple(part.get_shape()), part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{file} is not a readable safetensors file ({error}); fetch it again.") from None
    return found


def read_tensor(headers: Mapping[str, TensorInfo], name: str) -> Tensor:
    """One tensor, in the dtype on disk."""
    with safe_open(headers[name].file, framework="pt") as opened:
        tensor: Tensor = opened.get_tensor(name)
    return tensor


class LazyTensor(Protocol):
    """A tensor that is read when indexed with `...`."""

    def __getitem__(self, index: Any) -> Tensor: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""

    @property
    def dtype(self) -> str:
        """In safetensors' spelling: F32, BF16, …"""

    def infos(self) -> tuple[TensorInfo, ...]:
        """The tensors on disk that it is computed from."""


class OnDisk:
    """A tensor in a safetensors file."""

    def __init__(self, headers: Mapping[str, TensorInfo], name: str) -> None:
        self.headers, self.name = headers, name
        self.shape = headers[name].shape
        self.dtype = headers[name].dtype

    def __getitem__(self, index: Any) -> Tensor:
        return read_tensor(self.headers, self.name)[index]

    def infos(self) -> tuple[TensorInfo, ...]:
        """The one tensor."""
        return (self.headers[self.name],)


class Changed:
    """A lazy tensor with a function applied that keeps its shape and dtype; the function may read others, too."""

    def __init__(self, source: LazyTensor, change: Callable[[Tensor], Tensor], *others: LazyTensor) -> None:
        self.source, self.change, self.others = source, change, others
        self.shape, self.dtype = source.shape, source.dtype

    def __getitem__(self, index: Any) -> Tensor:
        return self.change(self.source[...])[index]

    def infos(self) -> tuple[TensorInfo, ...]:
        """The source's, then those of the others."""
        return tuple(info for part in (self.source, *self.others) for info in part.infos())


def on_disk(headers: Mapping[str, TensorInfo], rename: Callable[[str], str]) -> dict[str, LazyTensor]:
    """All tensors of some headers, under new names."""
    return {rename(name): OnDisk(headers, name) for name in headers}
