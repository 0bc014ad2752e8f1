"""Every training set by its name. A new one is a module in `known/` with a tuple SETS, and its name here."""

from functools import cache

from ..registries import by_name, registered
from .contract import TrainingSet

_MODULES = (
    "panda70m", "webvid", "vidal", "internvid", "images", "actions", "video_qa", "video_instructions", "unpublished",
    "audio_captions", "audio_classes", "audio_qa", "audio_visual", "other_video_qa", "text",
)  # fmt: skip


@cache
def training_sets() -> dict[str, TrainingSet]:
    """All sets, in the order of the modules."""
    return registered(f"{__package__}.known", _MODULES, "SETS")


def training_set(name: str) -> TrainingSet:
    """The set of this name.

    Raises:
        UsageError: unknown name; the message names the nearest.
    """
    return by_name(training_sets(), name, "training set", "videollama2 data list")
