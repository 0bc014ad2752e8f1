"""What runs on the cluster: an actor with an Engine, and the count of processes that died on each task.

A task that kills its process (a crash in native code, memory exhausted) is tried again like those of a lost node; Ray
can't tell them apart. So each actor reports a block before it begins. The tasks of a block that was begun before are
worked on alone, each reported first. A task that killed `MAX_DEATHS` processes then is given up, with its own error.
"""

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from ... import __version__, errors
from ...errors import UnreadableMedia, VideoLlama2Error
from ...jobs import STOPS_THE_JOB, EngineWork, error_text, in_threads
from .spec import Loadable

MAX_DEATHS = 2  # of processes that worked on this task alone; one died before, on its block
_GIVEN_UP = (
    f"{MAX_DEATHS} processes died while they worked on this row alone (a crash, or memory exhausted); expected an "
    "answer. Run it with `videollama2 ask` to see the crash, or lower --frames."
)


class Deaths:
    """Remembers which blocks were begun, and counts the processes that began a task alone and did not end it."""

    def __init__(self) -> None:
        self._blocks: set[int] = set()
        self._begun: Counter[int] = Counter()

    def begin_block(self, first: int) -> bool:
        """A process begins the block with this first task; returns whether one did before."""
        again = first in self._blocks
        self._blocks.add(first)
        return again

    def begin(self, task: int) -> int:
        """A process begins the task alone; returns how many died while they worked on it."""
        self._begun[task] += 1
        return self._begun[task] - 1

    def end(self, task: int) -> None:
        """The task is done."""
        del self._begun[task]


class EngineActor:
    """Loads an engine once, then works on batches of tasks. Never raises: what would end the job is returned."""

    def __init__(
        self, spec: Loadable, work: EngineWork[Any, Any], deaths: Any, threads: int, version: str, ray_get: Any
    ) -> None:
        self._work, self._deaths, self._threads = work, deaths, threads
        self._get: Callable[[Any], Any] = ray_get
        self._failure: tuple[str, str] | None = None
        self._engine: Any = None
        try:
            if version != __version__:
                raise VideoLlama2Error(f"videollama2 {__version__} is installed, the job's is {version}; install that.")
            self._engine = spec.load()
        except Exception as error:  # raised from here, it would start replacements without end
            self._failure = as_text(error, where=_node())

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Columns `index` and `task` (pickled) to `index`, `result` (pickled) and `failure` (pickled, or empty)."""
        import numpy
        from ray import cloudpickle

        tasks = [(int(i), cloudpickle.loads(t)) for i, t in zip(batch["index"], batch["task"], strict=True)]
        found: dict[int, Any] = {}
        failure = self._failure
        if failure is None:
            again = bool(self._counted("begin_block", tasks[0][0]))
            try:
                work, threads = (self._alone, 1) if again else (self._one, self._threads)
                for index, result in in_threads(work, tasks, threads):
                    found[index] = result
            except Exception as error:  # as a rule one of STOPS_THE_JOB
                failure = as_text(error, where=_node() if isinstance(error, STOPS_THE_JOB) else "")
        columns = [(i, cloudpickle.dumps(result), b"") for i, result in found.items()]
        if failure is not None:
            columns.append((-1, b"", cloudpickle.dumps(failure)))
        names = ("index", "result", "failure")
        return {n: numpy.array(c, dtype=object) for n, c in zip(names, zip(*columns, strict=True), strict=True)}

    def _one(self, numbered: tuple[int, Any]) -> tuple[int, Any]:
        index, task = numbered
        return index, self._work(self._engine, task, lambda: False)

    def _alone(self, numbered: tuple[int, Any]) -> tuple[int, Any]:
        index, task = numbered
        if (self._counted("begin", index) or 0) >= MAX_DEATHS:
            return index, self._work.lost(task, UnreadableMedia(_GIVEN_UP))
        result = self._one(numbered)
        self._deaths.end.remote(index)
        return result

    def _counted(self, method: str, *args: Any) -> Any:
        """The reply of `Deaths`; None if its node was lost, after which deaths are no longer counted."""
        with contextlib.suppress(Exception):
            return self._get(getattr(self._deaths, method).remote(*args))
        return None


def as_text(error: Exception, where: str = "") -> tuple[str, str]:
    """An error's class and message, which any process can read."""
    name = next((c.__name__ for c in type(error).__mro__ if getattr(errors, c.__name__, None) is c), "")
    words = error_text(error) if name else f"{type(error).__name__}: {error_text(error)}"
    return name or VideoLlama2Error.__name__, f"{where}{words}"


def as_error(text: tuple[str, str]) -> VideoLlama2Error:
    """The error that `as_text` described."""
    known: type[VideoLlama2Error] = getattr(errors, text[0], VideoLlama2Error)
    return known(text[1])


def _node() -> str:
    import ray

    with contextlib.suppress(Exception):
        return f"node {ray.util.get_node_ip_address()}: "
    return ""
