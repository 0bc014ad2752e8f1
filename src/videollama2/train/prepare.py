"""What a run needs before its first step: records in an order, and a model whose parts learn."""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..configuration import VideoLlama2Config
from ..data.mixture import Plan
from ..data.records import Record, missing_media, read_records
from ..device import Placement, choose
from ..errors import MediaNotFound, UsageError
from ..loading import DEFAULT_MODEL, load_network, locate
from ..phases import Phase
from ..processing import VideoLlama2Processor
from ..weights import adapters
from ..weights.grow import grow
from ..weights.quantise import quantisation_config
from .adapters import add_lora
from .parallel import Processes, recompute_activations
from .settings import Settings

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a run takes things from.

    Attributes:
        model: name or folder of the model to start from; `base` of it, where it is a stage.
        vision, audio: encoders' folders, where the model has none.
        data: records files, each perhaps with a pool's name in front ("chat=talk.jsonl").
        evaluation: records files that are only measured on.
        media_root: what media paths are relative to; None: the folder of each file.
    """

    model: str
    data: tuple[str, ...]
    evaluation: tuple[str, ...] = ()
    base: str | None = None
    vision: str | None = None
    audio: str | None = None
    media_root: Path | None = None


@dataclass
class Data:
    """The records of a run, the order in which they are seen, and those that are measured on."""

    records: list[Record]
    evaluation: list[Record]
    plan: Plan
    steps: int
    digest: str


@dataclass
class Network:
    """The model of a run, ready to learn."""

    model: Any
    processor: VideoLlama2Processor
    name: str
    learning: dict[str, list[torch.nn.Parameter]]
    placement: Placement


def read_data(sources: Sources, phase: Phase, settings: Settings) -> Data:
    """Read the records and plan their order.

    Raises:
        DataError: a file or record can't be understood.
        MediaNotFound: media of records are not there (an error only where `on_unreadable` is "error").
        UsageError: the mixture names a pool that the data does not have.
    """
    given = [_named(each) for each in sources.data]
    named = dict(given)
    options: dict[str, Any] = {"media_root": sources.media_root, "sound": phase.sound}
    records = read_records([path for path, _ in given], **options)  # which refuses a file that is given twice
    pools: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        pools.setdefault((record.file and named[record.file]) or record.kind, []).append(number)
    evaluation = read_records(sources.evaluation, **options) if sources.evaluation else []
    refuse_missing([*records, *evaluation], settings)
    _warn_of_idle(records, phase)
    if phase.batch > len(records):
        logger.warning(
            "a batch of %d is more than the %d records: each step shows some of them twice. Say a smaller --batch",
            phase.batch, len(records),
        )  # fmt: skip
    weights = _weights(phase, pools)
    plan = Plan(pools, batch=phase.batch, seed=settings.seed, weights=weights)
    steps = phase.steps or max(1, math.ceil(phase.epochs * plan.steps_per_epoch))
    told = hashlib.sha256(f"{phase.batch} {settings.seed} {weights}".encode())
    for record in records:
        told.update(repr((record.origin, record.conversation, record.media)).encode())
    return Data(records, evaluation, plan, steps, told.hexdigest())


def _named(given: str) -> tuple[Path, str]:
    """A records file, and its pool's name if it was given one; a path may have an equals sign of its own."""
    pool, equals, path = given.partition("=")
    return (Path(given), "") if not equals or Path(given).exists() else (Path(path), pool)


def refuse_missing(records: Sequence[Record], settings: Settings) -> None:
    """Raise MediaNotFound for media that are not there, unless unreadable samples are to be skipped."""
    lost = missing_media(records)
    if not lost:
        return
    listed = ", ".join(f"{path} ({origin})" for origin, path in lost[:3])
    message = f"{len(lost)} of {len(records)} records name media that are not there: {listed}{' …' if lost[3:] else ''}"
    if settings.on_unreadable == "error":
        raise MediaNotFound(
            f"{message}. Give --media-root, take them out (`videollama2 data doctor` writes a clean list), or say "
            "--on-unreadable skip"
        )
    logger.warning("%s; they will be skipped and counted", message)


