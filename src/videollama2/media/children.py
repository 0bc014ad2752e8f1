"""A child process that can be killed: what hangs or dies in it is an answer, not an accident.

    task ──► Child.ask ──► its process, with limits on time, processor time and memory ──► reply
                     └──► ChildFailure: "Hung" or "Crashed"; the next task gets a new process

The child's side is serving.py. media/isolated.py opens clips this way, and the data doctor looks at training data.
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

from ..errors import UsageError, VideoLlama2Error, WorkerError
from .framing import BadMessage, Blob, read_message, write_message

HUNG: Final = "Hung"
CRASHED: Final = "Crashed"
_START_SECONDS = 180.0  # imports, on a busy machine
_SAID = 300  # characters of a dead child's last words
_SECRET = re.compile(
    r"(^|_)(API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?|AUTH)(_|$)|_PROXY$", re.IGNORECASE
)
_MOST_SAID = 1 << 20  # bytes of its remarks that are kept


@dataclass(frozen=True, kw_only=True)
class ChildLimits:
    """What one task may take. A caller may lower them.

    Attributes:
        seconds: of wall-clock time; then the process is killed.
        cpu_seconds: of processor time of all its threads; then the system kills it.
        memory_mb: MiB that it may map beyond what it has when it starts.
        reply_bytes: of a reply, or of a task's own data.
    """

    seconds: float = 120.0
    cpu_seconds: float = 480.0
    memory_mb: int = 4096
    reply_bytes: int = 3 << 30

    def __post_init__(self) -> None:
        wrong = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if not getattr(self, f.name) > 0]
        if wrong:
            raise UsageError(f"{', '.join(wrong)}; limits of a child process are above 0")

    def lowered(self, other: "ChildLimits | None") -> "ChildLimits":
        """The lower one of each."""
        return self if other is None else ChildLimits(**{k: min(v, getattr(other, k)) for k, v in asdict(self).items()})


class ChildFailure(VideoLlama2Error):
    """A task brought no reply. `kind` says whether its process hung or crashed; the message says it in words."""

    def __init__(self, kind: Literal["Hung", "Crashed"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Child:
    """One child process, started when needed and replaced when it is gone. One thread at a time asks it.

    `held` says what it gave up when it started (confinement.py).
    """

    def __init__(self, command: Sequence[str], limits: ChildLimits) -> None:
        """`command` is what `python -m` runs, or a whole command line."""
        self.limits, self.closed = limits, False
        self.held: tuple[str, ...] = ()
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None
        self._late = False

    def ask(
        self, task: Any, blobs: Sequence[Blob] = (), limits: ChildLimits | None = None
    ) -> tuple[Any, list[bytearray]]:
        """The reply of the child process, and its bytes.

        Args:
            limits: of this task; the lower ones of these and the child's hold.

        Raises:
            ChildFailure: it gave none. WorkerError: no process can be started, or this child is closed.
        """
        allowed = self.limits.lowered(limits)
        process = self._started()
        body = {"task": task, "limits": asdict(allowed)}
        why = ""
        try:
            reply = self._exchange(process, (body, blobs), allowed)
            if reply is not None:
                return reply
        except BadMessage as error:
            process.kill()
            why = f"it sent {error}"
        code = self._ended(process)
        if self._late:
            raise ChildFailure(HUNG, f"nothing came of it within {allowed.seconds:g} s; it was stopped")
        if self.closed:
            raise WorkerError("the processes that open media were stopped")
        if code == -getattr(signal, "SIGXCPU", 0):
            why = f"it took more than {allowed.cpu_seconds:g} s of processor time"
        raise ChildFailure(CRASHED, f"its decoder took the process with it ({why or fate(code)})")

    def start(self) -> None:
        """Start it now, and not with the first task; raises WorkerError as `ask`."""
        self._started()

    def close(self) -> None:
        """Stop the child process, for good; may be called from another thread than `ask`."""
        with self._lock:
            self.closed = True
            if self._process is not None:
                self._process.kill()

    def end(self) -> None:
        """Stop it, for good, and wait until it is gone; called while nobody is in `ask`."""
        self.close()
        self.drop()

    def drop(self) -> None:
        """Stop its process, and wait until it is gone; the next task gets a new one."""
        if self._process is not None:
            self._process.kill()
            self._ended(self._process)

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            self._trim()
            return self._process
        if self._process is not None:  # it died between two tasks
            self._ended(self._process)
        with self._lock:
            if self.closed:
                raise WorkerError("the processes that open media were stopped")
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
            try:
                self._process = process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                    env=_environment(),
                )  # fmt: skip
            except OSError as error:
                self._errors.close()
                raise WorkerError(f"no process can be started to open media in: {error}") from error
        why = ""
        try:
            ready = self._exchange(process, None, ChildLimits(seconds=_START_SECONDS))
        except BadMessage as error:
            ready, why = None, f"it sent {error}"
            process.kill()
        if ready is None:
            said = self._last_words()
            raise WorkerError(f"the process to open media in can't start ({why or fate(self._ended(process))}){said}")
        self.held = tuple(ready[0])
        return process

    def _exchange(
        self, process: "subprocess.Popen[bytes]", message: tuple[Any, Sequence[Blob]] | None, limits: ChildLimits
    ) -> tuple[Any, list[bytearray]] | None:
        """Send a message, if any, and wait for one; None if the process is killed for lateness or ends by itself."""
        assert process.stdin is not None and process.stdout is not None
        self._late = False
        over = threading.Event()
        timer = threading.Timer(limits.seconds, self._expire, args=(process, over))
        timer.daemon = True
        timer.start()
        try:
            if message is not None:
                write_message(process.stdin, *message)
            return read_message(process.stdout, limits.reply_bytes)
        except OSError:  # a broken pipe: it died before it read
            return None
        finally:
            with self._lock:  # from here on the timer can't kill the process that the next task will go to
                over.set()
            timer.cancel()

    def _expire(self, process: "subprocess.Popen[bytes]", over: threading.Event) -> None:
        with self._lock:
            if not over.is_set():
                self._late = True
                process.kill()

    def _ended(self, process: "subprocess.Popen[bytes]") -> int:
        code = process.wait()
        for stream in filter(None, (process.stdin, process.stdout, self._errors)):
            with contextlib.suppress(OSError):
                stream.close()
        self._process = None
        return code

    def _trim(self) -> None:
        """Its remarks are for its last words alone; of thousands of broken files they would fill the disk."""
        if os.fstat(self._errors.fileno()).st_size > _MOST_SAID:
            self._errors.seek(0)
            self._errors.truncate()

    def _last_words(self) -> str:
        if self._errors.closed:
            return ""
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return f": {said[-_SAID:]}" if said else ""


def _environment() -> dict[str, str]:
    """Ours without what is secret: a process that opens strangers' media has no use for keys."""
    return {name: value for name, value in os.environ.items() if not _SECRET.search(name)} | {"OMP_NUM_THREADS": "1"}


def module_command(module: str) -> tuple[str, ...]:
    """What runs a module of this package in a child process."""
    return (sys.executable, "-m", module)


def fate(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
