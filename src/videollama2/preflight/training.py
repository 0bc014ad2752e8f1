"""The memory of a training step, before a weight is read: a phase on a model on the meta device.

    the model on the meta device ──► weights, gradients, AdamW's moments, cut over the processes
    one step, forward and backward, traced ──► activations, as the code allocates and frees them
    FSDP2's units ──► what is gathered at once

The model is sharded as in `strategy.fsdp`: the language model's layers, and everything else, are split among the
processes; each process holds frozen encoders and quantised weights whole. Frozen weights are in the arithmetic's dtype;
trainable ones, their gradients and both moments are in float32. Memory of the communication library and the GPU's
allocator is not counted; therefore only the share `USABLE` of `GPUS` is used.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..configuration import VideoLlama2Config
from ..device import CUDA_CONTEXT
from ..modeling import VideoLlama2ForConditionalGeneration
from ..phases import PARTS, Phase, part_of
from ..recompute import keep_less
from ..train.adapters import add_lora
from ..train.settings import Settings
from .activations import Activations, activations
from .trace import on_meta

GIB = 1 << 30
GPUS = (24, 40, 48, 80, 141)  # GiB of common ones
USABLE = 0.92
USUAL_LENGTH = 4096  # positions: 1352 of video, 1496 of audio, and as many of text as the released scripts allow
NF4 = 0.5 + 4 / 64 * 0.26  # bytes per weight: 4 bits and a doubly quantised scale for 64 of them (arXiv:2305.14314 §3)


@dataclass(frozen=True)
class Share:
    """Bytes on each of `gpus` processes.

    Attributes:
        frozen, learning, gradients, moments: of weights, as they lie.
        gathered: most of the weights in the arithmetic's dtype that are whole at once, with their gradients on the way.
        activations: most that a micro-batch's forward and backward keep, logits included.
        total: peak, with the GPU's own context if there are several processes; below the sum where gradients appear
            only as activations are freed.
    """

    gpus: int
    frozen: int
    learning: int
    gradients: int
    moments: int
    gathered: int
    activations: int
    total: int

    @property
    def fits(self) -> int | None:
        """The smallest sufficient one of `GPUS`, in GiB."""
        return next((size for size in GPUS if self.total <= size * GIB * USABLE), None)


@dataclass(frozen=True)
class MemoryPlan:
    """A step's memory. `parts`: part → (trainable parameters, parameters in total). Lengths in positions."""

    phase: str
    parts: dict[str, tuple[int, int]]
    micro_batch: int
    length: int
    media: int
    supervised: int
    accumulation: dict[int, int]
    checkpointing: bool
    dtype: str
    shares: tuple[Share, ...]

    def on(self, gpus: int) -> Share:
        """The share of that many processes."""
        return next(s for s in self.shares if s.gpus == gpus)

    def table(self) -> str:
        """Both tables as text."""
        lines = [
            f"{self.phase}: {self.micro_batch} × {self.length} positions ({self.media} of media, {self.supervised} "
            f"supervised) in {self.dtype}, {'with' if self.checkpointing else 'without'} gradient checkpointing",
            "",
            f"{'part':<16}{'parameters':>12}{'learning':>12}   (millions)",
        ]
        for part, (learning, whole) in self.parts.items():
            lines.append(f"{part:<16}{whole / 1e6:>12,.1f}{learning / 1e6 if learning else 0:>12,.1f}")
        heads = ("frozen", "learning", "gradients", "moments", "gathered", "activations", "total")
        lines += ["", f"{'GiB per GPU':<14}{''.join(f'{h:>13}' for h in heads)}   fits in"]
        for share in self.shares:
            cells = "".join(f"{getattr(share, head) / GIB:>13,.1f}" for head in heads)
            fits = f"{share.fits} GiB" if share.fits else f"more than {GPUS[-1]} GiB"
            steps = f", {self.accumulation[share.gpus]} × accumulated" if self.accumulation[share.gpus] > 1 else ""
            lines.append(f"{share.gpus:>3} GPU{'s' if share.gpus > 1 else ' ':<9}{cells}   {fits}{steps}")
        return "\n".join(lines)


