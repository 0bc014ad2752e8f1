"""The five phases of training, as data (paper §3, spec §6.2).

    video_align ─► video_tune ─► audio_align ─► audio_tune ─► av_joint
    connector      + language     projector      + BEATs       all but the vision encoder

A phase says which parts learn and from what, and how fast; nothing else in the package decides that. The numbers of
`PHASES` are the published recipe's. A recipe for another model is these with
other numbers: `PHASES["av_joint"].but(…)`.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

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


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of training.

    Attributes:
        name: of the phase.
        learns: the parts (keys of `PARTS`) that learn; all others are frozen. Where the language model carries
            adapters, they learn in its place.
        mixture: kind of sample ("video", "audio", "av", "image", "text") → its share of the batches.
        learning_rate: peak; `rates` overrides it per part.
        batch: samples per step, over all devices.
        epochs: passes over the data; `steps` overrides it.
        warmup: share of the steps in which the rate rises; after it a cosine falls to zero.
        weight_decay: on matrices only; clip: largest norm of all gradients together.
    """

    name: str
    learns: frozenset[str]
    mixture: dict[str, float]
    learning_rate: float
    batch: int
    epochs: int = 1
    steps: int | None = None
    rates: dict[str, float] = field(default_factory=dict)
    warmup: float = 0.03
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        unknown = (set(self.learns) | set(self.rates)) - set(PARTS)
        if unknown or not self.learns:
            raise UsageError(
                f"phase {self.name!r} names the parts {sorted(unknown) or 'none'}; expected some of {', '.join(PARTS)}"
            )

    def but(self, **changes: Any) -> "Phase":
        """This phase with other values."""
        if "learns" in changes:
            changes["learns"] = frozenset(changes["learns"])
        return replace(self, **changes)

    def rate(self, part: str) -> float:
        """Peak learning rate of a part."""
        return self.rates.get(part, self.learning_rate)

    def apply(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """Set `requires_grad` everywhere and log one line per part.

        Returns:
            For each part that learns, its learning parameters. A head that is tied to the embedding counts as part of
            the language model.

        Raises:
            UsageError: the model lacks a part that should learn.
        """
        members = _by_part(model.named_parameters())
        absent = [p for p in self.learns if not members.get(p) and p != "lm_head"]
        if absent:
            raise UsageError(f"phase {self.name!r} trains {', '.join(sorted(absent))}, which this model does not have")
        learning: dict[str, list[nn.Parameter]] = {}
        for part, named in members.items():
            adapted = part == "language_model" and any("lora_" in name for name, _ in named)
            for name, parameter in named:
                parameter.requires_grad_(part in self.learns and (not adapted or "lora_" in name))
            chosen = [p for _, p in named if p.requires_grad]
            millions = sum(p.numel() for p in (chosen or [p for _, p in named])) / 1e6
            logger.info(
                "%s: %-7s %-15s %8.2f M parameters", self.name, "learns" if chosen else "frozen", part, millions
            )
            if chosen:
                learning[part] = chosen
        return learning


def part_of(name: str) -> str:
    """The part that a parameter of that name belongs to.

    Raises:
        UsageError: it belongs to none.
    """
    for part, prefix in PARTS.items():
        if name.startswith(prefix):
            return part
    raise UsageError(f"the parameter {name!r} belongs to no part of the model; expected one of {', '.join(PARTS)}")


def _by_part(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, list[tuple[str, nn.Parameter]]]:
    members: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named:
        members.setdefault(part_of(name), []).append((name, parameter))
    return members


def _phases(*phases: Phase) -> dict[str, Phase]:
    return {p.name: p for p in phases}


PHASES = _phases(
    Phase(
        name="video_align",
        learns=frozenset({"connector"}),
        mixture={"video": 703.0, "image": 558.0},  # thousands of samples
        learning_rate=1e-3,
        batch=256,
    ),
    Phase(
        name="video_tune",
        learns=frozenset({"connector", "language_model", "lm_head"}),
        mixture={"video": 100.0, "image": 625.0, "text": 40.0},
        learning_rate=2e-5,
        batch=128,
    ),
    Phase(
        name="audio_align",
        learns=frozenset({"audio_projector"}),
        mixture={"audio": 1.0},
        learning_rate=1e-3,
        batch=1024,
    ),
    Phase(
        name="audio_tune",
        learns=frozenset({"audio_projector", "audio_encoder"}),
        mixture={"audio": 1.0},
        learning_rate=2e-5,
        batch=128,
        epochs=2,
    ),
    Phase(
        name="av_joint",
        learns=frozenset({"connector", "audio_projector", "audio_encoder", "language_model", "lm_head"}),
        mixture={"av": 2.0, "audio": 1.0, "video": 1.0},
        learning_rate=2e-5,
        batch=128,
        epochs=2,
    ),
)
