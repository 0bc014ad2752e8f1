"""`videollama2 convert`: original pickles become safetensors, once; no pickle is read at run time.

    SRC (file or folder)                                DST (folder)
    pytorch_model.bin, pytorch_model-0000x-of-….bin     model.safetensors, model-0000x-of-….safetensors + index
    mm_projector.bin, adapter_model.bin, …              the same name with .safetensors
    BEATs .pt ({'cfg', 'model'})                        audio_tower.safetensors + beats_config.json
    configurations, tokenizers, safetensors, licences   copied
    optimizer.pt, training_args.bin, code               skipped

The result gets its final name only when complete, SRC is never modified, and a second conversion does nothing.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..beats import BeatsConfig
from ..errors import CheckpointNotFound, TensorMismatch, UsageError, WeightsError
from ..storage import work_folder
from .pickles import read_pickle

logger = logging.getLogger(__name__)

RECEIPT = "conversion.json"  # its presence marks a folder as a result of this module
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
AUDIO_PREFIX = "model.audio_tower."
Layout = Literal["native", "original"]
Progress = Callable[[str, int, int], None]  # file, bytes done before it, bytes in total

_COPIED = (".json", ".jsonl", ".txt", ".model", ".jinja", ".md", ".safetensors", ".tiktoken")
_COPIED_STEMS = ("license", "licence", "notice")
_TRAINING_STATE = ("optimizer", "scheduler", "rng_state", "training_args", "scaler", "global_step", "zero_pp_rank")


@dataclass
class Conversion:
    """The outcome of a conversion: paths relative to SRC and DST, and why files were skipped."""

    converted: dict[str, str] = field(default_factory=dict)
    copied: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    tensors: int = 0
    bytes: int = 0
    layout: str | None = None
    already_done: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As a JSON-serialisable dict."""
        return asdict(self)


def convert(
    source: str | Path, target: str | Path, *, layout: Layout | None = None, progress: Progress | None = None
) -> Conversion:
    """Convert a file or a folder of pickles into a folder of safetensors.

    Args:
        source: a `.bin` or `.pt` file, or a folder with such files.
        target: the folder to create. An older result there is replaced if `source` has changed.
        layout: for a complete model: also rename its tensors to ours (`native`) or the original's (`original`).
        progress: called before each file.

    Raises:
        CheckpointNotFound: `source` does not exist, or contains nothing to convert.
        UsageError: `target` is inside `source`, or a folder that `convert` did not create.
        UnsafeFile: a file contains more than tensors; it was not executed.
        WeightsError: a file is corrupt, or two would become the same file.
    """
    source, target = Path(source), Path(target)
    files = listed_files(source)
    check_target(source, target)
    stamp = {"layout": layout, "source": {str(k): [f.stat().st_size, f.stat().st_mtime_ns] for k, f in files.items()}}
    if (done := earlier(target, stamp)) is not None:
        logger.info("%s is already the result of this conversion", target)
        return done
    with atomic_folder(target) as folder:
        result = _convert_files(files, folder, progress)
        if layout is not None:
            result.layout = layout
            _rewrite(folder, layout)
        for file in folder.rglob("*.safetensors"):
            file.chmod(0o644)  # safetensors creates files that only their owner can read
        made = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
        receipt = {"made_by": "videollama2 convert", **stamp, "files": made, "result": result.to_dict()}
        _write_json(folder / RECEIPT, receipt)
    logger.info("converted %d file(s), %d tensors, into %s", len(result.converted), result.tensors, target)
    return result


def listed_files(source: Path) -> dict[Path, Path]:
    """Relative path → file for all non-hidden files in SRC; links to files are followed, links to folders are not."""
    if source.is_file():
        return {Path(source.name): source}
    if not source.is_dir():
        raise CheckpointNotFound(f"{source} does not exist; expected a .bin or .pt file, or a folder of them.")
    found = {p.relative_to(source): p for p in sorted(source.rglob("*")) if p.is_file()}
    return {k: p for k, p in found.items() if not any(part.startswith(".") for part in k.parts)}


def check_target(source: Path, target: Path) -> None:
    """UsageError unless `target` may become the result of converting `source`."""
    src, dst = source.resolve(), target.resolve()
    if dst == src or src in dst.parents:
        raise UsageError(f"{target} is inside {source}, which is never written to; choose another folder.")
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; expected a folder to create.")
    if target.is_dir() and any(target.iterdir()) and not (target / RECEIPT).is_file():
        raise UsageError(f"{target} is not empty and not an earlier result of `convert`; choose another folder.")


