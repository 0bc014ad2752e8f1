"""lmms-eval asks our Engine: `lmms-eval --model videollama2 --model_args model=nano --tasks …`.

The entry point is `manifests`; this module needs no lmms-eval to be imported. Its pins differ from ours, so it gets an
environment of its own, with this package beside it and without torchvision where torch is a CPU build.

    messages of a task ── conversation ──► messages of ours ── Engine ──► reply
"""

import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from ..generation.request import Request
from ..generation.sampling import GenerateOptions

MODEL = "videollama2"
_NEW_TOKENS = 1024  # where a task says nothing
_OFF = (None, "", "false", "False", "none", "None")


def manifests() -> Any:
    """What lmms-eval's entry point `lmms_eval.models` wants to know; called by lmms-eval alone."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL, chat_class_path="videollama2.evals.lmms_model.VideoLlama2")


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """How everything is asked, of `--model_args`.

    Attributes:
        protocol: how media are prepared; None: the model's own.
        frames: of a video; None: the model's own number.
        audio: whether the sound of videos is heard.
    """

    protocol: str | None = None
    frames: int | None = None
    audio: bool = True

    @classmethod
    def of(cls, protocol: Any = None, frames: Any = None, audio: Any = True) -> "Preferences":
        """From what a command line says.

        Raises:
            UsageError: frames is no number.
        """
        try:
            number = None if frames in _OFF else int(frames)
        except (TypeError, ValueError) as error:
            raise UsageError(f"frames={frames!r}; expected a whole number") from error
        return cls(protocol=None if protocol in _OFF else str(protocol), frames=number,
                   audio=audio not in (False, *_OFF))  # fmt: skip


def request(messages: Sequence[Any], generation: Mapping[str, Any], preferences: Preferences) -> Request:
    """A task's messages as a request.

    Args:
        messages: of `doc_to_messages`, as mappings or as lmms-eval's own objects.
        generation: the task's `generation_kwargs`.

    Raises:
        UsageError: a part of a kind that is none.
    """
    options: dict[str, Any] = {"max_new_tokens": int(generation.get("max_new_tokens") or _NEW_TOKENS)}
    temperature = generation.get("temperature")
    if generation.get("do_sample", True) and temperature:
        options["temperature"] = float(temperature)
        options |= {name: generation[name] for name in ("top_p", "top_k") if generation.get(name) is not None}
    until = generation.get("until") or ()
    options["stop"] = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
    return Request(
        messages=[_message(message, preferences) for message in messages],
        protocol=preferences.protocol,
        options=GenerateOptions(**options),
    )


def _message(message: Any, preferences: Preferences) -> Any:
    content = _get(message, "content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {"role": _get(message, "role"), "content": [_part(part, preferences) for part in parts]}


def _part(part: Any, preferences: Preferences) -> dict[str, Any]:
    kind = _get(part, "type")
    if kind == "text":
        return {"type": "text", "text": _get(part, "text")}
    if kind not in ("image", "video", "audio"):
        raise UsageError(f"a message has a part of type {kind!r}; expected text, image, video or audio")
    found: dict[str, Any] = {"type": kind, kind: _source(_get(part, "url"))}
    if kind == "video":
        found |= {"num_frames": preferences.frames, "sound": preferences.audio}
        found |= {"start": _get(part, "start_time"), "end": _get(part, "end_time")}
    return {key: value for key, value in found.items() if value is not None}


def _source(given: Any) -> Any:
    """A medium as our Engine takes it. What `datasets` decodes of a sound, samples and their rate, is a WAV again."""
    if not isinstance(given, Mapping):
        return given
    if given.get("array") is None:
        return given.get("bytes") or given.get("path")
    samples = np.atleast_2d(np.asarray(given["array"], dtype=np.float64)).mean(axis=0)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(int(given["sampling_rate"]))
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
