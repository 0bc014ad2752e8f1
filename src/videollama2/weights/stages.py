"""Folders of training stages: a few trained tensors that complete a base model (spec §2.1, §3.3).

    pretrain    mm_projector, mm_projector_a or audio_tower, and a config.json
    lora        adapter_config.json, adapter_model, and non_lora_trainables
    complete    everything; no base

The base is a language model, or any of the three kinds itself. config.json (`_name_or_path`) or the caller names it.
Nothing is guessed from a folder's name, and a missing tensor is an error, never initialised randomly.
"""

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from transformers import GenerationConfig

from ..configuration import VideoLlama2Config, read_json
from ..errors import CheckpointNotFound, ConfigError, TensorMismatch, UsageError
from ..hub import DEFAULTS, HubOptions, find_folder
from ..modeling import VideoLlama2ForConditionalGeneration
from ..phases import PARTS
from ..storage import work_folder
from .encoders import audio_encoder_tensors, vision_encoder_tensors
from .files import (
    LazyTensor,
    has_weights,
    on_disk,
    read_headers,
    refuse_pickles,
    weight_files,
)
from .locate import locate
from .lora import CONFIG as LORA_CONFIG
from .lora import apply_lora, plain_name
from .original.names import DERIVED_BUFFERS, is_original, our_name
from .quantise import quantised_layers
from .strict import assemble, equal_copies, quiet

logger = logging.getLogger(__name__)

Kind = Literal["complete", "pretrain", "lora"]
# file of a pretrain folder → the part of the model in it (phases.PARTS)
STAGE_FILES = {"mm_projector": "connector", "mm_projector_a": "audio_projector", "audio_tower": "audio_encoder"}

# part of the model → (prefix in a state dict, how to supply it)
_PARTS = {
    "vision encoder": ("model.vision_encoder.", "pass its folder as vision= (Python) or --vision (`merge`)"),
    "connector": ("model.connector.", "it should be in mm_projector.safetensors, or in the base"),
    "audio encoder": ("model.audio_encoder.", "pass its folder as audio= (Python) or --audio (`merge`)"),
    "audio projector": ("model.audio_projector.", "it should be in mm_projector_a.safetensors, or in the base"),
    "language model": ("model.language_model.", "pass a base with a language model as base= (--base)"),
}
_TOKENIZER = (
    "*.model",
    "*.jinja",
    "*.txt",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)


@dataclass(frozen=True)
class Collected:
    """A model's configuration and its tensors, unread, under our names.

    `config` is None for a bare language model. `folders` are those that were searched, the topmost first.
    """

    config: VideoLlama2Config | None
    tensors: dict[str, LazyTensor]
    folders: tuple[Path, ...]


def kind(folder: str | Path, variant: str | None = None) -> Kind:
    """The kind of a checkpoint folder, by its files and config.json; `variant`: in the weights' file names."""
    folder = Path(folder)
    if (folder / LORA_CONFIG).is_file():
        return "lora"
    if has_weights(folder, variant):
        return "complete"
    named = {p.stem for p in folder.iterdir() if p.suffix in (".safetensors", ".bin")} if folder.is_dir() else set()
    if named & set(STAGE_FILES):
        return "pretrain"
    config = folder / "config.json"
    return "pretrain" if config.is_file() and read_json(config).get("tune_mm_mlp_adapter") else "complete"


