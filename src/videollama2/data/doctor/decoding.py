"""A pool of worker processes that open media: if one hangs or crashes, that is the answer.

tasks ──► one thread per worker ──► its process, with limits on time and memory ──► answers, as they complete
"""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ...errors import VideoLlama2Error
from ...media.worker.process import CRASHED, HUNG, Worker, WorkerDied, WorkerLimits, module_command

__all__ = ["CRASHED", "HUNG", "Answer", "Task", "answers"]

COMMAND = module_command("videollama2.data.doctor.worker")

Task = Mapping[str, Any]
Answer = dict[str, Any]


def answers(
    tasks: Iterable[tuple[str, Task]], *, workers: int, timeout_s: float, memory_mb: int
) -> Iterator[tuple[str, Answer]]:
    """Name and answer of every task, as they complete; worker.py documents both. A few tasks are held at a time.

    A task that exceeds `timeout_s` is answered {"error": "Hung"}, one whose process dies {"error": "Crashed"}, both
    with a "message".

    Raises:
        VideoLlama2Error: worker processes can't be started.
    """
    left = iter(tasks)
    first = list(islice(left, 2 * workers))
    waiting: queue.SimpleQueue[tuple[str, Task] | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, Answer] | VideoLlama2Error] = queue.SimpleQueue()
    limits = WorkerLimits(seconds=timeout_s, cpu_seconds=max(8 * timeout_s, 1.0), memory_mb=memory_mb)
    pool = [Worker(COMMAND, limits) for _ in range(min(workers, len(first)))]
    threads = [threading.Thread(target=_work, args=(worker, waiting, done), daemon=True) for worker in pool]
    for item in first:
        waiting.put(item)
    for thread in threads:
        thread.start()
    outstanding = len(first)
    try:
        while outstanding:
            found = done.get()
            if isinstance(found, VideoLlama2Error):
                raise found
            if (following := next(left, None)) is not None:
                waiting.put(following)
            else:
                outstanding -= 1
            yield found
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for _ in pool:
            waiting.put(None)
        for worker in pool:
            worker.close()
        for thread in threads:
            thread.join()


def _work(
    worker: Worker,
    waiting: "queue.SimpleQueue[tuple[str, Task] | None]",
    done: "queue.SimpleQueue[tuple[str, Answer] | VideoLlama2Error]",
) -> None:
    try:
        while not worker.closed and (item := waiting.get()) is not None:
            done.put((item[0], _answer(worker, item[1])))
    except VideoLlama2Error as error:
        done.put(error)
    finally:
        worker.shut_down()


def _answer(worker: Worker, task: Task) -> Answer:
    try:
        found: Answer = worker.call(dict(task))[0]
        return found
    except WorkerDied as failure:
        return {"error": failure.kind, "message": str(failure)}
