"""`videollama2.load`: a name or a folder → an Engine."""

import logging
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .device import Placement, choose, dtype_is_free, find, set_up_cpu, within_memory
from .engine import Engine
from .errors import MissingExtra, UsageError, VideoLlama2Error
from .generation import fp16_linear
from .generation.decoder import Decoder
from .hub import DEFAULTS, HubOptions
from .lean_imports import uncollected
from .linear import use_onednn
from .media import open_clip
from .media.worker import WorkerPool
from .modeling import VideoLlama2ForConditionalGeneration
from .processing import VideoLlama2Processor
from .protocols import Protocol
from .weights import stages
from .weights.locate import locate
from .weights.nano_cache import DEFAULT_MODEL, is_nano

logger = logging.getLogger(__name__)
LLAMA_CPP = "llama.cpp"
ENGINES = ("torch", LLAMA_CPP)


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    device: Any = None,
    dtype: Any = None,
    protocol: str | Protocol | None = None,
    base: str | Path | None = None,
    fp16_weights: bool = False,
    engine: str | None = None,
    gguf: str | Path | None = None,
    isolate: bool | WorkerPool = False,
    **kwargs: Any,
) -> Engine:
    """Load a model; returns an engine that is ready to answer.

    Args:
        model: `nano` (the default, small and built in), a released model's name (`2.1-7b-av`), a hub id, or a folder
            in our layout or the original's; also a folder of a training stage (a projector or LoRA adapter).
        device: `cpu`, `cuda`, `mps`; None: the best one here.
        dtype: `float32`, `bfloat16`, `float16`; None: the fastest here. Both choices are logged with their reason.
        protocol: how media are prepared (protocols.py); None: the model's own.
        base: base language model of nano or of a training stage; None: the recorded one.
        fp16_weights: on a CPU, store 16-bit weights as float16 and compute in float32 (generation/fp16_linear.py):
            half the memory once loaded, up to twice the tokens per second, the same results. Loading takes longer, by
            about the time of two hundred tokens. If no dtype is given, the model then runs in float32, even on a CPU
            with bfloat16 instructions. A warning is logged if it has no effect.
        engine: what runs the language model: `torch`, or `llama.cpp` from a GGUF file (docs/scale.md); None: torch,
            unless the folder has the language model as GGUF only.
        gguf: for llama.cpp: the file, or the type (`Q4_K_M`) of the one in the folder; None: the folder's only one.
        isolate: decode media in worker processes: a file that hangs or crashes its decoder only raises an error for
            that file. Pass your own WorkerPool to set their number and limits.
        kwargs: as in transformers (revision, cache_dir, token, attn_implementation, quantization_config,
            device_map, …), and settings of config.json (num_frames, …).

    Raises:
        CheckpointNotFound: no such model.
        UnknownArgument: an unknown argument.
        UsageError: fp16_weights with a dtype other than float32, on a CPU; an argument that the engine does not take.
        WeightsError: the files do not contain the model that they describe.
        MissingExtra: an argument needs a package that is not installed.
    """
    if "pack" in kwargs:
        warnings.warn("load(pack=) is now load(fp16_weights=)", DeprecationWarning, stacklevel=2)
        fp16_weights = kwargs.pop("pack")
    if engine == LLAMA_CPP:
        _check_on_cpu(device)  # before `choose`, whose error would be about the GPU
    if not fp16_weights and (not dtype_is_free(dtype) or device not in (None, "auto")):
        choose(device, dtype)  # an impossible request fails before anything is fetched
    options = HubOptions.take(kwargs)
    folder, name = locate(model, base, options)
    options = replace(options.for_another(), variant=options.variant)  # what is left to fetch: the base of a stage
    stage_base = None if is_nano(model) else base
    decoder: Decoder | None = None
    if _uses_llama_cpp(engine, gguf, folder):
        _check_on_cpu(device)
        if fp16_weights:
            raise UsageError("fp16_weights is for --engine torch; a GGUF file has its own number format.")
        from .backends.llama_cpp.load import load_parts  # an extra

        network, tokenizer_folder, decoder, placement = load_parts(
            folder, stage_base, gguf, device, dtype, options, **kwargs
        )
    else:
        if fp16_weights:
            fp16_weights, dtype = _fp16_weights(device, dtype)
        placement, stored = choose(device, dtype), None
        if dtype_is_free(dtype) and not fp16_weights and not kwargs:
            placement, fp16_weights = within_memory(placement, stages.count_parameters(folder, stage_base, options))
            stored = torch.bfloat16 if fp16_weights else None  # float32 is never whole
        network, tokenizer_folder = _torch_network(
            folder, stage_base, replace(placement, dtype=stored or placement.dtype), options, fp16_weights, kwargs
        )
    if not (folder / "config.json").is_file():  # an adapter: PEFT saves nothing else
        folder = tokenizer_folder
    processor = VideoLlama2Processor.from_pretrained(folder, config=network.config, tokenizer_folder=tokenizer_folder)
    media = WorkerPool() if isolate is True else isolate
    opener = media.open_clip if media else open_clip
    return Engine(
        network, processor, name=name, placement=placement, default_protocol=protocol, opener=opener, decoder=decoder
    )


