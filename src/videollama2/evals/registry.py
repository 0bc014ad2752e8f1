"""Every benchmark by its name. A new one is a module in `benchmarks/` with a tuple BENCHMARKS, and a line here."""

from types import ModuleType

from ..errors import UsageError, did_you_mean
from .benchmark import Benchmark
from .benchmarks import (
    activitynet_qa,
    avhbench,
    avqa,
    avsd,
    clotho,
    clotho_aqa,
    cmm,
    daily_omni,
    egoschema,
    msvc,
    msvd_qa,
    music_avqa,
    mvbench,
    perception_test,
    probe,
    tut2017,
    vggsound,
    video_chatgpt,
    video_mme,
    vocalsound,
    worldsense,
)

_MODULES: tuple[ModuleType, ...] = (
    egoschema,
    perception_test,
    mvbench,
    video_mme,
    msvc,
    msvd_qa,
    activitynet_qa,
    video_chatgpt,
    clotho_aqa,
    clotho,
    tut2017,
    vocalsound,
    music_avqa,
    avsd,
    vggsound,
    daily_omni,
    worldsense,
    avqa,
    avhbench,
    cmm,
    probe,
)


def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks, in the order of the modules."""
    return {benchmark.name: benchmark for module in _MODULES for benchmark in module.BENCHMARKS}


def benchmark(name: str) -> Benchmark:
    """The benchmark of this name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    known = benchmarks()
    if name in known:
        return known[name]
    hint = did_you_mean(name.lower().replace("_", "-"), known) or "."
    raise UsageError(f"no benchmark is named {name!r}{hint} `videollama2 eval list` names all {len(known)}")