def _warn_of_idle(records: Sequence[Record], phase: Phase) -> None:
    """Say which records meet nothing that learns: they cost time and teach nothing."""
    if phase.learns & {"language_model", "lm_head"}:
        return
    met = set()
    if "connector" in phase.learns or "vision_encoder" in phase.learns:
        met |= {"av", "video", "image"}
    if phase.learns & {"audio_projector", "audio_encoder"}:
        met |= {"av", "audio"}
    idle = Counter(record.kind for record in records if record.kind not in met)
    if idle:
        found = ", ".join(f"{count} of kind {kind}" for kind, count in idle.items())
        logger.warning("%s learn from none of %s; leave them out", ", ".join(sorted(phase.learns)), found)


def _weights(phase: Phase, pools: Mapping[str, list[int]]) -> dict[str, float] | None:
    if not phase.mixture:
        return None
    present = {name: share for name, share in phase.mixture.items() if pools.get(name)}
    absent, left = sorted(phase.mixture.keys() - present.keys()), sorted(pools.keys() - phase.mixture.keys())
    if not present or left:
        found = ", ".join(f"{name} ({len(pool)})" for name, pool in pools.items())
        raise UsageError(
            f"the mixture has {', '.join(phase.mixture)}, the data {found}; say how much of each there should be, e.g. "
            f"--mixture {','.join(f'{n}=1' for n in pools)}, or --mixture none"
        )
    if absent:
        logger.warning("the data has no %s; the mixture is of %s", ", ".join(absent), ", ".join(present))
    return present


def prepare(sources: Sources, phase: Phase, settings: Settings, processes: Processes) -> Network:
    """Load the model, put adapters on it, and let the phase's parts learn, in float32.

    Raises:
        WeightsError: the model can't be loaded.
        UsageError: the phase trains what the model does not have.
    """
    placement = choose(str(processes.device), PRECISIONS.get(phase.precision) or automatic(processes.device))
    options: dict[str, Any] = {}
    if settings.quantise is not None:
        options["quantization_config"] = quantisation_config(settings.quantise, placement.dtype)
        options["device_map"] = {"": str(placement.device)}  # what is quantised is not moved afterwards
    folder, _ = locate(sources.model, sources.base)
    base = None if sources.model == DEFAULT_MODEL else sources.base
    if sources.vision is None and sources.audio is None:
        model, _ = load_network(folder, base, placement.dtype, **options)
    else:
        added: dict[str, Any] = {"vision": sources.vision, "audio": sources.audio, "seed": settings.seed}
        model = grow(folder, base=base, dtype=placement.dtype, **added, **options)
    if settings.quantise is None:
        model.to(placement.device)
    processor = processor_of(sources, model.config)
    if settings.lora_rank:
        add_lora(model, settings)
    learning = phase.apply(model)
    for parameters in learning.values():
        for parameter in parameters:
            parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        recompute_activations(model)
    autocast = placement.dtype if placement.dtype is not torch.float32 else None
    processes.shard(model, autocast)
    if processes.world > 1:  # sharding replaced the parameters
        learning = phase.apply(model)
    name = str(folder.resolve()) if Path(sources.model).is_dir() else sources.model
    return Network(model, processor, name, learning, placement)


def processor_of(sources: Sources, config: VideoLlama2Config) -> VideoLlama2Processor:
    """The processor of a run's model, from files other than weights: pictures as a new vision encoder has them."""
    folder, _ = locate(sources.model, sources.base)
    tokenizer = folder if adapters.kind(folder) == "complete" else adapters.tokenizer_folder(folder, sources.base)
    looked_with = folder if sources.vision is None else adapters.resolve(sources.vision)
    return VideoLlama2Processor.from_pretrained(looked_with, config=config, tokenizer_folder=tokenizer)


def automatic(device: torch.device) -> torch.dtype:
    """Number format of the arithmetic where nothing is asked for: bfloat16 on GPUs that have it, else float32.

    Never float16, in which answering may run: small gradients would be zero.
    """
    has = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has else torch.float32
