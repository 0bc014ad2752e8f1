"""Media parts of messages: their keys, where their source comes from, and the `Media` they become."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..media.in_memory import audio_source, from_base64, picture
from ..media.opening import length_seconds
from ..receipt import MODALITIES, Modality
from .prompts import Message

# of a message, which no template of this model reads
_NOT_READ = ("tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking")
_PART_OPTIONS = ("start", "end", "times", "num_frames", "fps", "sound", "sampling_rate", "video_track", "audio_track")
_SOURCES = ("path", "url", "base64")


@dataclass(frozen=True, kw_only=True)
class Media:
    """A media item of a request, and what is used of it.

    Attributes:
        source: a path, bytes, a PIL image, u8[T, H, W, C] or u8[H, W, C], a list of frames, or a Recording.
        start, end: seconds from the beginning; None: from the beginning, to the end.
        video, audio: whether its video and its audio are used.
        times: the time in seconds of each frame of a list.
        num_frames: frames to sample; None: the model's own number.
        fps: frame rate of a folder of images; None: the protocol's.
        video_track, audio_track: which of several tracks: a number from 1, or a language ("eng"); None: FFmpeg's best.
        audio_source: a separate file whose audio is used in place of the source's own; None: the source's own.
    """

    source: Any
    start: float | None = None
    end: float | None = None
    video: bool = True
    audio: bool = True
    times: Sequence[float] | None = None
    num_frames: int | None = None
    fps: float | None = None
    video_track: int | str | None = None
    audio_track: int | str | None = None
    audio_source: Any = None

    @property
    def tracks(self) -> dict[str, int | str]:
        """The chosen tracks, as arguments of `open_clip`."""
        given = {"video_track": self.video_track, "audio_track": self.audio_track}
        return {name: track for name, track in given.items() if track is not None}

    def clip_options(self, num_frames: int, *, audio_encoder: bool) -> dict[str, Any]:
        """Arguments of `open_clip` for a model that takes `num_frames` by default; the protocol comes on top."""
        return {
            "num_frames": num_frames if self.num_frames is None else self.num_frames,
            "start": self.start,
            "end": self.end,
            "want_video": self.video,
            "want_audio": self.audio and audio_encoder and self.audio_source is None,
            "times": self.times,
            **self.tracks,
        }


@dataclass(frozen=True, kw_only=True)
class PartDefaults:
    """How media are read, unless their part overrides it.

    Attributes:
        num_frames: as of Media. fps: frames per second instead. all_frames: all of a list's or array's.
        sound: whether a video's sound is used. sound_parts: an audio part without a source after a video is its sound.
        sampling_rate: of audio samples. fetch: downloads a URL; None: URLs are not allowed.
    """

    num_frames: int | None = None
    fps: float | None = None
    all_frames: bool = False
    sound: bool = True
    sound_parts: bool = False
    sampling_rate: int | None = None
    fetch: Callable[[str], bytes] | None = None


def normalised(conversation: Sequence[Any], options: PartDefaults) -> list[Message]:
    """Messages as dicts without keys that are None, with OpenAI's `image_url` parts as media parts.

    Messages and parts may be dataclasses or pydantic models, as clients return them.

    Raises:
        UsageError: a message has tool calls or reasoning.
    """
    messages: list[Message] = []
    for message in map(as_dicts, conversation):
        if not isinstance(message, Mapping):
            return list(conversation)  # parse_messages reports what is wrong
        kept = {key: value for key, value in message.items() if value is not None}
        refused = [key for key in _NOT_READ if kept.get(key)]
        if refused:
            raise UsageError(f"a message has {refused[0]}, which is not supported; put its text into the content.")
        if isinstance(kept.get("content"), list | tuple):
            kept["content"] = _normalised_parts(kept["content"], options)
        messages.append(kept)
    return messages


def as_dicts(value: Any) -> Any:
    """A message or part as a dict, if it is a dataclass or pydantic model; so are the parts of a message."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif callable(getattr(value, "model_dump", None)):
        value = value.model_dump()
    if isinstance(value, Mapping):
        content = value.get("content")
        if isinstance(content, list | tuple):
            return {**value, "content": [as_dicts(part) for part in content]}
    return value


