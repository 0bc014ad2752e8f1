"""lmms-eval runs our Engine: `lmms-eval --model videollama2 --model_args model=nano --tasks …`.

The entry point is `manifests`; importing this module does not need lmms-eval. Its pinned versions differ from ours, so
install it in a separate environment together with this package, without torchvision if torch is a CPU build.

    messages of a task ── request ──► our Request ── Engine ──► reply
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
from ..receipt import MODALITIES
from ..text.media_parts import Media

MODEL = "videollama2"
_NEW_TOKENS = 1024  # default of a task's max_new_tokens
_OFF = (None, "", "false", "False", "none", "None")


def manifests() -> Any:
    """The entry point `lmms_eval.models`; called by lmms-eval alone."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL, chat_class_path="videollama2.evals.lmms_model.VideoLlama2")


@dataclass(frozen=True, kw_only=True)
class LmmsOptions:
    """Options from `--model_args`.

    Attributes:
        protocol: how media are prepared; None: the model's own.
        frames: of a video; None: the model's own number.
        audio: whether to use the audio of videos.
    """

    protocol: str | None = None
    frames: int | None = None
    audio: bool = True

    @classmethod
    def of(cls, protocol: Any = None, frames: Any = None, audio: Any = True) -> "LmmsOptions":
        """From the command line's values.

        Raises:
            UsageError: frames is not a number.
        """
        try:
            number = None if frames in _OFF else int(frames)
        except (TypeError, ValueError) as error:
            raise UsageError(f"frames: expected a whole number, got {frames!r}.") from error
        return cls(protocol=None if protocol in _OFF else str(protocol), frames=number,
                   audio=audio not in (False, *_OFF))  # fmt: skip


def request(messages: Sequence[Any], generation: Mapping[str, Any], options: LmmsOptions) -> Request:
    """A task's messages as a request.

    Args:
        messages: of `doc_to_messages`, as mappings or as lmms-eval's own objects.
        generation: the task's `generation_kwargs`.

    Raises:
        UsageError: a part of an unknown type.
    """
    generate: dict[str, Any] = {"max_new_tokens": int(generation.get("max_new_tokens") or _NEW_TOKENS)}
    temperature = generation.get("temperature")
    if generation.get("do_sample", True) and temperature:
        generate["temperature"] = float(temperature)
        generate |= {name: generation[name] for name in ("top_p", "top_k") if generation.get(name) is not None}
    until = generation.get("until") or ()
    generate["stop"] = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
    asked = [_message(message, options) for message in messages]
    about = _with_sound(asked) if options.audio else None
    return Request(
        **({"messages": asked} if about is None else about),
        protocol=options.protocol,
        options=GenerateOptions(**generate),
    )


def _with_sound(messages: Sequence[Any]) -> dict[str, Any] | None:
    """Of one question about a video, then an audio file: that file is the video's audio. None: another form."""
    *before, last = messages
    media = [part for part in last["content"] if part["type"] != "text"]
    alone = all(message["role"] == "system" for message in before) and len(before) <= 1
    if not alone or [part["type"] for part in media] != ["video", "audio"] or last["content"][:2] != media:
        return None
    video, audio = media
    ranges = {name: video[name] for name in ("start", "end", "num_frames") if name in video}
    return {
        "media": [Media(source=video["video"], audio_source=audio["audio"], **ranges)],
        "question": "\n".join(part["text"] for part in last["content"][2:]),
        "system": before[0]["content"][0]["text"] if before else None,
    }


def _message(message: Any, options: LmmsOptions) -> Any:
    content = _get(message, "content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {"role": _get(message, "role"), "content": [_part(part, options) for part in parts]}


def _part(part: Any, options: LmmsOptions) -> dict[str, Any]:
    kind = _get(part, "type")
    if kind == "text":
        return {"type": "text", "text": _get(part, "text")}
    if kind not in MODALITIES:
        raise UsageError(f"expected message parts of type text, image, video or audio, got {kind!r}.")
    found: dict[str, Any] = {"type": kind, kind: _source(_get(part, "url"))}
    if kind == "video":
        found |= {"num_frames": options.frames, "sound": options.audio}
        found |= {"start": _get(part, "start_time"), "end": _get(part, "end_time")}
    return {key: value for key, value in found.items() if value is not None}


def _source(given: Any) -> Any:
    """A media source for our Engine. Audio that `datasets` decoded to samples becomes a WAV again."""
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
