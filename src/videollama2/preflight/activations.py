"""The activations of one micro-batch, forward and backward, found by tracing the step on the meta device.

A language model's layers are alike, so the step is traced with two and with three layers, and each stretch of it is
extrapolated linearly to the full depth:

    media → (layers → head → layers backward) → media backward
"""

import copy
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio import SAMPLING_RATE
from ..configuration import VideoLlama2Config
from ..errors import UsageError
from ..phases import Phase
from ..train.build import recompute_activations
from ..train.settings import Settings
from .trace import Fused, Live

SOUND_SECONDS = 30.0  # of a released model (spec §5.6)
SHORT = (2, 3)  # numbers of layers to trace


@dataclass
class Stretch:
    """A part of a step: its peak in bytes, and elements of finished gradients before and after it."""

    most: float = 0
    before: float = 0
    after: float = 0


@dataclass(frozen=True)
class Activations:
    """A traced step. `media`: positions of a sample's media. `stretches` by name, in order."""

    media: int
    stretches: dict[str, Stretch] = field(repr=False)

    @property
    def most(self) -> int:
        """Peak bytes, not counting gradients of parameters."""
        return int(max(s.most for s in self.stretches.values()))

    def most_with(self, gradient: float) -> int:
        """Peak bytes, with `gradient` bytes for every element of a finished gradient.

        During the layers' backward, activations are freed as gradients appear, at a steady rate, so the peak is at
        either end.
        """
        return int(
            max(
                s.most + gradient * (s.before if name == "layers backward" else s.after)
                for name, s in self.stretches.items()
            )
        )


def activations(
    build: Callable[[VideoLlama2Config], Any],
    config: VideoLlama2Config,
    phase: Phase,
    settings: Settings,
    length: int,
    supervised: int | None,
    kinds: Collection[str] | None = None,
) -> Activations:
    """Trace a micro-batch's forward and backward.

    Args:
        build: makes the model of a configuration, on the meta device, with trainable parts marked.
        length: positions of each sample, including media.
        supervised: how many of them are supervised; None: all but the media.
        kinds: of the records; None: all that the phase learns from.

    Raises:
        UsageError: the media alone are longer than `length`.
    """
    text: Any = config.text_config
    layers = text.num_hidden_layers
    if layers <= SHORT[1]:
        return _traced(build(config), phase, settings, length, supervised, kinds)
    short, longer = (
        _traced(build(_with_layers(config, phase, n)), phase, settings, length, supervised, kinds) for n in SHORT
    )
    more = layers - SHORT[0]

    def drawn(a: float, b: float) -> float:
        return a + (b - a) * more

    return Activations(
        short.media,
        {
            name: Stretch(drawn(a.most, b.most), drawn(a.before, b.before), drawn(a.after, b.after))
            for (name, a), b in zip(short.stretches.items(), longer.stretches.values(), strict=True)
        },
    )


def _with_layers(config: VideoLlama2Config, phase: Phase, layers: int) -> VideoLlama2Config:
    """The configuration with that many layers in its language model, and in encoders that are frozen."""
    short = copy.deepcopy(config)
    if short.vision_config is not None and "vision_encoder" not in phase.learns:
        short.vision_config.num_hidden_layers = min(short.vision_config.num_hidden_layers, SHORT[1])
    if short.audio_config is not None and "audio_encoder" not in phase.learns:
        short.audio_config = short.audio_config.with_layers(SHORT[1])
    text: Any = short.text_config
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    return short


