"""The process in which the doctor opens media: `python -m videollama2.data.doctor.worker`.

A decoder that hangs, exhausts memory or crashes affects this process alone (decoding.py).
"""

import hashlib
from pathlib import Path
from typing import Any

from ...errors import MediaError, VideoLlama2Error
from ...media import Clip, audio_input, open_clip
from ...media.worker import loop
from ...protocols import protocol
from ..tar_media import in_memory, is_tar_path, tar_member


def facts(task: dict[str, Any]) -> dict[str, Any]:
    """Open a media item as training does, or hash a file.

    Args:
        task: `source` (a path or a list of them), `start`, `end`, `video`, `audio`, `frames`, `protocol`, and
            where they are chosen `video_track`, `audio_track`, as the arguments of `open_clip`; or `hash`, a path.

    Raises:
        VideoLlama2Error, OSError, MemoryError: the media item can't be used.
    """
    if "hash" in task:
        return {"hash": _hash(Path(task["hash"]))}
    chosen = protocol(task["protocol"])
    clip = open_clip(
        in_memory(task["source"]),
        num_frames=task["frames"],
        protocol=chosen,
        start=task["start"],
        end=task["end"],
        want_video=task["video"],
        want_audio=task["audio"],
        video_track=task.get("video_track"),
        audio_track=task.get("audio_track"),
    )
    audio = audio_input(clip, chosen) if task["audio"] and clip.kind != "image" else None
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
        "fbank": 0 if audio is None or audio.fbank is None else len(audio.fbank),
        "notes": list(clip.notes),
        "losses": list(clip.losses),
    }


def _seconds(clip: Clip) -> float | None:
    """Length of the file; for audio alone, of the requested range, as the rest is not decoded."""
    if clip.end_seconds:
        return clip.end_seconds
    return clip.wave.available_seconds if clip.wave is not None else None


def _hash(path: Path) -> str:
    if is_tar_path(str(path)):
        return hashlib.sha256(tar_member(str(path)).read()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.sha256).hexdigest()


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """The task's facts, or the class and message of its error."""
    try:
        return facts(task)
    except (VideoLlama2Error, OSError) as error:
        known = "MediaNotFound" if isinstance(error, FileNotFoundError) else type(error).__name__
        return {"error": known if isinstance(error, MediaError) else "UnreadableMedia", "message": str(error)}
    except MemoryError:
        return {"error": "MediaTooLarge", "message": "opening it takes more memory than the limit"}
    except Exception as error:  # a bug in a decoder makes one bad record, not a failed examination
        return {"error": "UnreadableMedia", "message": f"{type(error).__name__}: {error}"}


def reply(task: Any, _: list[bytearray]) -> tuple[Any, tuple[()]]:
    """The answer as a message (media/worker/loop.py)."""
    return answer(task), ()


if __name__ == "__main__":
    loop.run_worker(reply)
