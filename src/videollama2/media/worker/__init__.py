"""Worker processes that decode media: a file that hangs, crashes or takes over its decoder costs only itself.

    parent (pool.py, process.py)                         worker (loop.py, decode.py)
    ───────────────────────────                          ───────────────────────────
    WorkerPool.open_clip(file)                           confine(), before the first file: no network, no other
      Worker.call(task, limits)                          process, no writing; no secret in its environment
          │                                              limit_resources(), for each task: memory, CPU seconds
          │    stdin: header as JSON, raw bytes
          ├─────────────────────────────────────────────►  media.open_clip(file)
          │    stdout: header as JSON, raw bytes                 │
          │◄─────────────────────────────────────────────  a Clip, or the error of this file
          │
          ├─ no reply in time ────────────► kill it: UnreadableMedia, and the next file gets a new worker
          ├─ it died ─────────────────────► reap it: the same
          └─ reply malformed or too large ► kill it: the same     (messages.py checks sizes before it allocates)

Neither side unpickles anything, so a worker that a file has taken over can only send wrong frames. Workers don't import
torch: they start in 0.3 s instead of 1.7 s.

    with WorkerPool(workers=2) as pool:
        clip = pool.open_clip("clip.mp4", num_frames=8)      # as videollama2.media.open_clip, errors included
"""

from .pool import WorkerPool
from .process import WorkerLimits

__all__ = ["WorkerLimits", "WorkerPool"]
