"""How long a run computes, before a weight is read: its floating-point operations, and hours on common numbers of GPUs.

    operations of a position = 2 × parameters forward, as many to pass gradients back, as many for weights that learn,
    and as many again where activations are recomputed (arXiv:2001.08361 §2.1, which neglects attention, as here)

An estimate: what reading media, communication and stragglers add is not in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..audio import SAMPLING_RATE
from ..configuration import VideoLlama2Config
from ..phases import Phase
from ..vision import num_patches

PEAK = 312e12  # operations per second of an A100 in bfloat16, dense
_AUDIO_SECONDS = 30  # of an audio input
UTILISATION = 0.4  # of the peak; usual for models of this size


@dataclass(frozen=True)
class TrainingTime:
    """Operations of a run, and hours by number of GPUs."""

    operations: float
    hours: dict[int, float]

    def text(self) -> str:
        """As text."""
        each = ", ".join(f"{hours:,.1f} h on {gpus}" for gpus, hours in self.hours.items())
        return (
            f"about {self.operations:.1e} operations: {each} A100 GPUs at {UTILISATION:.0%} of their "
            f"{PEAK / 1e12:.0f} TFLOP/s, reading media not included"
        )


def training_time(
    config: VideoLlama2Config,
    phase: Phase,
    parts: Mapping[str, tuple[int, int]],
    *,
    samples: int,
    positions: float,
    frames: float,
    fbanks: float,
    recomputed: bool,
    gpus: Sequence[int],
) -> TrainingTime:
    """The operations of a run.

    Args:
        parts: part → (parameters that learn, parameters in all), as `MemoryPlan.parts`.
        samples: of the run, repetitions included.
        positions: of the language model per sample, on average. frames: of the vision encoder. fbanks: of audio inputs
            (0 to 1) per sample.
        recomputed: activations of the language model are recomputed.
        gpus: numbers of GPUs.
    """
    vision = config.vision_config
    patches = 0 if vision is None else math.prod(num_patches(vision))
    audio = 0
    if config.audio_config is not None:
        frames_of_audio = config.audio_config.num_frames(round(_AUDIO_SECONDS * SAMPLING_RATE))
        audio = config.audio_config.num_features(frames_of_audio)
    seen = {"vision_encoder": frames * patches, "connector": frames * patches / 4, "audio_encoder": fbanks * audio,
            "audio_projector": fbanks * audio}  # fmt: skip
    total = 0.0
    for part, (learning, whole) in parts.items():
        active = whole * _active_share(config) if part == "language_model" else whole
        length = seen.get(part, positions)
        language = part in ("language_model", "lm_head")
        passes = 1 + (1 if language or learning else 0) + (1 if learning else 0) + (1 if language and recomputed else 0)
        total += 2 * passes * active * length
    operations = total * samples
    return TrainingTime(operations, {n: operations / (n * PEAK * UTILISATION) / 3600 for n in gpus})


def _active_share(config: VideoLlama2Config) -> float:
    """The share of a language model's parameters that a token uses: less than 1 with experts."""
    text = config.text_config
    experts, used = getattr(text, "num_local_experts", None), getattr(text, "num_experts_per_tok", None)
    if not experts or not used:
        return 1.0
    expert = 3 * text.hidden_size * text.intermediate_size
    attention = 2.5 * text.hidden_size**2  # grouped keys and values
    return (used * expert + attention) / (experts * expert + attention)