def memory_plan(
    config: VideoLlama2Config,
    phase: Phase,
    settings: Settings | None = None,
    *,
    length: int | None = None,
    supervised: int | None = None,
    kinds: Collection[str] | None = None,
    gpus: Sequence[int] = (8, 16, 64),
    dtype: torch.dtype | None = None,
) -> MemoryPlan:
    """The memory of a step of `phase`, per process.

    Args:
        config: of the model.
        settings: of which micro-batch, checkpointing, adapters and quantisation matter; None: the defaults.
        length: positions of each sample, media included; None: the phase's `max_length`, or else USUAL_LENGTH.
        supervised: of them; None: all but the media.
        kinds: of the records; None: all that the phase learns from.
        gpus: numbers of processes.
        dtype: of the arithmetic; None: by the phase's precision, bfloat16 for "auto".

    Raises:
        UsageError: the media alone are longer than `length`, or the model lacks a part that the phase trains.
        MissingExtra: adapters are requested and peft is not installed.
    """
    settings = settings or Settings()
    dtype = dtype or (torch.float32 if phase.precision == "fp32" else torch.bfloat16)
    length = length or phase.max_length or min(USUAL_LENGTH, config.max_positions)
    counts = _Counts.of(_network(config, phase, settings, dtype), settings, dtype)
    step = activations(
        lambda c: _network(c, phase, settings, dtype), config, phase, settings, length, supervised, kinds
    )
    gpus = sorted(set(gpus))
    accumulation = {n: max(1, phase.batch // (n * settings.micro_batch)) for n in gpus}
    return MemoryPlan(
        phase=phase.name,
        parts=counts.parts,
        micro_batch=settings.micro_batch,
        length=length,
        media=step.media,
        supervised=length - step.media if supervised is None else supervised,
        accumulation=accumulation,
        checkpointing=settings.gradient_checkpointing,
        dtype=str(dtype).removeprefix("torch."),
        shares=tuple(counts.share(n, step, accumulation[n] > 1) for n in gpus),
    )


def _network(config: VideoLlama2Config, phase: Phase, settings: Settings, dtype: torch.dtype) -> Any:
    """The model on the meta device, as the phase trains it."""
    network = on_meta(config, dtype)
    if settings.lora_rank:
        with torch.random.fork_rng(devices=[]):
            add_lora(network, settings)
        network.to(dtype)
    keep_less(network.model.language_model)
    phase.apply(network, told=False)
    return network


@dataclass(frozen=True)
class _Counts:
    """Elements of the model: of each part, of FSDP's units, and those quantised or whole on every process."""

    parts: dict[str, tuple[int, int]]
    learning: int
    frozen: int  # that is cut over the processes
    whole: float  # bytes on every process
    largest: int  # gathered elements of the largest layer
    largest_learning: int
    root: int
    root_learning: int
    unpacked: int  # elements of the largest quantised matrix
    width: int  # bytes of the arithmetic's dtype

    @classmethod
    def of(cls, network: VideoLlama2ForConditionalGeneration, settings: Settings, dtype: torch.dtype) -> "_Counts":
        packed = _quantised(network) if settings.quantise else set()
        inner: Any = network.model
        encoders = [e for e in (inner.vision_encoder, inner.audio_encoder) if e is not None]
        apart = {id(p) for e in encoders if not any(p.requires_grad for p in e.parameters()) for p in e.parameters()}
        parts = dict.fromkeys(PARTS, (0, 0))
        for name, p in network.named_parameters():
            learns, every = parts[part_of(name)]
            parts[part_of(name)] = learns + p.numel() * p.requires_grad, every + p.numel()
        units = [list(layer.parameters()) for layer in inner.language_model.layers]
        layered = {id(p) for unit in units for p in unit}
        root = [p for p in network.parameters() if id(p) not in layered | apart]
        cut = [[p for p in unit if id(p) not in packed] for unit in units]
        frozen = [p for p in network.parameters() if not p.requires_grad]
        bits = NF4 if settings.quantise == 4 else 1.0
        return cls(
            parts={part: n for part, n in parts.items() if n[1]},
            learning=_elements(p for p in network.parameters() if p.requires_grad),
            frozen=_elements(p for p in frozen if id(p) not in packed | apart),
            whole=sum(
                p.numel() * (bits if id(p) in packed else dtype.itemsize) for p in frozen if id(p) in packed | apart
            ),
            largest=max(_elements(unit) for unit in cut),
            largest_learning=max(_elements(p for p in unit if p.requires_grad) for unit in cut),
            root=_elements(root),
            root_learning=_elements(p for p in root if p.requires_grad),
            unpacked=max((p.numel() for p in network.parameters() if id(p) in packed), default=0),
            width=dtype.itemsize,
        )

    def share(self, gpus: int, step: Activations, accumulated: bool) -> Share:
        """The share of one of `gpus` processes."""
        frozen = int(self.frozen * self.width / gpus + self.whole)
        learning = self.learning * 4 // gpus
        gathered = self.unpacked * self.width
        if gpus > 1:
            # the layer at work and the next one; a gradient is whole in the arithmetic's dtype until it has been
            # copied to float32 and summed over the processes
            layer = 2 * self.largest * self.width + self.largest_learning * (self.width + 4)
            root = self.root * self.width + self.root_learning * self.width
            gathered += root + max(layer, self.root_learning * 4)
        elif self.width < 4:
            gathered += self.learning * self.width  # autocast keeps what it converted until the step is over
        moving = learning + step.most if accumulated else step.most_with(4 / gpus)
        total = frozen + 3 * learning + gathered + moving + (CUDA_CONTEXT if gpus > 1 else 0)
        return Share(gpus, frozen, learning, learning, 2 * learning, gathered, step.most, total)


def _elements(parameters: Any) -> int:
    return sum(p.numel() for p in parameters)


def _quantised(network: VideoLlama2ForConditionalGeneration) -> set[int]:
    """Ids of the weights that bitsandbytes packs: the language model's linear layers, but not Mixtral's experts."""
    inner: Any = network.model
    linear = [m for m in inner.language_model.modules() if isinstance(m, nn.Linear)]
    return {id(m.weight) for m in linear if not m.weight.requires_grad}
