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


class OnDisk:
    """A tensor in a safetensors file."""

    def __init__(self, headers: Mapping[str, TensorInfo], name: str) -> None:
        self.headers, self.name = headers, name
        self.shape = headers[name].shape
        self.dtype = headers[name].dtype

    def __getitem__(self, index: Any) -> Tensor:
        return read_tensor(self.headers, self.name)[index]


class Changed:
    """Another lazy tensor after a function that keeps its shape and dtype."""

    def __init__(self, source: LazyTensor, change: Callable[[Tensor], Tensor]) -> None:
        self.source, self.change = source, change
        self.shape = source.shape
        self.dtype = getattr(source, "dtype", None)

    def __getitem__(self, index: Any) -> Tensor:
        return self.change(self.source[...])[index]


def on_disk(headers: Mapping[str, TensorInfo], rename: Callable[[str], str]) -> dict[str, LazyTensor]:
    """All tensors of some headers, under new names."""
    return {rename(name): OnDisk(headers, name) for name in headers}
