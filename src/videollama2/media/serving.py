"""The child's side of children.py: tasks come on standard input, replies go to standard output.

A decoder that hangs, that eats all memory or that takes its process with it takes this one only; one that a file takes
over finds a process without network and without the right to write (confinement.py).
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .confinement import confine
from .framing import Blob, read_message, write_message

_MOST_TASK = 1 << 40  # bytes of a task's own data: the parent is trusted, and what it may send it has checked
_MOST_WRITTEN = 16 << 20  # bytes of a file, and the only one that is open is that of remarks
_MOST_OPEN = 256  # files

Handle = Callable[[Any, list[bytearray]], tuple[Any, Sequence[Blob]]]
"""A task and its bytes → the reply and its bytes. Whatever it raises ends the process."""


def main(handle: Handle) -> None:
    """Serve on standard input and output; whatever else writes there writes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the parent ends us
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies, handle, confine())


def serve(tasks: BinaryIO, replies: BinaryIO, handle: Handle, held: Sequence[str] = ()) -> None:
    """Say that this process is ready, and what holds of it (`confine`); answer tasks until there are no more."""
    own = _mapped_bytes()
    write_message(replies, list(held))
    while (message := read_message(tasks, _MOST_TASK)) is not None:
        body, blobs = message
        with _limited(body["limits"], own):
            write_message(replies, *handle(body["task"], blobs))  # not kept: the next task needs the memory


@contextlib.contextmanager
def _limited(limits: Mapping[str, Any], own: int) -> Iterator[None]:
    """Within: so much memory and processor time as the task may take, where the system has such limits.

    Should the parent be gone and nobody stop a decoder that hangs, the system does.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_FSIZE, _MOST_WRITTEN)
        _lower(resource.RLIMIT_NOFILE, _MOST_OPEN)
        if own:
            _lower(resource.RLIMIT_AS, own + (limits["memory_mb"] << 20))
        used = resource.getrusage(resource.RUSAGE_SELF)
        _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + limits["cpu_seconds"]) + 1)
    alarm = hasattr(signal, "setitimer")
    if alarm:
        signal.setitimer(signal.ITIMER_REAL, 2 * limits["seconds"] + 5)
    try:
        yield
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _lower(what: int, soft: int) -> None:
    import resource

    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _mapped_bytes() -> int:
    """What this process maps now; 0 where the system does not tell."""
    try:
        import resource

        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return 0