def _normalised_parts(parts: Sequence[Any], options: PartDefaults) -> list[Any]:
    made: list[Any] = []
    for part in parts:
        if isinstance(part, Mapping):
            part = {key: value for key, value in part.items() if value is not None}
            kind = str(part.get("type", ""))
            if kind.removesuffix("_url") in MODALITIES and kind.endswith("_url") and kind in part:
                url = part[kind]["url"] if isinstance(part[kind], Mapping) else part[kind]
                part = {"type": kind.removesuffix("_url"), "url": url}
            after_video = bool(made) and isinstance(made[-1], Mapping) and made[-1].get("type") == "video"
            if options.sound_parts and part == {"type": "audio"} and after_video:
                continue
        made.append(part)
    return made


def media_of(conversation: Sequence[Message], options: PartDefaults | None = None) -> list[Media]:
    """The media parts of a conversation, in order.

    Args:
        options: of a processor's call, where `fps` of a file is how many frames per second to sample.

    Raises:
        UsageError: a part without a source, or with an unknown key.
    """
    return [_media(part, options) for message in conversation for part in parts_of(message) if is_media(part)]


def _media(part: Mapping[str, Any], options: PartDefaults | None) -> Media:
    kind = part["type"]
    own = {k: v for k, v in part.items() if k not in ("type", kind, *_SOURCES)}
    sources = [part[key] for key in (kind, *_SOURCES) if part.get(key) is not None]
    if len(sources) != 1 or not set(own) <= set(_PART_OPTIONS):
        raise UsageError(
            f"a {kind} part has {', '.join(map(str, part))}; expected type, {kind} (its source; or path, url or "
            f"base64), and optionally {', '.join(_PART_OPTIONS)}."
        )
    source = from_base64(sources[0]) if part.get("base64") is not None else sources[0]
    return source_media(kind, source, options, **own)


def source_media(kind: Modality, source: Any, options: PartDefaults | None, **own: Any) -> Media:
    """A media item of one kind. `own`: what its part says."""
    if isinstance(source, Media):
        return source
    call = options is not None
    options = options or PartDefaults()
    source = _read(kind, source, own.pop("sampling_rate", options.sampling_rate), options)
    folder = isinstance(source, str | PathLike) and Path(source).is_dir()
    fps = options.fps if folder or not call else own.pop("fps", options.fps)
    sound = bool(own.pop("sound", options.sound))
    if isinstance(source, list | tuple) or hasattr(source, "shape"):
        sound = False  # frames have none to lose
    if kind == "video":
        own.setdefault("num_frames", options.num_frames)
        if fps is not None and own["num_frames"] is None:
            own["num_frames"] = _frames_at(fps, source, own.get("start"), own.get("end"))
        if options.all_frames:
            own["num_frames"] = _count(source)
    return Media(source=source, video=kind != "audio", audio=kind == "audio" or sound, **own)


def _read(kind: Modality, source: Any, rate: int | None, options: PartDefaults) -> Any:
    """What `open_clip` takes."""
    if isinstance(source, str):
        if source[:5].lower() == "data:":
            return from_base64(source)
        if source[:8].lower().startswith(("http://", "https://")):
            if options.fetch is None:
                raise UsageError(
                    f"{source:.80} is a URL, and URLs are not downloaded unless you allow it: set the processor's "
                    "`fetch` to a function from a URL to bytes (docs/ways-in.md), or pass a path or bytes."
                )
            return options.fetch(source)
        return source.removeprefix("file://")
    if kind == "audio":
        return audio_source(source, rate)
    source = picture(source)
    return [source] if kind == "video" and getattr(source, "ndim", 0) in (2, 3) else source


def _frames_at(fps: float, source: Any, start: float | None, end: float | None) -> int:
    if not fps > 0:
        raise UsageError(f"fps={fps!r}; expected more than 0 frames per second.")
    if isinstance(source, str | PathLike) and Path(source).is_dir():
        raise UsageError("a call's fps can't sample a folder; pass num_frames, or the folder's own fps in its part.")
    seconds = (length_seconds(source) if end is None else end) - (start or 0.0)
    return max(1, round(seconds * fps))


def _count(source: Any) -> int:
    if isinstance(source, list | tuple) or hasattr(source, "shape"):
        return len(source)
    raise UsageError("do_sample_frames=False uses all frames of a list or array; for a file, pass num_frames.")


def parts_of(message: Message) -> Sequence[Any]:
    """The parts of a message; none of a message that is a str."""
    content = message.get("content") if isinstance(message, Mapping) else None
    return content if isinstance(content, list | tuple) else ()


def is_media(part: Any) -> bool:
    """Whether a part is a media item."""
    return isinstance(part, Mapping) and part.get("type") in MODALITIES


def has_source(part: Mapping[str, Any]) -> bool:
    """Whether a media part has a source."""
    return any(part.get(key) is not None for key in (part["type"], *_SOURCES))
