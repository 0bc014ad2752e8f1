"""The model that a first phase starts from: pretrained encoders and language model, with new parts between them.

    language model + vision encoder          ──► + a fresh connector           (video_align)
    VideoLLaMA 2 without audio + BEATs       ──► + a fresh audio projector     (audio_align)

Only the connector and the audio projector are ever initialised; a missing encoder or language model is an error, as in
`stages.load`.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from ..configuration import LANGUAGE_FAMILIES, VideoLlama2Config
from ..errors import ConfigError, UsageError
from ..modeling import VideoLlama2ForConditionalGeneration
from ..phases import PARTS
from ..sound_names import build_projector
from ..stc import build_connector
from . import stages
from .encoders import audio_encoder_config, audio_encoder_tensors, vision_encoder_tensors
from .locate import locate
from .original.configuration import released_system_prompt

logger = logging.getLogger(__name__)

CONNECTOR, PROJECTOR = "stc_connector_v35", "mlp2x_gelu"  # of the released 2.1 models


def grow(
    folder: str | Path,
    *,
    base: str | Path | None = None,
    vision: str | Path | None = None,
    audio: str | Path | None = None,
    connector: str = CONNECTOR,
    num_frames: int = 16,
    seed: int = 0,
    dtype: Any = "auto",
    **kwargs: Any,
) -> VideoLlama2ForConditionalGeneration:
    """The model in `folder` with the given encoders, and new parts that connect them to the language model.

    Args:
        folder: folder or hub id of a language model, or of a VideoLLaMA 2.
        base: of `folder`, if it is a training stage.
        vision: folder or hub id of a vision encoder (vision.VISION_FAMILIES), for a model without one.
        audio: folder of an audio encoder (audio.AUDIO_ENCODERS, or BEATs as `videollama2 convert` writes it), for a
            model without one. If a stage describes an encoder whose weights are neither in its folder nor in its base,
            those weights are loaded, and nothing is initialised.
        connector, num_frames: for a model that gets a vision encoder.
        seed: for initialising the new parts.
        dtype: of the model; "auto": that of the files.
        kwargs: as for `from_pretrained`.

    Raises:
        UsageError: the model has such an encoder already, or neither was given.
        WeightsError: files are missing or do not fit.
    """
    folder, _ = locate(folder)
    collected = stages.collect(folder, base)
    config = _grown(folder, collected, vision, audio, connector, num_frames)
    before = collected.config
    tensors: dict[str, Any] = dict(collected.tensors)
    width = config.text_config.hidden_size
    torch.manual_seed(seed)
    if vision is not None:
        tensors |= vision_encoder_tensors(locate(vision)[0])
        if before is None or before.vision_config is None:
            made = build_connector(connector, config.vision_config.hidden_size, width)
            tensors |= _fresh("model.connector.", made, config)
    if audio is not None:
        tensors |= audio_encoder_tensors(Path(audio))
        if before is None or before.audio_config is None:
            projector = build_projector(config.audio_projector_type, config.audio_config.hidden_size, width)
            tensors |= _fresh("model.audio_projector.", projector, config)
    whole = stages.Collected(config, tensors, collected.folders)
    return stages.build(whole, dtype, kwargs)


def grown_config(
    folder: str | Path,
    *,
    base: str | Path | None = None,
    vision: str | Path | None = None,
    audio: str | Path | None = None,
    connector: str = CONNECTOR,
    num_frames: int = 16,
) -> VideoLlama2Config:
    """The configuration of the model that `grow` returns, without reading weights. Same arguments and errors."""
    folder, _ = locate(folder)
    return _grown(folder, stages.collect(folder, base), vision, audio, connector, num_frames)


def _grown(
    folder: Path,
    collected: stages.Collected,
    vision: str | Path | None,
    audio: str | Path | None,
    connector: str,
    num_frames: int,
) -> VideoLlama2Config:
    if vision is None and audio is None:
        raise UsageError("nothing to add to the model; expected a vision encoder, an audio encoder, or both.")
    config = collected.config or _bare(folder)
    if vision is not None:
        if any(name.startswith(PARTS["vision_encoder"]) for name in collected.tensors):
            raise UsageError(f"{folder} already has a vision encoder; drop --vision.")
        if config.vision_config is None:
            config = _with_vision(config, locate(vision)[0], connector, num_frames)
    if audio is not None:
        if any(name.startswith(PARTS["audio_encoder"]) for name in collected.tensors):
            raise UsageError(f"{folder} already has an audio encoder; drop --audio.")
        if config.audio_config is None:
            config = _with_audio(config, Path(audio))
    return config


def _bare(folder: Path) -> VideoLlama2Config:
    """The configuration of a bare language model."""
    text = AutoConfig.from_pretrained(folder)
    if text.model_type not in LANGUAGE_FAMILIES:
        raise ConfigError(
            f"{folder} is a {text.model_type!r}; expected a causal language model of one of the "
            f"families {', '.join(LANGUAGE_FAMILIES)}, or a VideoLLaMA 2."
        )
    return VideoLlama2Config(
        text_config=text.to_dict(),
        vision_config=None,
        audio_config=None,
        tie_word_embeddings=bool(text.tie_word_embeddings),
        system_prompt=released_system_prompt(text.model_type),
    )


def _with_vision(config: VideoLlama2Config, place: Path, connector: str, num_frames: int) -> VideoLlama2Config:
    found = AutoConfig.from_pretrained(place)
    vision = getattr(found, "vision_config", found)  # a whole CLIP, or its vision encoder alone
    values = {**config.to_dict(), "vision_config": vision.to_dict(), "connector_type": connector}
    return VideoLlama2Config.from_dict(values | {"num_frames": num_frames, "vision_feature_layer": -2})


def _with_audio(config: VideoLlama2Config, place: Path) -> VideoLlama2Config:
    audio = audio_encoder_config(place).to_dict()
    return VideoLlama2Config.from_dict({**config.to_dict(), "audio_config": audio, "audio_projector_type": PROJECTOR})


def _fresh(prefix: str, part: nn.Module, config: VideoLlama2Config) -> dict[str, Tensor]:
    """A part's initial tensors: linear layers from N(0, initializer_range), the rest with torch's defaults."""
    for module in part.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    made = {prefix + name: tensor.detach() for name, tensor in part.state_dict().items()}
    logger.info(
        "%s is newly initialised: %.1f M parameters", prefix.split(".")[1], sum(t.numel() for t in made.values()) / 1e6
    )
    return made
