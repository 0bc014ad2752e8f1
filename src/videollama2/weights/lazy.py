"""Tensors that are read, renamed and changed only when a model takes them, so that loading needs no second copy.

transformers materialises whatever it is given by `tensor[...]`; that is the whole interface.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from .files import TensorInfo, read_tensor


class LazyTensor(Protocol):
    """Something that becomes a tensor when it is indexed with `...`."""

    def __getitem__(self, index: Any) -> Tensor: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor that it becomes."""

    @property
    def dtype(self) -> str:
        """As safetensors names it: F32, BF16, …"""

    def infos(self) -> tuple[TensorInfo, ...]:
        """The tensors on disk that it is made of."""


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
    """Another lazy tensor after a function that keeps its shape and dtype and reads others, too."""

    def __init__(self, source: LazyTensor, change: Callable[[Tensor], Tensor], *others: LazyTensor) -> None:
        self.source, self.change, self.others = source, change, others
        self.shape, self.dtype = source.shape, source.dtype

    def __getitem__(self, index: Any) -> Tensor:
        return self.change(self.source[...])[index]

    def infos(self) -> tuple[TensorInfo, ...]:
        """Of the source, then of the others."""
        return tuple(info for part in (self.source, *self.others) for info in part.infos())


def on_disk(headers: Mapping[str, TensorInfo], rename: Callable[[str], str]) -> dict[str, LazyTensor]:
    """All tensors of some headers, under new names."""
    return {rename(name): OnDisk(headers, name) for name in headers}
