"""How to load an Engine, as data that can be sent to other machines."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ...media.worker import WorkerLimits


class Loadable(Protocol):
    """An engine as data: `EngineSpec`, or `backends.endpoint.EndpointSpec`."""

    @property
    def uses_gpu(self) -> bool:
        """Whether it runs on a GPU if there is one."""

    def anywhere(self) -> "Loadable":
        """The same for a process with another working folder."""

    def load(self) -> Any:
        """The engine."""


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
    engine: str | None = None
    gguf: str | None = None
    workers: int = 2
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    cache_clips: bool = False

    @property
    def uses_gpu(self) -> bool:
        """Whether it runs on a GPU if there is one."""
        return self.device != "cpu"

    def anywhere(self) -> "EngineSpec":
        """The same for a process with another working folder."""
        return replace(self, model=_located(self.model), base=_located(self.base), gguf=_located(self.gguf))

    def load(self) -> Any:
        """The engine; raises as `videollama2.load`."""
        import videollama2

        from ...media.clip_cache import ClipCache
        from ...media.worker import WorkerPool

        engine = videollama2.load(
            self.model, device=self.device, dtype=self.dtype, base=self.base, revision=self.revision,
            engine=self.engine, gguf=self.gguf, isolate=WorkerPool(workers=self.workers, worker_limits=self.limits),
        )  # fmt: skip
        if self.cache_clips:
            engine.opener = ClipCache(engine.opener)
        return engine


def _located(name: Any) -> Any:
    """A local path as an absolute one; any other name, and None, as it is."""
    return str(Path(name).absolute()) if name is not None and Path(name).exists() else name
