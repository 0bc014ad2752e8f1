"""What a GGUF file contains, read from its beginning, and the rows of its token embedding.

The file is checked before llama.cpp sees it: that it is complete, and that it belongs to the checkpoint whose encoders
it is used with. Arrays (a vocabulary has hundreds of thousands of strings) are skipped.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from ...errors import CheckpointNotFound, TensorMismatch, WeightsError
from . import origin
from .families import family_of
from .quantise import TYPES

_MAGIC = b"GGUF"
_SCALARS = "BbHhIif?"  # of GGUF's value types 0 to 7
_STRING, _ARRAY = 8, 9
_LONG = {10: "Q", 11: "q", 12: "d"}
_EMBEDDING, _NORM = "token_embd.weight", "output_norm.weight"
AGAIN = "write it again with `videollama2 convert MODEL DST --gguf TYPE`"


@dataclass(frozen=True)
class TensorPlace:
    """One tensor: its shape with channels last, its format, and where its bytes are."""

    shape: tuple[int, ...]
    kind: Kind
    start: int

    @property
    def row_bytes(self) -> int:
        """Of one row of channels."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return self.shape[-1] // block * size

    @property
    def end(self) -> int:
        """Where its bytes end."""
        rows = int(np.prod(self.shape[:-1], dtype=np.int64))
        return self.start + rows * self.row_bytes


@dataclass(frozen=True)
class GgufFile:
    """A complete GGUF file.

    Attributes:
        settings: its metadata, without arrays.
        tensors: by name.
    """

    path: Path
    settings: dict[str, Any]
    tensors: dict[str, TensorPlace]

    @property
    def type_name(self) -> str:
        """Its file type, such as Q4_K_M."""
        found = self.settings.get("general.file_type")
        ours = {number: name for name, (number, _) in TYPES.items()}
        if found in ours:
            return ours[found]
        try:
            return gguf.LlamaFileType(found).name.removeprefix("MOSTLY_").removeprefix("ALL_")
        except ValueError:
            return "an unknown type"

    def setting(self, name: str) -> Any:
        """A setting of its architecture, such as `block_count`; None if it is missing."""
        return self.settings.get(f"{self.settings.get('general.architecture')}.{name}")

    def rows(self, name: str, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows of a matrix as float32 [n, channels]; only their pages of the file are read."""
        place = self.tensors[name]
        whole = np.memmap(self.path, np.uint8, "r", place.start, (place.end - place.start,))
        picked = np.array(whole.reshape(-1, place.row_bytes)[ids])
        values: NDArray[np.float32] = gguf.quants.dequantize(picked, place.kind)
        return np.ascontiguousarray(values, np.float32).reshape(len(ids), place.shape[-1])

    def vector(self, name: str) -> NDArray[np.float32]:
        """A tensor with one dimension."""
        place = self.tensors[name]
        values: NDArray[np.float32] = np.memmap(self.path, np.float32, "r", place.start, place.shape)
        return np.array(values)


def read_gguf(path: Path) -> GgufFile:
    """The contents of a file.

    Raises:
        CheckpointNotFound: no such file. WeightsError: it is not GGUF, or is truncated or damaged.
    """
    if not path.is_file():
        raise CheckpointNotFound(f"{path} not found; expected a GGUF file: {AGAIN}")
    size = path.stat().st_size
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            settings, tensors = _parse(view)
    except (struct.error, ValueError, KeyError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise WeightsError(f"{path} is not a complete GGUF file ({error}); {AGAIN}") from error
    end = max((place.end for place in tensors.values()), default=0)
    if end > size:
        raise WeightsError(f"{path} is truncated: it has {size} bytes of {end}; copy it again, or {AGAIN}")
    return GgufFile(path, settings, tensors)


def check_belongs(found: GgufFile, text: Any, norm: NDArray[np.float32] | None = None, weights: str = "") -> None:
    """Whether a file is the language model that a configuration describes.

    Args:
        norm: the checkpoint's own final norm, if it has one; it is stored unquantised in the file, too.
        weights: what `origin.sample` returned for the checkpoint; empty: unknown.

    Raises:
        TensorMismatch: it is another model.
    """
    wanted = {
        "architecture": family_of(text).architecture,
        "embedding_length": text.hidden_size,
        "block_count": text.num_hidden_layers,
        "feed_forward_length": text.intermediate_size,
        "attention.head_count": text.num_attention_heads,
        "attention.head_count_kv": text.num_key_value_heads or text.num_attention_heads,
        "vocabulary": text.vocab_size,
    }
    embedding = found.tensors.get(_EMBEDDING)
    have = {name: found.setting(name) for name in wanted}
    have["architecture"] = found.settings.get("general.architecture")
    have["vocabulary"] = 0 if embedding is None else embedding.shape[0]
    wrong = [f"{name} {have[name]}, expected {value}" for name, value in wanted.items() if have[name] != value]
    if wrong:
        raise TensorMismatch(f"{found.path} is not this checkpoint's language model: {'; '.join(wrong)}; {AGAIN}")
    if norm is not None and _NORM in found.tensors and not np.allclose(found.vector(_NORM), norm, rtol=1e-3, atol=1e-3):
        raise TensorMismatch(
            f"{found.path} has the shape of this checkpoint's language model, but other weights; {AGAIN}"
        )
    origin.check_same(found.settings.get(origin.KEY), weights, found.path, AGAIN)


def _parse(view: mmap.mmap) -> tuple[dict[str, Any], dict[str, TensorPlace]]:
    if view[:4] != _MAGIC:
        raise ValueError("it begins with other bytes")
    at = _Reader(view, 4)
    version = at.number("I")
    if version not in (2, 3):
        raise ValueError(f"version {version}, expected 2 or 3")
    count, entries = at.number("Q"), at.number("Q")
    settings: dict[str, Any] = {}
    for _ in range(entries):
        name = at.text()
        settings[name] = at.value(at.number("I"))
    found = []
    for _ in range(count):
        name = at.text()
        shape = tuple(at.number("Q") for _ in range(at.number("I")))[::-1]
        found.append((name, shape, Kind(at.number("I")), at.number("Q")))
    alignment = int(settings.get("general.alignment", 32))
    data = -(-at.place // alignment) * alignment
    return settings, {name: TensorPlace(shape, kind, data + offset) for name, shape, kind, offset in found}


class _Reader:
    """Reads numbers and strings one after the other."""

    def __init__(self, view: mmap.mmap, place: int) -> None:
        self._view, self.place = view, place

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self._view, self.place)
        self.place += struct.calcsize(code)
        return value

    def text(self) -> str:
        length = self.number("Q")
        if self.place + length > len(self._view):
            raise ValueError("it ends inside its metadata")
        self.place += length
        return self._view[self.place - length : self.place].decode()

    def value(self, kind: int) -> Any:
        if kind < len(_SCALARS):
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            self._skip_array()
            return None
        return self.number(_LONG[kind])

    def _skip_array(self) -> None:
        kind, count = self.number("I"), self.number("Q")
        if kind == _STRING:
            unpack, place, view = struct.Struct("<Q").unpack_from, self.place, self._view
            for _ in range(count):
                place += 8 + unpack(view, place)[0]
            self.place = place
        elif kind == _ARRAY:
            for _ in range(count):
                self._skip_array()
        else:
            code = _SCALARS[kind] if kind < len(_SCALARS) else _LONG[kind]
            self.place += count * struct.calcsize("<" + code)
        if self.place > len(self._view):
            raise ValueError("it ends inside its metadata")
