"""Encoders in separate folders: their configuration, and their tensors under our names, unread."""

from pathlib import Path

from ..audio import AUDIO_ENCODERS, AudioEncoderConfig
from ..configuration import read_json
from ..errors import CheckpointNotFound
from ..phases import PARTS
from .files import INDEX, SINGLE, LazyTensor, on_disk, read_headers, weight_files
from .lora import plain_name
from .original.configuration import beats_config
from .original.names import DERIVED_BUFFERS
from .strict import equal_copies

_OTHER_HALF = ("text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias")


def vision_encoder_tensors(folder: Path) -> dict[str, LazyTensor]:
    """A vision encoder's tensors under our names, without the text half of a whole CLIP or SigLIP.

    Raises:
        CheckpointNotFound: no safetensors in the folder.
    """
    headers = read_headers(weight_files(folder))
    mine = {n: h for n, h in headers.items() if not n.startswith(_OTHER_HALF) and not DERIVED_BUFFERS.search(n)}
    return on_disk(mine, lambda name: PARTS["vision_encoder"] + name.removeprefix("vision_model."))


def audio_encoder_config(path: Path) -> AudioEncoderConfig:
    """The configuration of an audio encoder's folder: its config.json, or BEATs' beats_config.json."""
    values = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    if values.get("model_type") in AUDIO_ENCODERS:
        config: AudioEncoderConfig = AUDIO_ENCODERS[values["model_type"]].config_class.from_dict(values)
        return config
    return beats_config(path)


def audio_encoder_tensors(path: Path) -> dict[str, LazyTensor]:
    """An audio encoder's tensors under our names: a folder of its own, or a converted BEATs.

    Raises:
        CheckpointNotFound: no tensors, or only a pickle.
    """
    if path.is_file() and path.suffix != ".safetensors":
        raise CheckpointNotFound(f"{path} is a pickle; run `videollama2 convert {path} DST` once and pass DST.")
    if (path / SINGLE).is_file() or (path / INDEX).is_file():
        headers = read_headers(weight_files(path))
        return on_disk(headers, lambda name: PARTS["audio_encoder"] + name)
    file = path if path.is_file() else path / "audio_tower.safetensors"
    if not file.is_file():
        raise CheckpointNotFound(
            f"{file} does not exist; expected BEATs as `videollama2 convert` writes it, or a folder with {SINGLE}"
        )
    headers = read_headers([file])
    equal_copies(headers)
    return on_disk(headers, plain_name)
