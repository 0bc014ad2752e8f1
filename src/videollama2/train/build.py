"""Sets up a run before its first step: the order of its records, and a model with the phase's parts trainable."""

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
from ..data.labels import dropped_turns
from ..data.mixture import MixtureOrder
from ..data.records import Record, missing_media, read_records
from ..device import Placement, choose
from ..errors import MediaNotFound, UsageError
from ..loading import load_network
from ..phases import Phase
from ..processing import VideoLlama2Processor
from ..weights import stages
from ..weights.grow import grow
from ..weights.locate import is_nano, locate
from ..weights.quantise import quantisation_config
from .adapters import add_lora
from .settings import Settings
from .strategy import Strategy

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The model, encoders and data of a run.

    Attributes:
        model: name or folder of the model to start from.
        data: records files to train on, optionally with a pool's name in front ("chat=talk.jsonl").
        evaluation: records files to evaluate on.
        base: name or folder of the base model, if `model` is a training stage.
        vision, audio: folders of encoders to add to a model without them.
        media_root: folder that media paths are relative to; None: the folder of each records file.
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
    """The records of a run and their order.

    Attributes:
        records: for training; `evaluation`: for evaluation.
        order: which records each step has.
        steps: of the whole run.
        digest: SHA-256 of records, batch, seed and mixture; a resumed run must have the same.
    """

    records: list[Record]
    evaluation: list[Record]
    order: MixtureOrder
    steps: int
    digest: str


@dataclass
class Network:
    """The model of a run, ready to train; `name` identifies what it started from."""

    model: Any
    processor: VideoLlama2Processor
    name: str
    learning: dict[str, list[torch.nn.Parameter]]
    placement: Placement


def read_data(sources: Sources, phase: Phase, settings: Settings) -> Data:
    """Read the records and determine their order.

    Raises:
        DataError: a file or record can't be parsed.
        MediaNotFound: media files are missing and `on_unreadable` is "error".
        UsageError: the mixture does not fit the pools of the data.
    """
    given = [_split_pool(each) for each in sources.data]
    pool_names = dict(given)
    options: dict[str, Any] = {"media_root": sources.media_root, "sound": phase.sound}
    records = read_records([path for path, _ in given], **options)  # rejects a file that is given twice
    pools: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        pools.setdefault((record.file and pool_names[record.file]) or record.kind, []).append(number)
    evaluation = read_records(sources.evaluation, **options) if sources.evaluation else []
    _check_media([*records, *evaluation], settings)
    _warn_of_idle_records(records, phase)
    _warn_of_dropped_turns(records, phase)
    if phase.batch > len(records):
        logger.warning(
            "a batch of %d exceeds the %d records, so each step repeats some; reduce --batch",
            phase.batch, len(records),
        )  # fmt: skip
    weights = _weights(phase, pools)
    order = MixtureOrder(pools, batch=phase.batch, seed=settings.seed, weights=weights)
    steps = phase.steps or max(1, math.ceil(phase.epochs * order.steps_per_epoch))
    digest = hashlib.sha256(f"{phase.batch} {settings.seed} {weights}".encode())
    for record in records:
        digest.update(repr((record.origin, record.conversation, record.media)).encode())
    return Data(records, evaluation, order, steps, digest.hexdigest())


def _split_pool(given: str) -> tuple[Path, str]:
    """A records file and its pool's name, "" if it has none; an existing path may contain an equals sign."""
    pool, equals, path = given.partition("=")
    return (Path(given), "") if not equals or Path(given).exists() else (Path(path), pool)


def _check_media(records: Sequence[Record], settings: Settings) -> None:
    """Raise MediaNotFound for missing media files, unless unreadable samples are skipped."""
    missing = missing_media(records)
    if not missing:
        return
    listed = ", ".join(f"{path} ({origin})" for origin, path in missing[:3]) + (" …" if missing[3:] else "")
    message = f"media of {len(missing)} of {len(records)} records not found: {listed}"
    if settings.on_unreadable == "error":
        raise MediaNotFound(
            f"{message}. Pass --media-root, remove the records (`videollama2 data doctor` writes a clean list), or use "
            "--on-unreadable skip"
        )
    logger.warning("%s; they will be skipped and counted", message)


