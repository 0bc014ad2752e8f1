"""Every training set by its name. A new one is a module in `known/` with a tuple SETS, and its name here."""

from functools import cache
from importlib import import_module

from ...errors import UsageError, did_you_mean
from .contract import TrainingSet

_MODULES = (
    "panda70m", "webvid", "vidal", "internvid", "images", "actions", "video_qa", "video_instructions", "unpublished",
    "audio_captions", "audio_classes", "audio_qa", "audio_visual", "other_video_qa", "text",
)  # fmt: skip


@cache
def training_sets() -> dict[str, TrainingSet]:
    """All sets, in the order of the modules."""
    modules = [import_module(f"{__package__}.known.{name}") for name in _MODULES]
    return {each.name: each for module in modules for each in module.SETS}


def training_set(name: str) -> TrainingSet:
    """The set of this name.

    Raises:
        UsageError: unknown name; the message names the nearest.
    """
    known = training_sets()
    if name in known:
        return known[name]
    hint = did_you_mean(name.lower().replace("_", "-"), known) or "."
    raise UsageError(f"unknown training set {name!r}{hint} `videollama2 data list` lists all {len(known)}.")
