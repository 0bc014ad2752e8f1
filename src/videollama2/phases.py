"""The five phases of training, as data (paper §3, spec §6.2).

    video_align ─► video_tune ─► audio_align ─► audio_tune ─► av_joint
    connector      + language     projector      + BEATs       all but the vision encoder

A phase defines which parts learn, from what, and how fast; nothing else in the package decides that. The numbers in
`PHASES` are those of the released scripts; for each released model, recipes/ also has the numbers printed in the paper,
with protocol and frames. Your own recipe is a phase with other numbers: `PHASES["av_joint"].but(…)`.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

if TYPE_CHECKING:  # the command line reads this module for its help, without waiting for torch
    from torch import nn

from .errors import UsageError

logger = logging.getLogger(__name__)

# part -> prefix of its parameters in VideoLlama2ForConditionalGeneration
PARTS = {
    "vision_encoder": "model.vision_encoder.",
    "connector": "model.connector.",
    "audio_encoder": "model.audio_encoder.",
    "audio_projector": "model.audio_projector.",
    "language_model": "model.language_model.",
    "lm_head": "lm_head.",
}


Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["auto", "fp32", "bf16"]
Style = Literal["chat", "joined", "templated"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of training: what learns, from what, how fast.

    Parts are the keys of `PARTS`. If a part has LoRA adapters, they learn in its place; the head of such a language
    model stays frozen, as PEFT leaves it in the original (spec §6.3).
    """

    name: Annotated[str, "name of the phase"]
    learns: Annotated[frozenset[str], "parts to train; all others are frozen"]
    starts_from: Annotated[str, "what the published phase starts from (informative; --model decides)"] = ""
    mixture: Annotated[
        dict[str, float],
        "share of each pool (av, video, audio, image, text, or a name from --data); none: each record once",
    ] = field(default_factory=dict)
    sound: Annotated[bool, "use the audio of videos whose records don't say"] = False
    style: Annotated[Style, "prompt format: chat template, or plain as in pre-training (joined, templated)"] = "chat"
    frames: Annotated[int | None, "frames per video; none: the model's own number"] = None
    protocol: Annotated[str | None, "media preprocessing: released, paper, full; none: the model's own"] = None
    max_length: Annotated[int | None, "maximum sample length, media tokens included; none: the model's context"] = None
    learning_rate: Annotated[float, "peak learning rate; `rates` overrides it per part"]
    rates: Annotated[dict[str, float], "peak learning rate per part"] = field(default_factory=dict)
    batch: Annotated[int, "samples per step, over all processes"]
    epochs: Annotated[float, "passes over the data"] = 1.0
    steps: Annotated[int | None, "optimiser steps; overrides epochs"] = None
    schedule: Annotated[Schedule, "learning rate schedule after the warm-up"] = "cosine"
    warmup: Annotated[float, "share of the steps spent on warm-up"] = 0.03
    weight_decay: Annotated[float, "weight decay, on matrices only"] = 0.0
    beta2: Annotated[float, "AdamW's beta2"] = 0.999
    clip: Annotated[float, "maximum gradient norm"] = 1.0
    precision: Annotated[Precision, "compute precision; trained weights stay fp32; auto: bf16 if supported"] = "auto"

    def __post_init__(self) -> None:
        unknown = (set(self.learns) | set(self.rates)) - set(PARTS)
        if unknown or not self.learns:
            raise UsageError(
                f"phase {self.name!r} names the parts {sorted(unknown) or 'none'}; expected some of {', '.join(PARTS)}."
            )
        within(self, 0, math.inf, "learning_rate", "weight_decay")
        within(self, 1, 10**6, "batch")
        within(self, 1, math.inf, "steps", "max_length", "frames")
        for name, most in (("epochs", 1e6), ("clip", math.inf)):  # nothing would be learned at zero
            if not 0 < getattr(self, name) <= most:
                raise UsageError(f"{name} is {getattr(self, name):g}; expected more than 0, at most {most:g}.")
        for name, what in (("warmup", "a share of the steps"), ("beta2", "the share that is kept in each step")):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name):g}; expected {what}, 0 ≤ {name} < 1.")
        for part, rate in self.rates.items():
            if not rate >= 0:
                raise UsageError(f"rates has {part}={rate:g}; expected at least 0.")

    def but(self, **changes: Any) -> "Phase":
        """A copy of this phase with other values."""
        if "learns" in changes:
            changes["learns"] = frozenset(changes["learns"])
        return replace(self, **changes)

    def rate(self, part: str) -> float:
        """Peak learning rate of a part."""
        return self.rates.get(part, self.learning_rate)

    def apply(self, model: "nn.Module", *, told: bool = True) -> dict[str, list["nn.Parameter"]]:
        """Set `requires_grad` everywhere and, if `told`, log one line per part.

        Returns:
            For each part that learns, its learning parameters. A head that is tied to the embedding counts as part of
            the language model.

        Raises:
            UsageError: the model lacks a part that should learn.
        """
        members = _by_part(model.named_parameters())
        absent = [p for p in self.learns if not members.get(p) and p != "lm_head"]
        if absent:
            raise UsageError(f"phase {self.name!r} trains {', '.join(sorted(absent))}, which this model does not have.")
        learning: dict[str, list[Any]] = {}
        adapted = {part for part, named in members.items() if any("lora_" in name for name, _ in named)}
        if "language_model" in adapted:
            adapted.add("lm_head")
        for part, named in members.items():
            for name, parameter in named:
                parameter.requires_grad_(part in self.learns and (part not in adapted or "lora_" in name))
            chosen = [p for _, p in named if p.requires_grad]
            millions = sum(p.numel() for p in (chosen or [p for _, p in named])) / 1e6
            logger.log(
                logging.INFO if told else logging.DEBUG,
                "%s: %-7s %-15s %8.2f M parameters",
                self.name,
                "learns" if chosen else "frozen",
                part,
                millions,
            )
            if chosen:
                learning[part] = chosen
        return learning


