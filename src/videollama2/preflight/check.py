"""Predict what a model needs before reading its weights: `videollama2 check`.

configuration ──► the model on the meta device ──► parameters per part
safetensors headers ──► the loader itself, on the meta device ──► missing, unexpected, misshapen tensors
frames, audio, text ──► the stages, traced on the meta device ──► tokens, activations, KV cache
all of these ──► peak memory of loading and of answering, and whether it fits here
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..audio import SAMPLING_RATE
from ..device import choose, resident_bytes
from ..modeling import VideoLlama2ForConditionalGeneration
from ..stc import connector_settings
from ..vision import num_patches
from ..weights.strict import assemble
from .describe import Subject, describe
from .memory import MemoryNeed, memory_needs
from .trace import Stage, on_meta, trace

TEXT_TOKENS = 64  # of a question with its chat template
SOUND_SECONDS = 30.0  # of audio without a clip, as for every released model


@dataclass
class ModelCheck:
    """Everything that `check` reports. Sizes in bytes, lengths in tokens unless named otherwise."""

    model: str
    source: str
    summary: dict[str, Any]
    parameters: dict[str, int]
    device: str
    dtype: str
    reason: str
    tokens: dict[str, int]
    context: int
    kv_cache_per_token: int
    kv_cache: int
    memory: list[MemoryNeed]
    fits: bool
    files: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)
    clip: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON-serialisable dict."""
        return asdict(self)


def check_model(
    model: str | Path,
    clip: str | Path | None = None,
    *,
    frames: int | None = None,
    dtype: Any = None,
    device: Any = None,
    base: str | Path | None = None,
    protocol: str | None = None,
    new_tokens: int = 512,
) -> ModelCheck:
    """Predict the memory needed to answer one question about `clip`, or about a clip of typical length.

    Args:
        model: any name that `weights.locate` takes.
        clip: a media file; it is decoded, so that its real frames and audio are counted.
        frames: of the video; None: the model's own number.
        dtype, device: None: the ones `load` would choose here.
        base: of a training stage's folder.
        protocol: how the clip is prepared; None: the model's own.
        new_tokens: length of the answer.

    Raises:
        CheckpointNotFound, ConfigError: no such model, or an invalid configuration.
        MediaError: the clip can't be used, or `frames` is too few for the connector.
    """
    placement = choose(device, dtype)
    subject = describe(model, base)
    config: Any = subject.config
    network = on_meta(config, placement.dtype)
    baseline = resident_bytes()
    found = _account(subject, placement.dtype)
    size = _clip_size(clip, config, frames, protocol)
    stages = trace(network, text_tokens=TEXT_TOKENS, **size.extent)
    tokens = _tokens(config, stages, frames, new_tokens)
    last_logits = config.text_config.vocab_size * placement.dtype.itemsize
    per_token = (stages[-1].kept - last_logits) // tokens["prompt"]
    memory = memory_needs(placement, network, subject, stages, baseline, size.decoded, per_token * new_tokens)
    result = ModelCheck(
        model=subject.name,
        source=subject.source,
        summary=summary(config),
        parameters=parameters(network),
        device=str(placement.device),
        dtype=str(placement.dtype).removeprefix("torch."),
        reason=placement.reason,
        tokens=tokens,
        context=config.max_positions,
        kv_cache_per_token=per_token,
        kv_cache=per_token * (tokens["prompt"] + new_tokens),
        memory=memory,
        fits=all(need.fits for need in memory),
        files=_files(subject),
        tensors=found,
        clip=size.about,
        notes=subject.notes,
        problems=subject.problems,
    )
    if tokens["prompt"] + new_tokens > result.context:
        result.problems.append(
            f"{tokens['prompt']} tokens of prompt and {new_tokens} of answer exceed the {result.context} positions"
        )
    return result


def parameters(network: VideoLlama2ForConditionalGeneration) -> dict[str, int]:
    """Parameters per part and in total; a head tied to the embedding counts once."""
    model = network.model
    parts = {
        "vision encoder": model.vision_encoder,
        "connector": model.connector,
        "audio encoder": model.audio_encoder,
        "audio projector": model.audio_projector,
        "language model": model.language_model,
    }
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}
    total = sum(p.numel() for p in network.parameters())
    counts["language model"] += total - sum(counts.values())
    return {**counts, "total": total}


