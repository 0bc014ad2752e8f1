"""Which tensors a checkpoint folder holds, read from safetensors headers alone."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointNotFound, TensorMismatch, WeightsError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor on disk."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a complete model in `folder`, the index's shards or the single file.

    Raises:
        CheckpointNotFound: there are none (a folder of pickles is told how to become one of safetensors).
        TensorMismatch: the index names a file that is missing or lies outside the folder.
    """
    if (folder / INDEX).is_file():
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            shards = sorted(set(index["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TensorMismatch(f"{folder / INDEX} is not a safetensors index: {error!r}") from None
        for shard in shards:
            # a name with a separator would read tensors from elsewhere on the disk
            if not isinstance(shard, str) or Path(shard).name != shard:
                raise TensorMismatch(f"{folder / INDEX} names {shard!r}, which is not a file beside it")
            if not (folder / shard).is_file():
                raise TensorMismatch(f"{folder / INDEX} names {shard!r}, which is missing; fetch the checkpoint again")
        return [folder / shard for shard in shards]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt"))
    if pickles:
        raise CheckpointNotFound(
            f"{folder} has no safetensors, but pickles ({', '.join(pickles[:3])}), which are never read at run time; "
            f"run `videollama2 convert {folder} DST` once and load DST"
        )
    raise CheckpointNotFound(f"{folder} has neither {SINGLE} nor {INDEX}; is it a checkpoint folder?")


def refuse_pickles(folder: Path, names: Iterable[str]) -> None:
    """Raise CheckpointNotFound where one of these safetensors files is there only as the pickle that it once was."""
    files = [folder / name for name in names]
    pickled = [f.with_suffix(".bin").name for f in files if not f.is_file() and f.with_suffix(".bin").is_file()]
    if pickled:
        raise CheckpointNotFound(
            f"{folder} has pickles ({', '.join(pickled)}), which are never read at run time; "
            f"run `videollama2 convert {folder} DST` once and load DST"
        )


def read_headers(files: list[Path]) -> dict[str, TensorInfo]:
    """Name, shape and dtype of every tensor in `files`.

    Raises:
        WeightsError: a file is no safetensors file (truncated, corrupt).
        TensorMismatch: two files hold the same name.
    """
    found: dict[str, TensorInfo] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a dict
                    part = opened.get_slice(name)
                    if name in found:
                        raise TensorMismatch(f"{name} is in both {found[name].file.name} and {file.name}")
                    found[name] = TensorInfo(file, tuple(part.get_shape()), part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{file} is not a readable safetensors file ({error}); fetch it again") from None
    return found


def read_tensor(headers: Mapping[str, TensorInfo], name: str) -> torch.Tensor:
    """One tensor, in the dtype on disk."""
    with safe_open(headers[name].file, framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name)
    return tensor
