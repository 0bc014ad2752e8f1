"""RayPool: the tasks of a job on a Ray cluster, with one engine per device.

    driver ─ tasks, 4 to a block ─► ray.data map_batches ─► EngineActor × devices ─► results ─► driver ─ journal

Only paths and results pass through Ray; actors read media themselves. The driver takes results as they come, and Ray
starts no more blocks than fit its object store, so that memory stays flat. Ray restarts lost actors and repeats their
blocks; a result that arrives twice is dropped by the job (live/row_job.py). Ray's own checkpoints are not used
(docs/decisions/0024-ray-data-with-our-journal.md).
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

from ... import __version__
from ...errors import UsageError, VideoLlama2Error
from ...jobs import EnginePool, EngineWork, backend_of
from ...weights.digest import weights_of
from . import start
from .actor import Deaths, EngineActor, as_error, as_text
from .spec import Loadable

MAX_BLOCKS = 20_000  # of one job; more rows make larger blocks
_NEW_ACTORS_THAT_MAY_DIE = 3  # in a row, while they load


class RayPool(EnginePool):
    """Engines on a Ray cluster. Use as a context manager: leaving it disconnects, and stops a cluster started by it.

    Attributes:
        facts: what `describe` returned.
        actors: number of engines.
    """

    elsewhere = True

    def __init__(
        self,
        spec: Loadable,
        *,
        address: str | None = None,
        actors: int | None = None,
        cpus: float | None = None,
        threads: int = 2,
        block: int = 4,
        describe: Any = None,
    ) -> None:
        """Connect, and load one engine on the cluster, to find out what it is.

        Args:
            address: of the cluster (`start.connected`).
            actors: number of engines; None: one per GPU; on a cluster without GPUs, one per node.
            cpus: CPUs of an actor; None: without GPUs, those of the smallest node divided by its actors; with GPUs 1.
            threads: tasks in progress at once in an actor.
            block: tasks that an actor gets, and loses, together.
            describe: function of the engine, called on the cluster; its result is `facts`.

        Raises:
            MissingExtra, UsageError: as `start.connected`. VideoLlama2Error: the engine can't be loaded there.
        """
        for name, value in {"actors": actors, "threads": threads, "block": block}.items():
            if value is not None and value < 1:
                raise UsageError(f"expected {name} of 1 or more, got {value}.")
        self._spec, self._threads, self._block = spec.anywhere(), threads, block
        with ExitStack() as opened:
            self._ray = opened.enter_context(start.connected(address))
            self.actors, self._resources = _plan(self._ray, actors, cpus, gpus=spec.uses_gpu)
            about = self._described(describe)
            self.name, self.protocol, self.backend, self.weights_sha256, self.facts = about
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def map(self, work: EngineWork[Any, Any], tasks: Sequence[Any]) -> Generator[Any, None, None]:
        """As `EnginePool.map`. Tasks and results are pickled."""
        if not tasks:
            return
        from ray import cloudpickle
        from ray.data import ActorPoolStrategy, DataContext

        ray = self._ray
        deaths = ray.remote(num_cpus=0)(Deaths).remote()
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_consecutive_actor_init_deaths = _NEW_ACTORS_THAT_MAY_DIE
        blocks = min(math.ceil(len(tasks) / self._block), MAX_BLOCKS)
        rows = [{"index": i, "task": cloudpickle.dumps(task)} for i, task in enumerate(tasks)]
        data = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            EngineActor,
            fn_constructor_args=(self._spec, work, deaths, self._threads, __version__, ray.get),
            batch_size=None,  # a block, of which an actor gets one at a time
            batch_format="numpy",
            compute=ActorPoolStrategy(size=min(self.actors, blocks), max_tasks_in_flight_per_actor=2),
            **self._resources,
        )
        del rows
        try:
            for row in data.iter_rows():
                if row["result"]:
                    yield cloudpickle.loads(row["result"])
                if row["failure"]:
                    raise as_error(cloudpickle.loads(row["failure"]))
        except VideoLlama2Error:
            raise
        except Exception as error:  # Ray's own errors have no common class
            raise start.lost(error) from error
        finally:
            with suppress(Exception):  # the cluster may be gone
                ray.kill(deaths)

    def _described(self, describe: Any) -> tuple[str, Any, dict[str, str], str | None, Any]:
        """Name, protocol, backend, weights and facts of an engine on the cluster, which is loaded for it."""
        spec = self._spec

        def look() -> tuple[Any, Any]:
            try:
                engine = spec.load()
                facts = None if describe is None else describe(engine)
                return (engine.name, engine.protocol, backend_of(engine), weights_of(engine), facts), None
            except Exception as error:
                return None, as_text(error)

        try:
            found, failure = self._ray.get(self._ray.remote(max_calls=1, **self._resources)(look).remote())
        except Exception as error:
            raise start.lost(error) from error
        if failure is not None:
            raise as_error(failure)
        name, protocol, backend, weights, facts = found
        return name, protocol, backend, weights, facts


def _plan(ray: Any, actors: int | None, cpus: float | None, *, gpus: bool) -> tuple[int, Mapping[str, Any]]:
    """Number of actors, and what each of them occupies."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise UsageError("the Ray cluster has no CPUs; start its nodes with `ray start --num-cpus N`.")
    devices = int(sum(node.get("GPU", 0) for node in nodes)) if gpus else 0
    if devices:
        return actors or devices, {"num_gpus": 1, "num_cpus": 1 if cpus is None else cpus}
    count = actors or len(nodes)
    if cpus is None:
        cpus = max(1, int(min(node["CPU"] for node in nodes) // math.ceil(count / len(nodes))))
    return count, {"num_cpus": cpus}