def _account(subject: Subject, dtype: torch.dtype) -> dict[str, Any]:
    """The differences between files and model, found by the loader itself on the meta device."""
    if subject.collected is None:
        return {}
    tensors = subject.collected.tensors
    headers = {name: torch.empty(tensor.shape, dtype=dtype, device="meta") for name, tensor in tensors.items()}
    _, differences = assemble(subject.config, headers, dtype=dtype, device_map={"": "meta"})
    if differences:
        subject.problems.append(differences.summary())
    return {"present": len(tensors), **differences.to_dict()}


def _files(subject: Subject) -> list[dict[str, Any]]:
    if subject.collected is None:
        return []
    counts: dict[Path, int] = {}
    for tensor in subject.collected.tensors.values():
        for info in tensor.infos():
            counts[info.file] = counts.get(info.file, 0) + 1
    return [{"file": f.name, "bytes": f.stat().st_size, "tensors": n} for f, n in sorted(counts.items())]


@dataclass(frozen=True)
class _ClipSize:
    """Keywords of `trace`, bytes of decoded frames, and facts about the clip."""

    extent: dict[str, Any]
    decoded: int = 0
    about: dict[str, Any] | None = None


def _clip_size(clip: str | Path | None, config: Any, frames: int | None, protocol: str | None) -> _ClipSize:
    has_vision, has_audio = config.vision_config is not None, config.audio_config is not None
    frames = frames or config.num_frames
    if clip is None:
        fbank = config.audio_config.num_frames(round(SOUND_SECONDS * SAMPLING_RATE)) if has_audio else None
        return _ClipSize({"frames": frames if has_vision else None, "fbank_frames": fbank})
    from ..media import audio_input, open_clip
    from ..protocols import protocol as named

    chosen = named(protocol or config.protocol)
    opened = open_clip(clip, num_frames=frames, protocol=chosen, want_video=has_vision, want_audio=has_audio)
    sound = audio_input(opened, chosen, config.audio_config) if has_audio and opened.kind != "image" else None
    fbank = None if sound is None or sound.fbank is None else sound.fbank.shape[0]
    extent: dict[str, Any] = {"fbank_frames": fbank, "still": opened.kind == "image"}
    extent["frames"] = len(opened.frames) or None
    about = {
        "source": opened.source,
        "kind": opened.kind,
        "frames_total": opened.frames_total,
        "frames_used": len(opened.frames),
        "seconds": None if opened.seconds is None else round(opened.seconds, 3),
        "width": opened.width,
        "height": opened.height,
        "audio": opened.audio_state,
        "sound_seconds": None if opened.wave is None else round(opened.wave.available_seconds, 3),
        "protocol": chosen.name,
    }
    return _ClipSize(extent, sum(f.nbytes for f in opened.frames), about)


def _tokens(config: Any, stages: list[Stage], frames: int | None, new_tokens: int) -> dict[str, int]:
    tokens = {stage.name: stage.tokens for stage in stages}
    named = {"text": TEXT_TOKENS, "prompt": tokens["prefill"], "answer": new_tokens}
    if config.vision_config is not None:
        connector = connector_settings(config.connector_type)
        grid = num_patches(config.vision_config)
        named["image"] = connector.num_tokens(config.num_frames, *grid)
        named["video"] = connector.num_tokens(frames or config.num_frames, *grid)
    if "audio" in tokens:
        named["audio"] = tokens["audio"]
    return named


def summary(config: Any) -> dict[str, Any]:
    """A short description of each part of a model."""
    text, vision, audio = config.text_config, config.vision_config, config.audio_config
    parts: dict[str, Any] = {
        "language_model": f"{text.model_type}, {text.num_hidden_layers} layers of {text.hidden_size}",
        "vocabulary": text.vocab_size,
    }
    if vision is not None:
        parts["vision_encoder"] = (
            f"{vision.model_type.removesuffix('_vision_model')}, {vision.num_hidden_layers} layers of "
            f"{vision.hidden_size}, {vision.image_size} px"
        )
        parts["connector"] = config.connector_type
        parts["num_frames"] = config.num_frames
    if audio is not None:
        name = "BEATs" if audio.model_type == "beats" else audio.model_type
        parts["audio_encoder"] = f"{name}, {audio.num_hidden_layers} layers of {audio.hidden_size}"
    return parts
