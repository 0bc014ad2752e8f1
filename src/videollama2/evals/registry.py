"""Every benchmark by its name. A new one is a module in `benchmarks/` with a tuple BENCHMARKS, and its name here."""

from functools import cache

from ..data.registries import by_name, registered
from .benchmark import Benchmark

_MODULES = (
    "egoschema", "perception_test", "mvbench", "video_mme", "msvc", "msvd_qa", "activitynet_qa", "video_chatgpt",
    "clotho_aqa", "clotho", "tut2017", "vocalsound", "music_avqa", "avsd", "vggsound", "daily_omni", "worldsense",
    "avqa", "avhbench", "cmm", "avut", "video_holmes", "future_omni", "lvomni_bench", "probe",
)  # fmt: skip


@cache
def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks, in the order of the modules."""
    return registered(f"{__package__}.benchmarks", _MODULES, "BENCHMARKS")


def benchmark(name: str) -> Benchmark:
    """The benchmark of this name.

    Raises:
        UsageError: unknown name; the message names the nearest.
    """
    return by_name(benchmarks(), name, "benchmark", "videollama2 eval list")