def _warn_of_idle_records(records: Sequence[Record], phase: Phase) -> None:
    """Warn of records that reach no trainable part: they cost time and teach nothing."""
    if phase.learns & {"language_model", "lm_head"}:
        return
    reaching = set()
    if "connector" in phase.learns or "vision_encoder" in phase.learns:
        reaching |= {"av", "video", "image"}
    if phase.learns & {"audio_projector", "audio_encoder"}:
        reaching |= {"av", "audio"}
    idle = Counter(record.kind for record in records if record.kind not in reaching)
    if idle:
        found = ", ".join(f"{count} of kind {kind}" for kind, count in idle.items())
        logger.warning("some records (%s) do not train %s; remove them", found, ", ".join(sorted(phase.learns)))


def _warn_of_dropped_turns(records: Sequence[Record], phase: Phase) -> None:
    """Warn of turns before the first question, which the chat template has no place for."""
    found = [record.origin for record in records if phase.style == "chat" and dropped_turns(record.conversation)]
    if found:
        logger.warning(
            "%d of %d records begin with a gpt turn, which is dropped (%s%s); begin them with a question",
            len(found), len(records), ", ".join(found[:3]), " …" if found[3:] else "",
        )  # fmt: skip


def _weights(phase: Phase, pools: Mapping[str, list[int]]) -> dict[str, float] | None:
    if not phase.mixture:
        return None
    present = {name: share for name, share in phase.mixture.items() if pools.get(name)}
    absent, left = sorted(phase.mixture.keys() - present.keys()), sorted(pools.keys() - phase.mixture.keys())
    if not present or left:
        found = ", ".join(f"{name} ({len(pool)})" for name, pool in pools.items())
        raise UsageError(
            f"the mixture names {', '.join(phase.mixture)}, the data has {found}; set a share for each, e.g. --mixture "
            f"{','.join(f'{n}=1' for n in pools)}, or --mixture none"
        )
    if absent:
        logger.warning("no records of %s in the data; mixing %s alone", ", ".join(absent), ", ".join(present))
    return present


def build_network(sources: Sources, phase: Phase, settings: Settings, strategy: Strategy) -> Network:
    """Load the model, add adapters, make the phase's parts trainable in float32, and spread it over the processes.

    Raises:
        WeightsError: the model can't be loaded.
        UsageError: the phase trains a part that the model lacks.
    """
    device = strategy.processes.device
    placement = choose(str(device), PRECISIONS.get(phase.precision) or automatic(device))
    options: dict[str, Any] = {}
    if settings.quantise is not None:
        options["quantization_config"] = quantisation_config(settings.quantise, placement.dtype)
        options["device_map"] = {"": str(placement.device)}  # quantised weights can't be moved later
    folder, _ = locate(sources.model, sources.base)
    base = None if is_nano(sources.model) else sources.base
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
    strategy.prepare_model(model, autocast)
    if strategy.shards_weights:  # sharding replaced the parameters
        learning = phase.apply(model)
    name = str(folder.resolve()) if Path(sources.model).is_dir() else sources.model
    return Network(model, processor, name, learning, placement)


def processor_of(sources: Sources, config: VideoLlama2Config) -> VideoLlama2Processor:
    """The processor of a run's model, without reading weights; image settings are those of a new vision encoder."""
    folder, _ = locate(sources.model, sources.base)
    tokenizer = folder if stages.kind(folder) == "complete" else stages.tokenizer_folder(folder, sources.base)
    image_settings = folder if sources.vision is None else locate(sources.vision)[0]
    return VideoLlama2Processor.from_pretrained(image_settings, config=config, tokenizer_folder=tokenizer)


def automatic(device: torch.device) -> torch.dtype:
    """dtype of the arithmetic under precision "auto": bfloat16 on GPUs that support it, else float32.

    Never float16, which inference may use: small gradients would underflow.
    """
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if supported else torch.float32


def recompute_activations(model: Any, **options: Any) -> None:
    """Keep only the input of each of the language model's layers, and recompute the rest in the backward pass.

    `options` go to torch's `checkpoint`.
    """
    language = model.model.language_model
    # renamed after transformers 5.16; newer versions warn of the old name
    enable = getattr(language, "activation_checkpointing_enable", None) or language.gradient_checkpointing_enable
    enable({"use_reentrant": False, **options})
