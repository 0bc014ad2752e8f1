"""A model of tensors that come from anywhere: files, or headers alone. Every one of them is accounted for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..configuration import VideoLlama2Config
from ..errors import TensorMismatch, VideoLlama2Error
from ..modeling import VideoLlama2ForConditionalGeneration
from .load import forget_renamings, quiet, refuse
from .original.names import DERIVED_BUFFERS


@dataclass(frozen=True)
class Differences:
    """Between the tensors that there are and those that the model needs; `misshapen`: name, found, expected."""

    missing: list[str]
    unexpected: list[str]
    misshapen: list[tuple[str, list[int], list[int]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def summary(self) -> str:
        """One line."""
        return (
            f"{len(self.missing)} tensors missing, {len(self.unexpected)} unexpected, "
            f"{len(self.misshapen)} of another shape"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def refuse(self, folder: Path) -> None:
        """Raise TensorMismatch, listing all of them, if there are any."""
        refuse(folder, self.missing, self.unexpected, self.misshapen)


def assemble(
    config: VideoLlama2Config, tensors: Mapping[str, Any], *, dtype: Any, **kwargs: Any
) -> tuple[VideoLlama2ForConditionalGeneration, Differences]:
    """The model that `config` describes, made of `tensors`, and what of them did not fit.

    Args:
        tensors: under our names (experts of a mixture one by one, or joined); tensors or `LazyTensor`s.
        dtype: of the model.
        kwargs: as transformers' from_pretrained; with device_map={"": "meta"} nothing is read.

    Raises:
        TensorMismatch: transformers could not join them at all.
    """
    with quiet():
        try:
            # the plain method, not the class's own, which reads folders
            model, info = PreTrainedModel.from_pretrained.__func__(
                VideoLlama2ForConditionalGeneration,
                None,
                config=config,
                state_dict=dict(tensors),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=dtype,
                **kwargs,
            )
        except VideoLlama2Error:
            raise
        except (RuntimeError, ValueError) as error:
            raise TensorMismatch(f"the tensors do not make the model that config.json describes: {error}") from error
    forget_renamings(model, {})
    return model, Differences(
        sorted(info["missing_keys"]),
        sorted(n for n in info["unexpected_keys"] if not DERIVED_BUFFERS.search(n)),
        sorted((name, list(found), list(expected)) for name, found, expected in info["mismatched_keys"]),
    )
