"""From a name or a folder to a model with every tensor accounted for (spec §2, §3)."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from ..configuration import VideoLlama2Config
from ..errors import CheckpointNotFound, TensorMismatch, VideoLlama2Error
from .files import TensorInfo, read_headers, read_tensor, weight_files
from .original.names import DERIVED_BUFFERS, key_mapping, our_name, shared_bias_copies

logger = logging.getLogger(__name__)


def find_folder(name: str | Path) -> Path:
    """The local folder of a checkpoint: a path, or a hub id whose files are in the local cache or can be fetched.

    Only configuration, tokenizer and safetensors files are fetched, never code and never pickles.

    Raises:
        CheckpointNotFound: neither.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise CheckpointNotFound(f"{folder} is a file; expected a checkpoint folder with a config.json")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja"]))
    except (OSError, HFValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointNotFound(
            f"no checkpoint {str(name)!r}: not a local folder, not in the hub cache, and not to be fetched ({reason}). "
            "Give a folder, or run `videollama2 info` for the names that are built in"
        ) from None


def load_strictly(
    cls: type[PreTrainedModel],
    folder: Path,
    config: VideoLlama2Config | None,
    *,
    ignored_keys: tuple[str, ...] = (),
    **kwargs: Any,
) -> Any:
    """`cls.from_pretrained` on a complete folder in our layout or the original's, and nothing left over.

    Args:
        cls: the model class.
        folder: with config.json and safetensors.
        config: replaces the folder's own.
        ignored_keys: unknown keys of config.json that the caller knows to be notes.
        kwargs: as transformers' from_pretrained (dtype, device_map, attn_implementation, quantization_config, …).

    Raises:
        TensorMismatch: tensors are missing, unexpected or of another shape; all are listed.
    """
    headers = read_headers(weight_files(folder))
    mapping = key_mapping(headers)
    duplicates = equal_copies(headers)
    if config is None:
        if not (folder / "config.json").is_file():
            raise CheckpointNotFound(f"{folder} has no config.json; is it a checkpoint folder?")
        config = VideoLlama2Config.from_pretrained(folder, ignored_keys=ignored_keys)
    refuse(folder, [], [], misshapen(cls, config, headers))
    with quiet():
        try:
            # the plain method, not the class's own, which leads here
            model, info = PreTrainedModel.from_pretrained.__func__(
                cls,
                folder,
                config=config,
                key_mapping=mapping or None,
                output_loading_info=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                **kwargs,
            )
        except VideoLlama2Error:
            raise
        except (RuntimeError, ValueError) as error:
            raise TensorMismatch(f"{folder}: {error}") from error
    # the trunk alone (AutoModel) has no use for a whole model's head
    duplicates |= set() if hasattr(model, "lm_head") else {"lm_head.weight"}
    unexpected = [n for n in info["unexpected_keys"] if n not in duplicates and not DERIVED_BUFFERS.search(n)]
    refuse(folder, sorted(info["missing_keys"]), sorted(unexpected), sorted(info["mismatched_keys"]))
    forget_renamings(model, mapping)
    logger.info(
        "loaded %d tensors (%s parameters, %s) from %d file(s) in %s%s",
        len(headers),
        f"{sum(p.numel() for p in model.parameters()):,}",
        str(model.dtype).removeprefix("torch."),
        len({h.file for h in headers.values()}),
        folder,
        " in the original layout" if mapping else "",
    )
    return model


def misshapen(
    cls: type[PreTrainedModel], config: VideoLlama2Config, headers: dict[str, TensorInfo]
) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """(our name, shape found, shape expected) of tensors that contradict the configuration.

    Known before any memory is taken: transformers would first make room for what config.json claims.
    """
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in cls(config).state_dict().items()}
    found = {our_name(name): header.shape for name, header in headers.items()}
    return [(n, found[n], expected[n]) for n in sorted(found.keys() & expected.keys()) if found[n] != expected[n]]


def equal_copies(headers: dict[str, TensorInfo]) -> set[str]:
    """Our names of BEATs bias copies beyond the first, after seeing that they are equal."""
    copies = shared_bias_copies(headers)
    if len(copies) < 2:
        return set()
    first = read_tensor(headers, copies[0])
    for name in copies[1:]:
        if not torch.equal(first, read_tensor(headers, name)):
            raise TensorMismatch(
                f"{name} differs from {copies[0]}, but BEATs shares one relative_attention_bias among its layers; "
                "the checkpoint is damaged or of another model"
            )
    return {n.replace("model.audio_tower.", "model.audio_encoder.") for n in copies[1:]} | set(copies[1:])


def refuse(folder: Path | str, missing: list[str], unexpected: list[str], mismatched: list[Any]) -> None:
    """Raise TensorMismatch with every difference between a checkpoint and its model; nothing when there is none."""
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing: {_listed(missing)}")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected: {_listed(unexpected)}")
    if mismatched:
        shapes = [f"{m[0]} (found {list(m[1])}, expected {list(m[2])})" for m in mismatched]
        problems.append(f"{len(mismatched)} of another shape: {_listed(shapes)}")
    if problems:
        raise TensorMismatch(
            f"{folder} does not hold the model that its config.json describes. "
            + "; ".join(problems)
            + ". Nothing was initialised in their place: fetch the checkpoint again or correct config.json"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def forget_renamings(model: Any, mapping: dict[str, str]) -> None:
    """transformers would save under the names that were loaded; we save under our own, and export on request."""
    conversions = getattr(model, "_weight_conversions", None)
    if conversions and mapping:
        ours = set(mapping)
        model._weight_conversions = [c for c in conversions if not ours & set(getattr(c, "source_patterns", ()))]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers' own load report and bar are replaced by one line, or one error, of ours."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