def within(owner: object, least: float, most: float, *names: str) -> None:
    """Raise UsageError if an attribute of `owner` is out of range; None is always in range."""
    for name in names:
        value = getattr(owner, name)
        if value is not None and not least <= value <= most:
            wanted = f"at least {least:g}" if value < least else f"at most {most:g}"
            raise UsageError(f"{name} is {value:.6g}; expected {wanted}.")


def part_of(name: str) -> str:
    """The part that the parameter with that name belongs to.

    Raises:
        UsageError: the name has no known prefix.
    """
    for part, prefix in PARTS.items():
        if name.startswith(prefix):
            return part
    raise UsageError(f"the parameter {name!r} belongs to no part of the model; expected one of {', '.join(PARTS)}.")


def _by_part(named: Iterable[tuple[str, "nn.Parameter"]]) -> dict[str, list[tuple[str, "nn.Parameter"]]]:
    members: dict[str, list[tuple[str, Any]]] = {}
    for name, parameter in named:
        members.setdefault(part_of(name), []).append((name, parameter))
    return members


def _phases(*phases: Phase) -> dict[str, Phase]:
    return {p.name: p for p in phases}


PHASES = _phases(
    Phase(
        name="video_align",
        starts_from="a language model and a vision encoder",
        learns=frozenset({"connector"}),
        style="joined",
        learning_rate=1e-3,
        batch=256,
    ),
    Phase(
        name="video_tune",
        starts_from="video_align",
        learns=frozenset({"connector", "language_model", "lm_head"}),
        learning_rate=2e-5,
        batch=128,
    ),
    Phase(
        name="audio_align",
        starts_from="video_tune and BEATs",
        learns=frozenset({"audio_projector"}),
        style="templated",
        learning_rate=1e-3,
        batch=1024,
    ),
    Phase(
        name="audio_tune",
        starts_from="audio_align",
        learns=frozenset({"audio_projector", "audio_encoder"}),
        learning_rate=2e-5,
        batch=128,
        epochs=2,
    ),
    Phase(
        name="av_joint",
        starts_from="video_tune, with the audio encoder and projector of audio_tune",
        learns=frozenset({"connector", "audio_projector", "audio_encoder", "language_model", "lm_head"}),
        mixture={"av": 2.0, "audio": 1.0, "video": 1.0},
        sound=True,
        learning_rate=2e-5,
        batch=128,
        epochs=2,
    ),
)
