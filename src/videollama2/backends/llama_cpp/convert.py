"""`videollama2 convert --gguf`: a checkpoint for llama.cpp, the language model as a GGUF file.

    MODEL   any model that `load` takes          DST/language_model.Q4_K_M.gguf   the language model
                                                 DST/model.safetensors            encoders, connector, projector
                                                 DST/*.json, tokenizer            as `save_pretrained` writes them

A DST that ends in .gguf is the file alone.
"""

import shutil
from pathlib import Path

from safetensors.torch import save_file

from ...configuration import VideoLlama2Config
from ...errors import UsageError
from ...hub import DEFAULTS
from ...jobs import write_json
from ...processing import VideoLlama2Processor
from ...weights import stages
from ...weights.convert import RECEIPT, Conversion, atomic_folder, check_target, earlier, listed_files
from ...weights.files import SINGLE
from ...weights.locate import locate
from ...weights.nano_cache import is_nano
from . import origin
from .encoders import encoder_tensors
from .header import read_gguf
from .quantise import named_type
from .write import Progress, write_gguf


def convert_gguf(
    model: str | Path, target: str | Path, type_name: str, *, base: str | Path | None = None,
    progress: Progress | None = None,
) -> Conversion:  # fmt: skip
    """Convert a checkpoint; a second time does nothing.

    Args:
        model, base: as for `videollama2.load`.
        target: a file to write that ends in .gguf, or a folder.
        type_name: a key of quantise.TYPES.
        progress: called before each tensor of the language model.

    Raises:
        UsageError: an unsupported language model or type, or a target that is in use.
        WeightsError: `model` is not a whole model. MissingExtra: the type is llama.cpp's, which is not installed.
    """
    type_name, target = named_type(type_name), Path(target)
    folder, _ = locate(model, base)
    base = None if is_nano(model) else base
    if target.suffix == ".gguf":
        if target.exists():
            raise UsageError(f"{target} exists; delete it, or choose another name.")
        write_gguf(model, target, type_name, base=base, progress=progress)
        tensors = len(read_gguf(target).tensors)
        return Conversion(converted={str(model): target.name}, tensors=tensors, bytes=target.stat().st_size)
    check_target(folder, target)
    collected = stages.collect(folder, base)
    if collected.config is None:
        raise UsageError(f"{folder} is a language model without encoders; expected a VideoLLaMA 2.")
    files = {str(f): f for place in collected.folders for f in listed_files(place).values()}
    stamp = {"gguf": type_name, "source": {name: [f.stat().st_size, f.stat().st_mtime_ns] for name, f in files.items()}}
    if (done := earlier(target, stamp)) is not None:
        return done
    with atomic_folder(target) as new:
        written = write_gguf(model, new / f"language_model.{type_name}.gguf", type_name, base=base, progress=progress)
        encoders = {n: tensor[...].contiguous().clone() for n, tensor in encoder_tensors(collected.tensors).items()}
        metadata = {"format": "pt", origin.METADATA: origin.sample(collected.tensors)}
        save_file(encoders, new / SINGLE, metadata=metadata)
        (new / SINGLE).chmod(0o644)  # safetensors creates files that only their owner can read
        _save_settings(collected, folder, base, new)
        made = {str(p.relative_to(new)): p.stat().st_size for p in sorted(new.rglob("*")) if p.is_file()}
        result = Conversion(
            converted={str(model): written.name}, copied=sorted(made.keys() - {written.name}), tensors=len(encoders),
            bytes=sum(made.values()),
        )  # fmt: skip
        receipt = {"made_by": "videollama2 convert", **stamp, "files": made, "result": result.to_dict()}
        write_json(new / RECEIPT, receipt)
    return result


def _save_settings(collected: stages.Collected, folder: Path, base: str | Path | None, new: Path) -> None:
    """Configurations, tokenizer and chat template."""
    config: VideoLlama2Config | None = collected.config
    assert config is not None
    config.architectures = ["VideoLlama2ForConditionalGeneration"]
    complete = stages.kind(folder) == "complete"
    tokenizer = folder if complete else stages.tokenizer_folder(folder, base, DEFAULTS)
    place = folder if (folder / "config.json").is_file() else tokenizer
    VideoLlama2Processor.from_pretrained(place, config=config, tokenizer_folder=tokenizer).save_pretrained(new)
    config.save_pretrained(new)
    for candidate in collected.folders:
        if (candidate / "generation_config.json").is_file():
            shutil.copyfile(candidate / "generation_config.json", new / "generation_config.json")
            return
