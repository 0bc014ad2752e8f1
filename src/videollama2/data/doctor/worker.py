"""The child process in which the doctor opens media: `python -m videollama2.data.doctor.worker MEGABYTES`.

It reads one JSON task a line from standard input and answers each by one JSON line. A decoder that hangs, that eats all
memory or that takes its process with it takes this one only (decoding.py replaces it).
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

from ...errors import MediaError, VideoLlama2Error
from ...media import Clip, open_clip, sound_features
from ...protocols import protocol

READY = "ready"


def facts(task: dict[str, Any]) -> dict[str, Any]:
    """What is found when a medium is opened as training opens it.

    Args:
        task: `source` (a path or a list of them), `start`, `end`, `video`, `audio`, `frames`, `protocol`, as the
            arguments of `open_clip`; or `hash`, a path whose content is to be hashed.

    Raises:
        VideoLlama2Error, OSError, MemoryError: the medium can't be used.
    """
    if "hash" in task:
        return {"hash": _hash(Path(task["hash"]))}
    chosen = protocol(task["protocol"])
    clip = open_clip(
        task["source"],
        num_frames=task["frames"],
        protocol=chosen,
        start=task["start"],
        end=task["end"],
        want_video=task["video"],
        want_audio=task["audio"],
    )
    sound = sound_features(clip, chosen) if task["audio"] and clip.kind != "image" else None
    return {
        "kind": clip.kind,
        "seconds": _seconds(clip),
        "frames": len(clip.frames),
        "different": len(set(clip.frame_indices)),
        "frames_total": clip.frames_total,
        "width": clip.width,
        "height": clip.height,
        "sound": clip.audio_state,
        "sound_seconds": None if clip.wave is None else clip.wave.seconds,
        "fbank": 0 if sound is None or sound.fbank is None else len(sound.fbank),
        "notes": list(clip.notes),
        "losses": list(clip.losses),
    }


def _seconds(clip: Clip) -> float | None:
    """Length of the file; of a sound, of the asked range, which is all that was looked at."""
    if clip.frames_total and clip.fps:
        return clip.frames_total / clip.fps
    return clip.wave.available_seconds if clip.wave is not None else None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.sha256).hexdigest()


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """The task's facts, or its error by class and words."""
    try:
        return facts(task)
    except (VideoLlama2Error, OSError) as error:
        known = "MediaNotFound" if isinstance(error, FileNotFoundError) else type(error).__name__
        return {"error": known if isinstance(error, MediaError) else "UnreadableMedia", "message": str(error)}
    except MemoryError:
        return {"error": "MediaTooLarge", "message": "opening it takes more memory than the limit"}
    except Exception as error:  # of a decoder: its record is named as bad, the others go on
        return {"error": "UnreadableMedia", "message": f"{type(error).__name__}: {error}"}


def limit_memory(megabytes: int) -> None:
    """Let this process map so much more than it does now; where the system has no such limit, there is none."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (now + (megabytes << 20), hard))


def serve(tasks: TextIO, answers: TextIO, megabytes: int) -> None:
    """Answer tasks until there are no more."""
    limit_memory(megabytes)
    _tell(READY, answers)
    for line in tasks:
        task = json.loads(line)
        with _alarm(2 * task["timeout"] + 5):
            found = answer(task)
        _tell(found, answers)


def _tell(value: Any, answers: TextIO) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


@contextlib.contextmanager
def _alarm(seconds: float) -> Any:
    """Should the parent be gone and nobody stop a decoder that hangs, the system does."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Serve on standard input and output; whatever else writes there writes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the parent ends us
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers, int(sys.argv[1]))


if __name__ == "__main__":
    main()
