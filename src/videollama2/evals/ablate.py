"""One item as a request, with every modality or with one taken away: the same question, so that columns compare."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..generation.request import Request
from ..generation.sampling import GenerateOptions
from .items import Ablation, Item

ABLATIONS: tuple[Ablation, ...] = ("none", "audio", "video", "text-only")
"""In the order of a report's columns. `audio` and `video` name what is taken away, `text-only` leaves the question."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How media are prepared, where not as the model has it.

    Attributes:
        protocol: name of a protocol (protocols.py).
        frames: of a video.
    """

    protocol: str | None = None
    frames: int | None = None


def columns(names: Iterable[str]) -> tuple[Ablation, ...]:
    """The ablations of these names, in the order of a report, each once.

    Raises:
        UsageError: an unknown name, or none at all.
    """
    asked = list(names)
    unknown = [name for name in asked if name not in ABLATIONS]
    if unknown or not asked:
        raise UsageError(
            f"unknown ablation {', '.join(unknown) or '(none is given)'}; expected some of {', '.join(ABLATIONS)}"
        )
    return tuple(ablation for ablation in ABLATIONS if ablation in asked)


def request_of(item: Item, ablation: Ablation, wishes: Wishes) -> Request:
    """What the model is asked. A medium of which nothing is left is left out: the question stands alone."""
    media = None if ablation == "text-only" else item.media
    if media is not None:
        video, audio = media.video and ablation != "video", media.audio and ablation != "audio"
        frames = wishes.frames if media.num_frames is None else media.num_frames
        media = replace(media, video=video, audio=audio, num_frames=frames) if video or audio else None
    return Request(
        media=None if media is None else [media],
        question=item.question,
        system=item.system,
        protocol=wishes.protocol,
        options=GenerateOptions(max_new_tokens=item.max_new_tokens),
    )