def _check_on_cpu(device: str | torch.device | None) -> None:
    if str(device or "auto") not in ("auto", "cpu"):
        raise UsageError(f"--engine llama.cpp runs on the CPU, but device is {device}; drop it, or use --engine torch.")


def _uses_llama_cpp(engine: str | None, gguf: str | Path | None, folder: Path) -> bool:
    """Whether llama.cpp runs the language model.

    Raises:
        UsageError: an unknown engine, or a GGUF file for torch.
    """
    if engine not in (None, *ENGINES):
        raise UsageError(f"unknown engine {engine!r}; expected one of {', '.join(ENGINES)}.")
    if engine == LLAMA_CPP or (engine is None and gguf is not None):
        return True
    if gguf is not None:
        raise UsageError(f"--gguf is for --engine {LLAMA_CPP}, but the engine is {engine}; drop one of the two.")
    if not any(folder.glob("*.gguf")):
        return False
    from .backends.llama_cpp.load import only_as_gguf  # an extra

    only = only_as_gguf(folder)
    if only and engine is not None:
        raise UsageError(f"{folder} has its language model as GGUF only; use --engine {LLAMA_CPP}")
    return only


def _torch_network(
    folder: Path,
    base: str | Path | None,
    placement: Placement,
    options: HubOptions,
    fp16_weights: bool,
    kwargs: dict[str, Any],
) -> tuple[VideoLlama2ForConditionalGeneration, Path]:
    """The whole model where it runs, and the folder that has its tokenizer."""
    set_up_cpu(placement.device)
    placed = "device_map" in kwargs
    if not placed and placement.device.type != "cpu" and find_spec("accelerate"):  # load onto the device directly
        kwargs["device_map"], placed = {"": str(placement.device)}, True
    with uncollected():
        network, tokenizer_folder = load_network(folder, base, placement.dtype, options, **kwargs)
    if not placed and not getattr(network, "is_quantized", False):  # which transformers placed, and does not move
        network.to(placement.device)
    if fp16_weights:
        converted = fp16_linear.convert_linears(network, widen=placement.dtype == torch.bfloat16)
        if converted:
            logger.info("%d linear layers store their weights in float16", converted)
        else:
            logger.warning("fp16_weights has no effect: no linear layer has weights that float16 represents exactly")
    return network, tokenizer_folder


def _fp16_weights(device: Any, dtype: Any) -> tuple[bool, Any]:
    """Whether weights can be stored as float16 here, and the dtype to run in.

    Raises:
        UsageError: a dtype was requested that fp16_weights contradicts.
    """
    kind = find(device).type
    if kind != "cpu":
        logger.warning("fp16_weights has no effect on %s: it is for CPUs", kind)
        return False, dtype
    if not fp16_linear.available():
        logger.warning("fp16_weights has no effect: this torch lacks FBGEMM, which it requires")
        return False, dtype
    if dtype not in (None, "auto", "float32", "fp32", torch.float32):
        raise UsageError(
            f"fp16_weights computes in float32, but dtype is {str(dtype).removeprefix('torch.')}; drop one of the two."
        )
    return True, "float32"


def load_network(
    folder: Path,
    base: str | Path | None,
    dtype: Any,
    options: HubOptions = DEFAULTS,
    **kwargs: Any,
) -> tuple[VideoLlama2ForConditionalGeneration, Path]:
    """The model in a folder of any kind, and the folder that has its tokenizer.

    Raises:
        WeightsError, MissingExtra: as `load`.
    """
    try:
        network = stages.load(folder, base, dtype=dtype, options=options, **kwargs)
    except VideoLlama2Error:
        raise
    except ImportError as error:  # of a package that an argument needs: flash attention, a quantisation
        raise MissingExtra(f"{error} Install that package, or drop the argument that requires it.") from error
    use_onednn(network)
    complete = stages.kind(folder, options.variant) == "complete"
    return network, folder if complete else stages.tokenizer_folder(folder, base, options)
