"""How to load an Engine, as data that can be sent to other machines."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...media.worker import WorkerLimits


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """The arguments of `videollama2.load`, and the limits of its media workers.

    Attributes:
        workers: media workers, each decoding one file at a time.
        cache_clips: whether consecutive questions about a clip decode it once.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    base: str | None = None
    revision: str | None = None
    workers: int = 2
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    cache_clips: bool = False

    def anywhere(self) -> "EngineSpec":
        """The same for a process with another working folder."""
        return replace(self, model=_located(self.model), base=None if self.base is None else _located(self.base))

    def load(self) -> Any:
        """The engine; raises as `videollama2.load`."""
        import videollama2

        from ...media.clip_cache import ClipCache
        from ...media.worker import WorkerPool

        engine = videollama2.load(
            self.model, device=self.device, dtype=self.dtype, base=self.base, revision=self.revision,
            isolate=WorkerPool(workers=self.workers, worker_limits=self.limits),
        )  # fmt: skip
        if self.cache_clips:
            engine.opener = ClipCache(engine.opener)
        return engine


def _located(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).is_dir() else name
