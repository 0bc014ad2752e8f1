"""Strict loading: build a model from a folder or tensors, with every tensor accounted for (spec §2, §3).

Both entry points end at transformers' own `from_pretrained`, whose report becomes one log line or one error.
"""

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from ..configuration import VideoLlama2Config
from ..errors import TensorMismatch, VideoLlama2Error
from ..modeling import VideoLlama2ForConditionalGeneration
from .files import TensorInfo, read_headers, read_tensor, weight_files
from .meta import ShapesOnly
from .original.names import DERIVED_BUFFERS, our_name, shared_bias_copies
from .original.names import key_mapping as original_mapping
from .quantise import correct_on_cpu, portable_kernels, quantised_layers, with_stored_quantisation

logger = logging.getLogger(__name__)
MAX_NAMED = 20  # tensors in a warning


@dataclass(frozen=True)
class Differences:
    """Between the tensors found and those that the model needs; `misshapen`: name, found, expected."""

    missing: list[str]
    unexpected: list[str]
    misshapen: list[tuple[str, list[int], list[int]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def summary(self) -> str:
        """One line."""
        return (
            f"{len(self.missing)} tensors missing, {len(self.unexpected)} unexpected, {len(self.misshapen)} misshapen"
        )

    def to_dict(self) -> dict[str, Any]:
        """As a JSON-serialisable dict."""
        return asdict(self)

    def refuse(self, folder: Path | str) -> None:
        """Raise TensorMismatch that lists all of them, if any."""
        problems = []
        if self.missing:
            problems.append(f"{len(self.missing)} missing: {', '.join(self.missing)}")
        if self.unexpected:
            problems.append(f"{len(self.unexpected)} unexpected: {', '.join(self.unexpected)}")
        if self.misshapen:
            shapes = [
                f"{name} (found {list(found)}, expected {list(wanted)})" for name, found, wanted in self.misshapen
            ]
            problems.append(f"{len(self.misshapen)} misshapen: {', '.join(shapes)}")
        if problems:
            raise TensorMismatch(
                f"{folder} does not contain the model that its config.json describes. "
                + "; ".join(problems)
                + ". Nothing was initialised in their place: fetch the checkpoint again or correct config.json."
            )


def load_strictly(
    cls: type[PreTrainedModel],
    folder: Path,
    config: VideoLlama2Config,
    *,
    variant: str | None = None,
    key_mapping: dict[str, str] | None = None,
    ignore_mismatched_sizes: bool = False,
    output_loading_info: bool = False,
    **kwargs: Any,
) -> Any:
    """`cls.from_pretrained` on a complete folder in our layout or the original's, with no tensor left over.

    Args:
        cls: the model class.
        folder: with config.json and safetensors.
        variant: in the weights' file names.
        key_mapping: regular expressions of tensor names and their replacements, applied before all else.
        ignore_mismatched_sizes: initialise tensors of another shape, and warn of each.
        output_loading_info: return (model, report); missing and unexpected tensors are then reported instead of raising
            an error, except in the original's layout.
        kwargs: as for transformers' from_pretrained (dtype, device_map, attn_implementation, quantization_config, …).

    Raises:
        TensorMismatch: tensors are missing, unexpected or of another shape; all are listed.
    """
    headers = read_headers(weight_files(folder, variant))
    names = {name: renamed(name, key_mapping) for name in headers}
    ours = original_mapping(names.values())
    mapping = {**(key_mapping or {}), **ours}
    duplicates = equal_copies(headers)
    config = with_stored_quantisation(cls, config, folder, [our_name(name) for name in names.values()])
    if not ignore_mismatched_sizes:  # transformers would first allocate what config.json claims
        Differences([], [], _misshapen(cls, config, headers, names)).refuse(folder)
    model, found, report = _from_pretrained(
        cls, folder, config, mapping, key_mapping=mapping or None, use_safetensors=True, variant=variant, **kwargs
    )
    # the trunk alone (AutoModel) has no head
    duplicates |= set() if hasattr(model, "lm_head") else {"lm_head.weight"}
    found = replace(found, unexpected=[name for name in found.unexpected if name not in duplicates])
    judge(found, folder, shapes=ignore_mismatched_sizes, names=output_loading_info and not ours)
    logger.info(
        "loaded %d tensors (%s parameters, %s) from %d file(s) in %s%s",
        len(headers),
        f"{sum(p.numel() for p in model.parameters()):,}",
        str(model.dtype).removeprefix("torch."),
        len({h.file for h in headers.values()}),
        folder,
        " in the original layout" if ours else "",
    )
    return (model, {**report, "unexpected_keys": set(found.unexpected)}) if output_loading_info else model


def load_state_dict(
    cls: type[PreTrainedModel],
    config: VideoLlama2Config,
    tensors: Mapping[str, Any],
    *,
    key_mapping: dict[str, str] | None = None,
    ignore_mismatched_sizes: bool = False,
    output_loading_info: bool = False,
    **kwargs: Any,
) -> Any:
    """A model from tensors in memory, in our layout or the original's; without any, a newly initialised one.

    Same arguments and errors as `load_strictly`.
    """
    ours = original_mapping([renamed(name, key_mapping) for name in tensors])
    mapping = {**(key_mapping or {}), **ours}
    model, found, report = _from_pretrained(
        cls, None, config, mapping, state_dict=dict(tensors), key_mapping=mapping or None, **kwargs
    )
    accepted = not tensors or (output_loading_info and not ours)
    judge(found, "the state dict", shapes=ignore_mismatched_sizes, names=accepted)
    return (model, report) if output_loading_info else model


def judge(found: Differences, where: str | Path, *, shapes: bool, names: bool) -> None:
    """Raise TensorMismatch for differences that the caller did not accept; warn of the others.

    Args:
        shapes, names: whether tensors of another shape, and missing or unexpected ones, are accepted.
    """
    Differences(
        [] if names else found.missing, [] if names else found.unexpected, [] if shapes else found.misshapen
    ).refuse(where)
    if found:
        fresh = [*found.missing, *(name for name, _, _ in found.misshapen)]
        named = ", ".join(fresh[:MAX_NAMED]) + (" …" if len(fresh) > MAX_NAMED else "")
        logger.warning("%s: %s; newly initialised: %s", where, found.summary(), named or "none")


def assemble(
    config: VideoLlama2Config,
    tensors: Mapping[str, Any],
    *,
    dtype: Any,
    cls: type[PreTrainedModel] = VideoLlama2ForConditionalGeneration,
    **kwargs: Any,
) -> tuple[Any, Differences]:
    """The model that `config` describes, made of `tensors`, and which of them did not fit.

    Args:
        tensors: under our names (experts of a mixture one by one, or joined); tensors or `LazyTensor`s.
        dtype: of the model.
        cls: the model class.
        kwargs: as transformers' from_pretrained; with device_map={"": "meta"} nothing is read.

    Raises:
        TensorMismatch: transformers could not load them at all.
    """
    model, found, _ = _from_pretrained(cls, None, config, {}, state_dict=dict(tensors), dtype=dtype, **kwargs)
    return model, found


def _from_pretrained(
    cls: type[PreTrainedModel], folder: Path | None, config: VideoLlama2Config, mapping: dict[str, str], **kwargs: Any
) -> tuple[Any, Differences, dict[str, Any]]:
    kwargs = correct_on_cpu(cls, config, kwargs)
    with quiet(), ShapesOnly():
        try:
            # the plain method, not the class's own, which leads here
            model, info = PreTrainedModel.from_pretrained.__func__(
                cls, folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except RuntimeError as error:
            if "conversion" not in str(error) or isinstance(error, VideoLlama2Error):
                raise
            where = folder or "the tensors do not make the model that config.json describes"
            raise TensorMismatch(f"{where}: {error}") from error
    forget_renamings(model, mapping)
    portable_kernels(model)
    info["unexpected_keys"] = {n for n in info["unexpected_keys"] if not DERIVED_BUFFERS.search(n)}
    found = Differences(
        sorted(info["missing_keys"]),
        sorted(info["unexpected_keys"]),
        sorted((name, list(found), list(expected)) for name, found, expected in info["mismatched_keys"]),
    )
    return model, found, info


def _misshapen(
    cls: type[PreTrainedModel], config: VideoLlama2Config, headers: dict[str, TensorInfo], names: dict[str, str]
) -> list[tuple[str, list[int], list[int]]]:
    """(our name, shape found, shape expected) of tensors that contradict the configuration.

    Args:
        names: of `headers`, as the caller's own key mapping renames them.
    """
    trunk = f"{cls.base_model_prefix}."  # which a trunk's own checkpoint does not write before its names
    with ShapesOnly(), torch.device("meta"):
        state = cls(config).state_dict()
    expected = {name.removeprefix(trunk): (name, list(tensor.shape)) for name, tensor in state.items()}
    packed = quantised_layers(our_name(name) for name in names.values())
    wrong = []
    for name, header in headers.items():
        ours = our_name(names[name])
        shown, shape = expected.get(ours.removeprefix(trunk), ("", list(header.shape)))
        if shape != list(header.shape) and ours.removesuffix(".weight") not in packed:
            wrong.append((shown, list(header.shape), shape))
    return sorted(wrong)


def renamed(name: str, mapping: Mapping[str, str] | None) -> str:
    """A tensor's name after the regular expressions of a `key_mapping`, each applied to the whole name."""
    for pattern, target in (mapping or {}).items():
        name = re.sub(pattern, target, name)
    return name


def equal_copies(headers: dict[str, TensorInfo]) -> set[str]:
    """Our names of the copies of BEATs' shared bias beyond the first, once they are known to be equal."""
    copies = shared_bias_copies(headers)
    if len(copies) < 2:
        return set()
    first = read_tensor(headers, copies[0])
    for name in copies[1:]:
        if not torch.equal(first, read_tensor(headers, name)):
            raise TensorMismatch(
                f"{name} differs from {copies[0]}, but BEATs shares one relative_attention_bias among its layers; "
                "the checkpoint is damaged, or belongs to another model."
            )
    return {n.replace("model.audio_tower.", "model.audio_encoder.") for n in copies[1:]} | set(copies[1:])


def forget_renamings(model: Any, mapping: dict[str, str]) -> None:
    """Save under our own names: transformers would save under those that were loaded."""
    conversions = getattr(model, "_weight_conversions", None)
    if conversions and mapping:
        ours = set(mapping)
        model._weight_conversions = [c for c in conversions if not ours & set(getattr(c, "source_patterns", ()))]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' load report and progress bar."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
