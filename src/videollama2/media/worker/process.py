"""One worker process, seen from its parent: start it, send it tasks, kill it if it takes too long.

    task ──► Worker.call ──► process with limits on wall-clock time, CPU time and memory ──► reply
                  └──► WorkerDied ("Hung" or "Crashed"); the next task gets a new process

loop.py is the other side. pool.py opens clips with workers; the data doctor examines training data with them.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from ...errors import UsageError, VideoLlama2Error, WorkerError
from .messages import BadMessage, Blob, read_message, write_message

HUNG: Final = "Hung"
CRASHED: Final = "Crashed"
_START_SECONDS = 180.0  # imports, on a busy machine
_MAX_STDERR = 1 << 20  # bytes kept in the file that takes the worker's standard error
_MAX_STDERR_SHOWN = 300  # characters of it that an error quotes
_SECRET = re.compile(
    r"(^|_)(API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?|AUTH)(_|$)|_PROXY$", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class WorkerLimits:
    """Limits on one task. A caller may lower them.

    Attributes:
        seconds: wall-clock time; then the parent kills the worker.
        cpu_seconds: CPU time over all threads; then the kernel kills the worker.
        memory_mb: MiB that the worker may map beyond what it has mapped at start.
        reply_bytes: raw bytes of a reply.
    """

    seconds: float = 120.0
    cpu_seconds: float = 480.0
    memory_mb: int = 4096
    reply_bytes: int = 3 << 30

    def __post_init__(self) -> None:
        wrong = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if not getattr(self, f.name) > 0]
        if wrong:
            raise UsageError(f"{', '.join(wrong)}; expected worker limits above 0.")

    def lowered(self, other: "WorkerLimits | None") -> "WorkerLimits":
        """The lower limit of each pair."""
        if other is None:
            return self
        return WorkerLimits(**{name: min(value, getattr(other, name)) for name, value in asdict(self).items()})


class WorkerDied(VideoLlama2Error):
    """The worker hung or crashed on a task; `kind` says which."""

    def __init__(self, kind: Literal["Hung", "Crashed"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Worker:
    """One worker process, started on its first task and replaced when it dies. Serves one thread at a time.

    Attributes:
        confinement: what the running process has given up ("network", "calls": see confinement.py).
        closed: whether `close` was called.
    """

    def __init__(self, command: Sequence[str], limits: WorkerLimits) -> None:
        """`command` is the command line; `module_command` gives that of a module."""
        self.limits, self.closed = limits, False
        self.confinement: tuple[str, ...] = ()
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None
        self._timed_out = False

    def call(
        self, task: Any, blobs: Sequence[Blob] = (), limits: WorkerLimits | None = None
    ) -> tuple[Any, list[bytearray]]:
        """Send a task and wait for the reply: its body and its blobs.

        Args:
            limits: limits on this task; they can only lower the worker's.

        Raises:
            WorkerDied: the worker hung or crashed. WorkerError: it can't be started, or is closed.
        """
        allowed = self.limits.lowered(limits)
        process = self._running()
        printed = os.fstat(self._stderr.fileno()).st_size  # by earlier tasks
        body = {"task": task, "limits": asdict(allowed)}
        why = ""
        try:
            reply = self._exchange(process, (body, blobs), allowed)
            if reply is not None:
                return reply
        except BadMessage as error:
            process.kill()
            why = f"it sent {error}"
        process.wait()
        stderr = self._stderr_tail(printed)
        code = self._reap(process)
        if self._timed_out:
            raise WorkerDied(HUNG, f"no reply within {allowed.seconds:g} s; its worker was killed")
        if self.closed:
            raise WorkerError("the media workers were stopped.")
        if code == -getattr(signal, "SIGXCPU", 0):
            why = f"it took more than {allowed.cpu_seconds:g} s of CPU time"
        crash = WorkerDied(CRASHED, f"its worker crashed ({why or _exit_reason(code)})")
        if stderr:  # a note: a server doesn't show it to strangers
            crash.add_note(f"its last output on standard error: {stderr}")
        raise crash

    def start(self) -> None:
        """Start the process now rather than on the first task.

        Raises:
            WorkerError: as `call`.
        """
        self._running()

    def close(self) -> None:
        """Kill the process for good. May be called while another thread is in `call`."""
        with self._lock:
            self.closed = True
            if self._process is not None:
                self._process.kill()

    def shut_down(self) -> None:
        """Close, and wait for the process to exit. No thread may be in `call`."""
        self.close()
        self.kill()

    def kill(self) -> None:
        """Kill the process and wait for it to exit; the next task starts a new one."""
        if self._process is not None:
            self._process.kill()
            self._reap(self._process)

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            self._trim_stderr()
            return self._process
        if self._process is not None:  # it died between two tasks
            self._reap(self._process)
        with self._lock:
            if self.closed:
                raise WorkerError("the media workers were stopped.")
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
            try:
                self._process = process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                    env=_environment(),
                )  # fmt: skip
            except OSError as error:
                self._stderr.close()
                raise WorkerError(f"could not start a media worker: {error}") from error
        why = ""
        try:
            ready = self._exchange(process, None, WorkerLimits(seconds=_START_SECONDS))
        except BadMessage as error:
            ready, why = None, f"it sent {error}"
            process.kill()
        if ready is None:
            process.wait()
            stderr = self._stderr_tail()
            code = self._reap(process)
            if self._timed_out:
                why = f"it was not ready within {_START_SECONDS:g} s"
            colon = ": " if stderr else ""
            raise WorkerError(f"could not start a media worker ({why or _exit_reason(code)}){colon}{stderr}.")
        self.confinement = tuple(ready[0])
        return process

    def _exchange(
        self, process: "subprocess.Popen[bytes]", message: tuple[Any, Sequence[Blob]] | None, limits: WorkerLimits
    ) -> tuple[Any, list[bytearray]] | None:
        """Send a message, if any, and read one; None if the process times out (and is killed) or exits."""
        assert process.stdin is not None and process.stdout is not None
        self._timed_out = False
        done = threading.Event()
        timer = threading.Timer(limits.seconds, self._expire, args=(process, done))
        timer.daemon = True
        timer.start()
        try:
            if message is not None:
                write_message(process.stdin, *message)
            return read_message(process.stdout, limits.reply_bytes)
        except OSError:  # broken pipe: it died before it read
            return None
        finally:
            with self._lock:  # from here on the timer can't kill a process that serves the next task
                done.set()
            timer.cancel()

    def _expire(self, process: "subprocess.Popen[bytes]", done: threading.Event) -> None:
        with self._lock:
            if not done.is_set():
                self._timed_out = True
                process.kill()

    def _reap(self, process: "subprocess.Popen[bytes]") -> int:
        code = process.wait()
        for stream in filter(None, (process.stdin, process.stdout, self._stderr)):
            with contextlib.suppress(OSError):
                stream.close()
        self._process = None
        return code

    def _trim_stderr(self) -> None:
        """Standard error is kept for error messages only; over thousands of broken files it would fill the disk."""
        if os.fstat(self._stderr.fileno()).st_size > _MAX_STDERR:
            self._stderr.seek(0)
            self._stderr.truncate()

    def _stderr_tail(self, start: int = 0) -> str:
        """The end of what a dead process printed from byte `start` on."""
        self._stderr.seek(start)
        text: str = self._stderr.read(_MAX_STDERR).decode(errors="replace").strip()
        return text[-_MAX_STDERR_SHOWN:]


def module_command(module: str) -> tuple[str, ...]:
    """The command line that runs a module in a new process."""
    return (sys.executable, "-m", module)


def _environment() -> dict[str, str]:
    """Our environment without secrets: a process that decodes untrusted files has no use for keys.

    glibc reserves 64 MiB of address space for each thread that allocates while others do, which counts against the
    limit on memory: decoders on a busy machine could not start their threads. Two such arenas are enough.
    """
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    return {"MALLOC_ARENA_MAX": "2"} | kept | {"OMP_NUM_THREADS": "1"}


def _exit_reason(code: int) -> str:
    """The signal or exit code that ended a process."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
