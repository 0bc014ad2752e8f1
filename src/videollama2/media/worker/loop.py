"""The worker's side of process.py: read tasks from standard input, write replies to standard output.

Before the first task, the process gives up network and writing; each task runs under its limits (confinement.py).
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from .confinement import confine, limit_resources, mapped_bytes
from .messages import Blob, read_message, write_message

_MAX_TASK = 1 << 40  # bytes of a task: the parent is trusted, and has checked what it sends

Handler = Callable[[Any, list[bytearray]], tuple[Any, Sequence[Blob]]]
"""A task's body and blobs → the reply's. An exception ends the process."""


def run_worker(handler: Handler) -> None:
    """Confine this process and answer tasks. Anything else that is printed goes to standard error."""
    gc.freeze()  # what imports made stays; searching it after each task would take longer than most tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal; the parent ends its workers
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer_tasks(sys.stdin.buffer, replies, handler, confine())


def answer_tasks(tasks: BinaryIO, replies: BinaryIO, handler: Handler, confinement: Sequence[str] = ()) -> None:
    """Report ready, with what this process has given up; then answer tasks until input ends."""
    at_start = mapped_bytes()
    write_message(replies, list(confinement))
    while (message := read_message(tasks, _MAX_TASK)) is not None:
        body, blobs = message
        with limit_resources(at_start=at_start, **body["limits"]):
            write_message(replies, *handler(body["task"], blobs))  # no name holds it: the next task needs the memory
        gc.collect()  # decoders in reference cycles, after an error too, hold threads and memory