class _Step(Live):
    """Live bytes, stretch by stretch. A finished gradient leaves the count; its elements are counted separately."""

    def __init__(self, parameters: dict[int, str]) -> None:
        super().__init__(parameters)
        self.grown = 0
        self.stretch = Stretch()
        self.stretches: dict[str, Stretch] = {}

    def enter(self, name: str) -> None:
        """Begin another stretch."""
        self.stretch.after = self.grown
        self.stretch = self.stretches.setdefault(name, Stretch(before=self.grown))
        self.stretch.most = max(self.stretch.most, self.now)

    def enter_after(self, tensor: Any, name: str) -> None:
        """Begin it once a tensor's gradient is computed."""
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            tensor.register_hook(lambda grad: self.enter(name))

    def count(self, tensor: Tensor) -> None:
        super().count(tensor)
        self.stretch.most = max(self.stretch.most, self.now)

    def finished(self, parameter: Tensor) -> None:
        """A parameter's gradient is complete."""
        self.grown += parameter.numel()
        parameter.grad = None


def _traced(
    network: Any,
    phase: Phase,
    settings: Settings,
    length: int,
    supervised: int | None,
    kinds: Collection[str] | None,
) -> Activations:
    rows = settings.micro_batch
    inner = network.model
    network.train()
    if settings.gradient_checkpointing:
        # `Fused` is off during backward, so recomputation enters it again
        recompute_activations(network, context_fn=lambda: (nullcontext(), Fused()))
    step = _Step({int(p.untyped_storage()._cdata): n for n, p in network.named_parameters()})
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(step.finished)
    first: nn.Module = inner.language_model.layers[0]
    first.register_forward_hook(lambda _, __, out: step.enter_after(out, "first layer backward"))
    with Fused(), step:
        step.enter("media")
        features = _features(network, phase, rows, kinds)
        media = sum(len(f) for f in features[0])
        if media >= length:
            raise UsageError(
                f"the media of a sample take {media} positions and max_length is {length}; "
                "raise it or use fewer frames."
            )
        targets = length - media if supervised is None else supervised
        words = torch.empty(1, length - media, dtype=torch.long, device="meta")
        embed = inner.get_input_embeddings()
        embeds = torch.stack([torch.cat([*f, embed(words)[0]]) for f in features])
        step.enter("layers")
        step.enter_after(embeds, "media backward")
        # rows of different lengths have a mask, made of their padding
        mask = torch.empty(rows, 1, length, length, dtype=torch.bool, device="meta")
        hidden = inner.language_model(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state
        step.enter("head")
        step.enter_after(hidden, "layers backward")
        # the loss of modeling._loss, without the masks, which need data
        places = torch.empty(rows * targets, dtype=torch.long, device="meta")
        logits = network._head(hidden.flatten(0, 1)[places]).float()
        loss = F.cross_entropy(logits, places, reduction="sum") / (rows * targets)
        del features, embeds, hidden, logits
        loss.backward()
        step.enter("end")
    return Activations(media, step.stretches)


def _features(network: Any, phase: Phase, rows: int, kinds: Collection[str] | None) -> list[list[Tensor]]:
    """Each sample's tokens [n, D]: audio if the audio branch learns, a video if anything else does.

    With `kinds`, only media that records of these kinds have.
    """
    config, inner = network.config, network.model
    audio = {"audio_encoder", "audio_projector"}
    found: list[list[Tensor]] = []
    sees = kinds is None or not {"av", "video", "image"}.isdisjoint(kinds)
    hears = kinds is None or not {"av", "audio"}.isdisjoint(kinds)
    if sees and config.vision_config is not None and phase.learns - audio:
        size, frames = config.vision_config.image_size, phase.frames or config.num_frames
        pixels = torch.empty(rows, frames, 3, size, size, dtype=network.dtype, device="meta")
        found.append(inner.get_video_features(pixels).pooler_output)
    if hears and config.audio_config is not None and phase.learns & audio:
        audio = config.audio_config
        frames = audio.num_frames(round(SOUND_SECONDS * SAMPLING_RATE))
        fbank = torch.empty(rows, frames, audio.bins, dtype=network.dtype, device="meta")
        found.append(inner.get_audio_features(fbank).pooler_output)
    return [list(sample) for sample in zip(*found, strict=True)] or [[] for _ in range(rows)]
