"""Media opened in child processes that can be killed: what hangs or dies there is an answer, not an accident.

tasks ──► one thread per worker ──► its child process, with limits on time and memory ──► answers, as they come
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import VideoLlama2Error

COMMAND = (sys.executable, "-m", "videollama2.data.doctor.worker")
HUNG, CRASHED = "Hung", "Crashed"
"""Names of errors in answers, beside those of errors.py."""
_START_SECONDS = 180.0  # imports, on a busy machine
_SAID = 300  # characters of a dead child's last words

Task = Mapping[str, Any]
Answer = dict[str, Any]


def answers(
    tasks: Mapping[str, Task], *, workers: int, timeout_s: float, memory_mb: int
) -> Iterator[tuple[str, Answer]]:
    """Name and answer of every task, in the order in which they are done (worker.py says what they hold).

    A task that takes longer than `timeout_s` seconds is answered {"error": "Hung"}; one whose process dies,
    {"error": "Crashed"}; both with a "message".

    Raises:
        VideoLlama2Error: child processes can't be started.
    """
    waiting: queue.SimpleQueue[tuple[str, Task]] = queue.SimpleQueue()
    for item in tasks.items():
        waiting.put(item)
    done: queue.SimpleQueue[tuple[str, Answer] | VideoLlama2Error] = queue.SimpleQueue()
    crew = [_Worker(timeout_s, memory_mb) for _ in range(min(workers, len(tasks)))]
    threads = [threading.Thread(target=_work, args=(worker, waiting, done), daemon=True) for worker in crew]
    for thread in threads:
        thread.start()
    try:
        for _ in tasks:
            found = done.get()
            if isinstance(found, VideoLlama2Error):
                raise found
            yield found
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for worker in crew:
            worker.close()
        for thread in threads:
            thread.join()


def _work(
    worker: "_Worker",
    waiting: "queue.SimpleQueue[tuple[str, Task]]",
    done: "queue.SimpleQueue[tuple[str, Answer] | VideoLlama2Error]",
) -> None:
    try:
        while not worker.closed:
            name, task = waiting.get_nowait()
            done.put((name, worker.ask(task)))
    except queue.Empty:
        return
    except VideoLlama2Error as error:
        done.put(error)
    finally:
        worker.end()


class _Worker:
    """One child process, started when needed and replaced when it is gone."""

    def __init__(self, timeout_s: float, memory_mb: int) -> None:
        self.timeout_s, self.memory_mb, self.closed = timeout_s, memory_mb, False
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._errors: Any = None
        self._late = False

    def ask(self, task: Task) -> Answer:
        """The answer of the child process, or how it failed to give one."""
        process = self._started()
        reply = self._exchange(process, json.dumps({**task, "timeout": self.timeout_s}), self.timeout_s)
        if reply is not None:
            return reply
        code = self._ended(process)
        if self._late:
            return {"error": HUNG, "message": f"nothing came of it within {self.timeout_s:g} s; it was stopped"}
        return {"error": CRASHED, "message": f"its decoder took the process with it ({_fate(code)})"}

    def close(self) -> None:
        """Stop the child process, for good; may be called from another thread than `ask`."""
        with self._lock:
            self.closed = True
            if self._process is not None:
                self._process.kill()

    def end(self) -> None:
        """Stop it, and wait until it is gone; called from the thread of `ask`."""
        self.close()
        if self._process is not None:
            self._ended(self._process)

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        with self._lock:
            if self.closed:
                raise VideoLlama2Error("the workers were stopped")
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
            try:
                self._process = process = subprocess.Popen(
                    [*COMMAND, str(self.memory_mb)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=self._errors, text=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"},
                )  # fmt: skip
            except OSError as error:
                self._errors.close()
                raise VideoLlama2Error(f"no process can be started to open media in: {error}") from error
        if self._exchange(process, None, _START_SECONDS) is None:
            said = self._last_words()
            raise VideoLlama2Error(f"the process to open media in can't start ({_fate(self._ended(process))}){said}")
        return process

    def _exchange(self, process: "subprocess.Popen[str]", line: str | None, seconds: float) -> Any:
        """Send a line, if any, and wait for one; None if the process is killed for lateness or ends by itself."""
        assert process.stdin is not None and process.stdout is not None
        self._late = False
        over = threading.Event()
        timer = threading.Timer(seconds, self._expire, args=(process, over))
        timer.daemon = True
        timer.start()
        try:
            if line is not None:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            reply = process.stdout.readline()
        except OSError:  # a broken pipe: it died before it read
            reply = ""
        with self._lock:  # from here on the timer can't kill the process that the next task will go to
            over.set()
        timer.cancel()
        return json.loads(reply) if reply.endswith("\n") else None

    def _expire(self, process: "subprocess.Popen[str]", over: threading.Event) -> None:
        with self._lock:
            if not over.is_set():
                self._late = True
                process.kill()

    def _ended(self, process: "subprocess.Popen[str]") -> int:
        code = process.wait()
        for stream in filter(None, (process.stdin, process.stdout, self._errors)):
            with contextlib.suppress(OSError):
                stream.close()
        self._process = None
        return code

    def _last_words(self) -> str:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return f": {said[-_SAID:]}" if said else ""


def _fate(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
