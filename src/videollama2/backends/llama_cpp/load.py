"""`load(engine="llama.cpp")`: encoders in torch, the language model from a GGUF file."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...configuration import VideoLlama2Config
from ...device import Placement, choose, cpu_rates, set_up_cpu
from ...errors import CheckpointNotFound, TensorMismatch, UsageError
from ...hub import HubOptions
from ...linear import use_onednn
from ...weights import stages
from .context import Weights
from .decoder import LlamaCppDecoder
from .encoders import EncodersForGeneration, final_norm, known_weights, load_encoders
from .families import context_limit, family_of
from .header import GgufFile, check_belongs, read_gguf
from .quantise import TYPES, named_type

logger = logging.getLogger(__name__)

_BFLOAT16_GAIN = 1.2  # with quantised weights, whose rounding is larger than bfloat16's


def only_as_gguf(folder: Path) -> bool:
    """Whether a folder's language model is a GGUF file alone, as `convert --gguf` writes it."""
    if not any(folder.glob("*.gguf")) or stages.kind(folder) != "complete":
        return False
    return not any(name.startswith("model.language_model.") for name in stages.collect(folder).tensors)


def find_gguf(folder: Path, wanted: str | Path | None) -> Path:
    """The GGUF file to use.

    Args:
        folder: of the checkpoint.
        wanted: a file, or the type of one in the folder; None: the only one in the folder.

    Raises:
        CheckpointNotFound: there is no such file. UsageError: there are several.
    """
    if wanted is not None and (Path(wanted).is_file() or str(wanted).lower().endswith(".gguf")):
        return Path(wanted)
    there = sorted(folder.glob("*.gguf"))
    if wanted is not None:
        name = named_type(str(wanted))
        there = [file for file in there if f".{name}.".lower() in file.name.lower()]
    if len(there) > 1:
        raise UsageError(
            f"{folder} has several GGUF files ({', '.join(f.name for f in there)}); choose one with --gguf."
        )
    if not there:
        kind = named_type(str(wanted)) if wanted is not None else next(iter(TYPES))
        raise CheckpointNotFound(
            f"{folder} has no {'' if wanted is None else kind + ' '}GGUF file of its language model; write one with "
            f"`videollama2 convert MODEL DST --gguf {kind}` and pass --model DST."
        )
    return there[0]


def load_parts(
    folder: Path, base: str | Path | None, gguf: str | Path | None, device: Any, dtype: Any, options: HubOptions,
    **kwargs: Any,
) -> tuple[EncodersForGeneration, Path, LlamaCppDecoder, Placement]:  # fmt: skip
    """Encoders, the folder with the tokenizer, the decoder, and where the encoders run.

    Args:
        base: of a training stage.
        gguf: as for `find_gguf`.
        kwargs: settings of config.json; nothing else has a meaning here.

    Raises:
        UsageError: an argument that this engine does not take, or an unsupported language model.
        WeightsError: the file is damaged, or is another model's. MissingExtra: llama.cpp is missing.
    """
    collected = stages.collect(folder, base, options=options)
    if collected.config is None:
        raise UsageError(f"{folder} is a language model without encoders; expected a VideoLLaMA 2.")
    collected = replace(collected, config=_with_settings(collected.config, kwargs))
    config = collected.config
    assert config is not None
    family_of(config.text_config)
    file = read_gguf(find_gguf(folder, gguf))
    check_belongs(file, config.text_config, final_norm(collected.tensors), known_weights(collected))
    placement = _placement(file, dtype)
    weights = Weights(file)
    if weights.vocab_size != config.text_config.vocab_size:
        raise TensorMismatch(
            f"{file.path} has a vocabulary of {weights.vocab_size}, but config.json of {config.text_config.vocab_size}."
        )
    set_up_cpu(placement.device)
    network = load_encoders(collected, file, placement.dtype)
    use_onednn(network)
    limit = context_limit(config.text_config)
    decoder = LlamaCppDecoder(weights, threads=torch.get_num_threads(), max_positions=limit)
    complete = stages.kind(folder, options.variant) == "complete"
    tokenizer = folder if complete else stages.tokenizer_folder(folder, base, options)
    logger.info(
        "the language model is %s (%s), run by llama.cpp of xllamacpp %s",
        file.path,
        file.type_name,
        weights.library.version,
    )
    return network, tokenizer, decoder, placement


def _with_settings(config: VideoLlama2Config, settings: dict[str, Any]) -> VideoLlama2Config:
    unknown = [name for name in settings if name not in config.to_dict()]
    if unknown:
        raise UsageError(f"--engine llama.cpp takes no argument {unknown[0]!r}; drop it, or use --engine torch.")
    changed: VideoLlama2Config = type(config).from_dict({**config.to_dict(), **settings}) if settings else config
    return changed


def _placement(file: GgufFile, dtype: Any) -> Placement:
    """The encoders' dtype: bfloat16 where it is faster and the language model is quantised anyway."""
    exact = file.type_name in ("F32", "F16")
    if dtype in (None, "auto") and not exact and cpu_rates().bfloat16 >= _BFLOAT16_GAIN * cpu_rates().float32:
        gain = cpu_rates().bfloat16 / cpu_rates().float32
        reason = f"bfloat16 products measured at {gain:.1f} times the speed of float32; the language model is quantised"
        logger.info("encoders run on cpu in bfloat16 (%s)", reason)
        return Placement(torch.device("cpu"), torch.bfloat16, reason)
    return choose("cpu", dtype)
