"""Every benchmark by its name. A new one is a module in `benchmarks/` with a tuple BENCHMARKS, and its name here."""

from functools import cache
from importlib import import_module

from ..errors import UsageError, did_you_mean
from .benchmark import Benchmark

_MODULES = (
    "egoschema", "perception_test", "mvbench", "video_mme", "msvc", "msvd_qa", "activitynet_qa", "video_chatgpt",
    "clotho_aqa", "clotho", "tut2017", "vocalsound", "music_avqa", "avsd", "vggsound", "daily_omni", "worldsense",
    "avqa", "avhbench", "cmm", "avut", "video_holmes", "future_omni", "lvomni_bench", "probe",
)  # fmt: skip


@cache
def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks, in the order of the modules."""
    modules = [import_module(f"{__package__}.benchmarks.{name}") for name in _MODULES]
    return {benchmark.name: benchmark for module in modules for benchmark in module.BENCHMARKS}


def benchmark(name: str) -> Benchmark:
    """The benchmark of this name.

    Raises:
        UsageError: unknown name; the message names the nearest.
    """
    known = benchmarks()
    if name in known:
        return known[name]
    hint = did_you_mean(name.lower().replace("_", "-"), known) or "."
    raise UsageError(f"unknown benchmark {name!r}{hint} `videollama2 eval list` lists all {len(known)}.")
