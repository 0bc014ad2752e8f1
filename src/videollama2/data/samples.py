"""Records to samples: what one record gives the model."""

from dataclasses import dataclass

from torch import Tensor

from .labels import Example


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One record, ready for a batch.

    Attributes:
        record: `Record.origin`.
        example: ids and labels, with one placeholder id per feature.
        pixels: float32 [T, 3, S, S], or [1, 3, S, S] for a still image; None without pictures.
        still: the pictures are one image.
        fbank: [frames, 128]; None without sound.
        patches: what the frozen vision encoder makes of the pixels, [T, P, C], in their place.
        sound_patches: what the frozen audio encoder makes of the fbank, [n, C] before pooling, in its place.
    """

    record: str
    example: Example
    pixels: Tensor | None
    still: bool
    fbank: Tensor | None
    patches: Tensor | None = None
    sound_patches: Tensor | None = None


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used, and why."""

    record: str
    reason: str