def earlier(target: Path, stamp: dict[str, Any]) -> Conversion | None:
    """The earlier result, if it was made from the same files and is complete."""
    try:
        receipt = json.loads((target / RECEIPT).read_text(encoding="utf-8"))
        done = Conversion(**receipt["result"])
        same = {k: receipt[k] for k in stamp} == stamp
        whole = all((target / name).stat().st_size == size for name, size in receipt["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    done.already_done = True
    return done if same and whole else None


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A folder that replaces `target` if the block succeeds, and is removed otherwise."""
    with work_folder(target) as work:
        new = work / "new"
        new.mkdir()
        yield new
        if target.exists():
            target.rename(work / "old")
        new.rename(target)


def _convert_files(files: Mapping[Path, Path], folder: Path, progress: Progress | None) -> Conversion:
    result = Conversion()
    total, before = sum(f.stat().st_size for f in files.values()), 0
    for name, file in files.items():
        if progress is not None:
            progress(str(name), before, total)
        before += file.stat().st_size
        if (already := _safetensors_name(name)) in files:
            result.left_out[str(name)] = f"{already} already exists"
        else:
            _convert_one(name, file, folder, result)
    if progress is not None:
        progress("", total, total)
    if not result.converted and not any(c.endswith(".safetensors") for c in result.copied):
        raise CheckpointNotFound(f"nothing to convert: {len(files)} file(s), none a {', '.join(PICKLES)} of tensors.")
    return result


def _convert_one(name: Path, file: Path, folder: Path, result: Conversion) -> None:
    if name.name.startswith(_TRAINING_STATE) or any(p.startswith(_TRAINING_STATE) for p in name.parts):
        result.left_out[str(name)] = "state of a training run"
    elif name.name == RECEIPT:
        pass
    elif file.suffix in PICKLES:
        _convert_pickle(name, file, folder, result)
    elif name.name.endswith(".bin.index.json"):
        _convert_index(name, file, folder, result)
    elif file.suffix in _COPIED or file.stem.lower() in _COPIED_STEMS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
        result.copied.append(str(name))
    else:
        result.left_out[str(name)] = "no configuration, tokenizer or tensors"


def _safetensors_name(name: Path) -> Path | None:
    """The name that a pickle or its index is converted to."""
    if name.name.endswith(".bin.index.json"):
        return name.with_name("model.safetensors.index.json")
    return name.with_name(_new_name(name.name)) if name.suffix in PICKLES else None


def _new_name(name: str) -> str:
    """`pytorch_model-00001-of-00003.bin` → `model-00001-of-00003.safetensors`."""
    return Path(name).with_suffix(".safetensors").name.replace("pytorch_model", "model", 1)


def _convert_pickle(name: Path, file: Path, folder: Path, result: Conversion) -> None:
    loaded = read_pickle(file)
    if isinstance(loaded, dict) and {"cfg", "model"} <= set(loaded):
        target = name.with_name("audio_tower.safetensors")
        beats = _beats_config(loaded["cfg"], file)
        if not (file.parent / "beats_config.json").is_file():  # otherwise that file is copied
            _write_json(folder / name.with_name("beats_config.json"), beats)
        tensors = {f"{AUDIO_PREFIX}{k}": v for k, v in _tensors(loaded["model"], file).items()}
    else:
        target, tensors = name.with_name(_new_name(name.name)), _tensors(loaded, file)
    if (folder / target).exists():
        raise WeightsError(f"{file} would become {target}, but another file already did; convert them one by one.")
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    save_file(_unshared(tensors), folder / target, metadata={"format": "pt"})
    result.converted[str(name)] = str(target)
    result.tensors += len(tensors)
    result.bytes += (folder / target).stat().st_size


def _beats_config(cfg: Any, file: Path) -> dict[str, Any]:
    if not isinstance(cfg, dict):
        raise WeightsError(f"{file}: 'cfg' is a {type(cfg).__name__}; expected BEATs' settings as a dict.")
    known = {k: v for k, v in cfg.items() if k in BeatsConfig.__dataclass_fields__}
    BeatsConfig(**known)  # raises if it can't be built
    return dict(cfg)


def _tensors(loaded: Any, file: Path) -> dict[str, Tensor]:
    """The state dict in a loaded file, which may be wrapped in {'state_dict': …} or {'model': …}."""
    if isinstance(loaded, dict) and len(loaded) == 1:
        ((key, inner),) = loaded.items()
        if key in ("state_dict", "model", "module") and isinstance(inner, dict):
            loaded = inner
    if not isinstance(loaded, dict) or not loaded:
        raise WeightsError(f"{file} contains a {type(loaded).__name__}; expected a dict of tensors by name.")
    other = [k for k, v in loaded.items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    if other:
        raise WeightsError(
            f"{file} has {len(other)} entries besides tensors ({', '.join(map(str, other[:5]))}); "
            "expected a bare state dict, or BEATs' {'cfg', 'model'}."
        )
    return dict(loaded)


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, no two of which share a storage, as safetensors requires."""
    owners: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        storage = tensor.untyped_storage().data_ptr()
        if storage in owners:
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        owners.add(storage)
        out[name] = tensor.contiguous()
    return out


def _convert_index(name: Path, file: Path, folder: Path, result: Conversion) -> None:
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        shards = dict(index["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise TensorMismatch(f"{file} is not an index of shards: {error!r}") from None
    for shard in set(shards.values()):
        # a name with a path separator could read from elsewhere on the disk
        if not isinstance(shard, str) or Path(shard).name != shard or not (file.parent / shard).is_file():
            raise TensorMismatch(f"{file} names {shard!r}, but no such file is next to it.")
    target = name.with_name("model.safetensors.index.json")
    index["weight_map"] = {k: _new_name(v) for k, v in shards.items()}
    _write_json(folder / target, index)
    result.converted[str(name)] = str(target)


def _rewrite(folder: Path, layout: Layout) -> None:
    """Rewrite a complete model in `folder` with our tensor names or the original's."""
    from ..modeling import VideoLlama2ForConditionalGeneration
    from .files import weight_files
    from .original.export import export_original
    from .strict import quiet

    old = weight_files(folder)
    with tempfile.TemporaryDirectory(prefix=".rewritten.", dir=folder) as work:
        made = Path(work) / "made"
        model = VideoLlama2ForConditionalGeneration.from_pretrained(folder, dtype="auto")
        with quiet():
            model.save_pretrained(made) if layout == "native" else export_original(model, made)
        del model
        for file in (*old, folder / "model.safetensors.index.json"):
            file.unlink(missing_ok=True)
        shutil.copytree(made, folder, dirs_exist_ok=True)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