def load(
    folder: str | Path,
    base: str | Path | None = None,
    *,
    vision: str | Path | None = None,
    audio: str | Path | None = None,
    dtype: Any = "auto",
    ignored_keys: tuple[str, ...] = (),
    options: HubOptions = DEFAULTS,
    **kwargs: Any,
) -> VideoLlama2ForConditionalGeneration:
    """A complete model from a folder of any kind; a pretrain or lora folder completes its base.

    Args:
        folder: any name that `locate` takes.
        base: any such name of a language model or a VideoLLaMA 2; None: the one that config.json names.
        vision: folder or hub id of the vision encoder, if the base has none.
        audio: folder of an audio encoder, if neither `folder` nor the base has one.
        dtype: of the model; "auto": config.json's, or that of the base's tensors.
        ignored_keys: unknown keys of config.json to drop unread.
        options: of hub ids; the revision is `folder`'s alone.
        kwargs: as for `from_pretrained`.

    Raises:
        CheckpointNotFound: a folder is missing, or has only pickles.
        ConfigError: no base is named, or a file describes another kind of model.
        TensorMismatch: a tensor is missing, unexpected or misshapen.
        UsageError: a complete model was given a base or an encoder.
    """
    folder, _ = locate(folder, options=options)
    if kind(folder, options.variant) == "complete":
        if any(given is not None for given in (base, vision, audio)):
            raise UsageError(f"{folder} is a complete model; it takes no base and no separate encoders.")
        whole: VideoLlama2ForConditionalGeneration = VideoLlama2ForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, ignored_keys=ignored_keys, variant=options.variant, **kwargs
        )
        return whole.eval()
    collected = collect(folder, base, vision=vision, audio=audio, ignored_keys=ignored_keys, options=options)
    return build(collected, dtype, kwargs)


def build(collected: Collected, dtype: Any, kwargs: dict[str, Any]) -> VideoLlama2ForConditionalGeneration:
    """The model built from the collected tensors, every one accounted for. Same arguments and errors as `load`."""
    folder, config = collected.folders[0], collected.config
    assert config is not None  # collecting refuses a stage without one
    _check_parts(folder, config, collected.tensors)
    model, differences = assemble(config, collected.tensors, dtype=_dtype(dtype, config, collected.tensors), **kwargs)
    differences.refuse(folder)
    take_generation_config(model, collected.folders)
    logger.info("loaded %d tensors from %s", len(collected.tensors), " over ".join(map(str, collected.folders)))
    return model.eval()


def count_parameters(folder: Path, base: str | Path | None, options: HubOptions = DEFAULTS) -> int:
    """Numbers in the model's tensors, by their headers; 0 for quantised ones, which say nothing about dtypes."""
    if kind(folder, options.variant) == "complete":
        headers = read_headers(weight_files(folder, options.variant))
        return 0 if quantised_layers(headers) else sum(math.prod(header.shape) for header in headers.values())
    return sum(math.prod(tensor.shape) for tensor in collect(folder, base, options=options).tensors.values())


def tokenizer_folder(folder: str | Path, base: str | Path | None = None, options: HubOptions = DEFAULTS) -> Path:
    """The topmost of a stage's folders (itself, its base, …) that has a tokenizer.

    Raises:
        CheckpointNotFound: no tokenizer in any of them.
    """
    folder, _ = locate(folder, options=options)
    folders = [folder]
    while (found := kind(folders[-1])) != "complete":
        folders.append(_base_folder(folders[-1], base if len(folders) == 1 else None, found, options))
    for candidate in folders:
        if any((candidate / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
            return candidate
    raise CheckpointNotFound(f"no tokenizer in {' nor in '.join(map(str, folders))}; fetch tokenizer.json or .model.")


def merge(
    folder: str | Path,
    target: str | Path,
    base: str | Path | None = None,
    *,
    vision: str | Path | None = None,
    audio: str | Path | None = None,
    dtype: Any = "auto",
) -> Path:
    """One complete folder in our layout of the model that `load` would build, with its tokenizer files.

    Raises:
        UsageError: `target` exists and is not empty.
        WeightsError: see `load`.
    """
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty folder; choose another.")
    folder, _ = locate(folder)
    if kind(folder) == "complete":
        raise UsageError(f"{folder} is already a complete model; there is nothing to merge.")
    collected = collect(folder, base, vision=vision, audio=audio)
    model = build(collected, dtype, {})
    with work_folder(target) as work:
        new = work / "new"
        with quiet():
            model.save_pretrained(new)
        for file in new.glob("*.safetensors"):
            file.chmod(0o644)  # safetensors creates files that only their owner can read
        for source in collected.folders:
            for pattern in _TOKENIZER:
                for file in source.glob(pattern):
                    if not (new / file.name).exists():
                        shutil.copyfile(file, new / file.name)
        if target.exists():
            target.rmdir()
        new.rename(target)
    return target


def collect(
    folder: Path,
    base: str | Path | None = None,
    *,
    vision: str | Path | None = None,
    audio: str | Path | None = None,
    ignored_keys: tuple[str, ...] = (),
    options: HubOptions = DEFAULTS,
) -> Collected:
    """Every tensor of the model, located but not read. Same arguments and errors as `load`."""
    found = kind(folder)
    if found == "complete":
        return _complete(folder, ignored_keys)
    config = read_config(folder, ignored_keys) if (folder / "config.json").is_file() else None
    below_folder = _base_folder(folder, base, found, options)
    below = collect(
        below_folder, None, vision=vision, audio=audio, ignored_keys=ignored_keys, options=options.for_another()
    )
    config = config or below.config
    if config is None:
        raise ConfigError(f"{folder}: no config.json, and its base {below.folders[0]} is only a language model.")
    tensors = _without_absent_parts(below.tensors, config)
    tensors |= _vision_encoder(folder, config, tensors, vision) | _audio_encoder(config, tensors, audio)
    if found == "lora":
        tensors = apply_lora(folder, read_json(folder / LORA_CONFIG), tensors)
    tensors |= _stage_tensors(folder, needed=found == "pretrain")
    return Collected(config, tensors, (folder, *below.folders))


def read_part(folder: str | Path, part: str) -> dict[str, Tensor]:
    """The state dict of one part of a checkpoint in any layout; no other tensor is read.

    Args:
        folder: any name that `locate` takes; also a training stage, which needs no base for the parts in its own files.
        part: a key of `phases.PARTS`, such as `connector` or `audio_projector`.

    Raises:
        CheckpointNotFound: no such folder. TensorMismatch: it has no such part.
    """
    folder, _ = locate(folder)
    tensors = _stage_tensors(folder, needed=True) if kind(folder) == "pretrain" else collect(folder).tensors
    prefix = PARTS[part]
    found = {name.removeprefix(prefix): tensor[...] for name, tensor in tensors.items() if name.startswith(prefix)}
    if not found:
        raise TensorMismatch(f"{folder} has no tensors of the {part}.")
    return found


def _complete(folder: Path, ignored_keys: tuple[str, ...]) -> Collected:
    headers = read_headers(weight_files(folder))
    if quantised_layers(headers):
        raise UsageError(f"{folder} is quantised; a stage or an adapter can be merged only into unquantised weights.")
    equal_copies(headers)
    values = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    is_language_model = not str(values.get("model_type", "")).startswith("videollama2")
    config = None if is_language_model else read_config(folder, ignored_keys)
    rename = our_name if is_language_model or is_original(headers) else lambda name: name
    kept = {n: h for n, h in headers.items() if not DERIVED_BUFFERS.search(n)}
    return Collected(config, on_disk(kept, rename), (folder,))


def named_base(folder: Path) -> str | None:
    """The base model that a stage's files name; None for a complete folder, or if they don't name one."""
    found = kind(folder)
    if found == "complete":
        return None
    base = read_json(folder / "config.json").get("_name_or_path") if (folder / "config.json").is_file() else None
    if not base and found == "lora":
        base = read_json(folder / LORA_CONFIG).get("base_model_name_or_path")
    return str(base) if base else None


def _base_folder(folder: Path, base: str | Path | None, found: Kind, options: HubOptions) -> Path:
    base = named_base(folder) if base is None else base
    if base is None:
        raise ConfigError(
            f"{folder} is a {found} stage, not a whole model, and its config.json names no base (_name_or_path); "
            "pass the base model's folder as base= (--base)."
        )
    try:
        below, _ = locate(base, options=options.for_another())
    except CheckpointNotFound as error:
        raise CheckpointNotFound(f"the base {str(base)!r} of {folder}: {error}") from None
    if below.resolve() == folder.resolve():
        raise ConfigError(f"{folder} names itself as its base; pass the base model's folder as base= (--base).")
    return below


def _stage_tensors(folder: Path, *, needed: bool) -> dict[str, LazyTensor]:
    """Tensors of mm_projector, mm_projector_a and audio_tower files."""
    files = [folder / f"{stem}.safetensors" for stem in STAGE_FILES]
    refuse_pickles(folder, [f.name for f in files])
    present = [f for f in files if f.is_file()]
    if needed and not present:
        raise CheckpointNotFound(f"{folder}: expected at least one of {', '.join(f.name for f in files)}, found none.")
    headers = read_headers(present)
    equal_copies(headers)
    return on_disk(headers, plain_name)


def _vision_encoder(
    folder: Path, config: VideoLlama2Config, tensors: dict[str, LazyTensor], vision: str | Path | None
) -> dict[str, LazyTensor]:
    """The vision encoder's tensors, if the base has none or another one was passed."""
    prefix = _PARTS["vision encoder"][0]
    if config.vision_config is None or (vision is None and any(n.startswith(prefix) for n in tensors)):
        return {}
    path = folder / "config.json"
    named = vision if vision is not None else (read_json(path).get("mm_vision_tower") if path.is_file() else None)
    if named is None:
        return {}
    try:
        place = folder / str(named)
        return vision_encoder_tensors(place if place.is_dir() else find_folder(named, fetch=False))
    except CheckpointNotFound as error:
        raise CheckpointNotFound(
            f"the vision encoder's weights are neither in {folder} nor in its base, and {str(named)!r} can't be used "
            f"({error}). Pass its folder as vision= (in Python) or --vision (`videollama2 merge`)."
        ) from None


def _audio_encoder(
    config: VideoLlama2Config, tensors: dict[str, LazyTensor], audio: str | Path | None
) -> dict[str, LazyTensor]:
    return {} if audio is None or config.audio_config is None else audio_encoder_tensors(Path(audio))


def _without_absent_parts(tensors: dict[str, LazyTensor], config: VideoLlama2Config) -> dict[str, LazyTensor]:
    """The base's tensors, except those of encoders that the model on top does not have."""
    absent = []
    if config.vision_config is None:
        absent += ["vision encoder", "connector"]
    if config.audio_config is None:
        absent += ["audio encoder", "audio projector"]
    prefixes = tuple(_PARTS[part][0] for part in absent)
    kept = {n: t for n, t in tensors.items() if not prefixes or not n.startswith(prefixes)}
    if len(kept) < len(tensors):
        logger.info("dropped from the base, since config.json has no such part: %s", ", ".join(absent))
    return kept


def _check_parts(folder: Path, config: VideoLlama2Config, tensors: dict[str, LazyTensor]) -> None:
    wanted = ["language model"]
    wanted += ["vision encoder", "connector"] if config.vision_config is not None else []
    wanted += ["audio encoder", "audio projector"] if config.audio_config is not None else []
    for part in wanted:
        prefix, how = _PARTS[part]
        if not any(name.startswith(prefix) for name in tensors):
            raise TensorMismatch(f"the {part}'s weights are neither in {folder} nor in its base; {how}.")


def _dtype(requested: Any, config: VideoLlama2Config, tensors: dict[str, LazyTensor]) -> Any:
    if requested not in (None, "auto"):
        return requested
    stated = getattr(config, "dtype", None)
    if stated is not None:
        return stated
    name = next(n for n in tensors if n.startswith(_PARTS["language model"][0]))
    return tensors[name][...].dtype


def take_generation_config(model: Any, folders: tuple[Path, ...]) -> None:
    """Give a model the generation_config.json of the topmost folder that has one."""
    for folder in folders:
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
            return


def read_config(folder: Path, ignored_keys: tuple[str, ...] = ()) -> VideoLlama2Config:
    """The folder's configuration, without the quantisation that training may have left in it."""
    values, _ = VideoLlama2Config.get_config_dict(folder, ignored_keys=ignored_keys)
    values.pop("quantization_config", None)
    config: VideoLlama2Config = VideoLlama2Config.from_dict(values)
    return config
