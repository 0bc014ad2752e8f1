"""What callers pass in: questions and conversations in several forms, and the media in them.

"What is this?" + videos="clip.mp4"    ─┐
[{"role": "user", "content": […]}, …]  ─┼─ as_conversations ──► conversations ── media_of ──► Media
a list of either                       ─┘
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..receipt import Modality
from .prompts import Message

_KINDS = ("image", "video", "audio")
_PART_OPTIONS = ("start", "end", "times", "num_frames", "fps", "sound")


@dataclass(frozen=True, kw_only=True)
class Media:
    """A media item of a request, and what is used of it.

    Attributes:
        source: a path, bytes, a PIL image, u8[T, H, W, C] or u8[H, W, C], or a list of frames.
        start, end: seconds from the beginning; None: from the beginning, to the end.
        video, audio: whether its pictures and its sound are used.
        times: seconds of each frame of a list.
        num_frames: frames to sample; None: the model's own number.
        fps: frames per second of a folder of images; None: the protocol's.
    """

    source: Any
    start: float | None = None
    end: float | None = None
    video: bool = True
    audio: bool = True
    times: Sequence[float] | None = None
    num_frames: int | None = None
    fps: float | None = None


def as_conversations(text: Any, images: Any = None, videos: Any = None, audio: Any = None) -> list[list[Message]]:
    """Every accepted form of `text` as a list of conversations.

    Args:
        text: a question, a conversation, or a list of either.
        images, videos, audio: for questions: one media item, or a list with one per question (None: a question
            without).

    Raises:
        UsageError: anything else, or a number of media that differs from the number of questions.
    """
    items: list[Any] = [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else []
    given = [(kind, media) for kind, media in zip(_KINDS, (images, videos, audio), strict=True) if media is not None]
    if items and all(isinstance(item, Mapping) for item in items):
        items = [items]
    if items and all(isinstance(item, list | tuple) for item in items):
        if given:
            raise UsageError("got media beside conversations; put media into the messages")
        return [list(item) for item in items]
    if not items or not all(isinstance(item, str) for item in items):
        raise UsageError(f"text is {text!r:.80}; expected a question, a conversation, or a list of either")
    contents: list[list[dict[str, Any]]] = [[] for _ in items]
    for kind, media in given:
        column = [media] if isinstance(text, str) else list(media)
        if len(column) != len(items):
            raise UsageError(f"{len(column)} {kind} media were given for {len(items)} questions; expected one each")
        for content, item in zip(contents, column, strict=True):
            content += [] if item is None else [{"type": kind, kind: item}]
    return [
        [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
        for content, question in zip(contents, items, strict=True)
    ]


def media_of(conversation: Sequence[Message]) -> list[Media]:
    """The media parts of a conversation, in order.

    Raises:
        UsageError: a part without a source, or with an unknown key.
    """
    return [_media(part) for message in conversation for part in _parts(message) if _is_media(part)]


def _media(part: Mapping[str, Any]) -> Media:
    kind = part["type"]
    options = {k: v for k, v in part.items() if k not in ("type", kind, "path")}
    source = part.get(kind, part.get("path"))
    if source is None or not set(options) <= set(_PART_OPTIONS):
        raise UsageError(
            f"a {kind} part has {', '.join(map(str, part))}; expected type, {kind} (its source), and optionally "
            f"{', '.join(_PART_OPTIONS)}"
        )
    sound = options.pop("sound", True)
    return Media(source=source, video=kind != "audio", audio=kind == "audio" or bool(sound), **options)


def first_turn(question: str, modalities: Sequence[Modality], system: str | None = None) -> list[Message]:
    """Messages of a question: the caller's system turn, if any, then the media before the question."""
    media = [{"type": modality} for modality in modalities]
    turns: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    return [*turns, {"role": "user", "content": [*media, {"type": "text", "text": question}]}]


def _parts(message: Message) -> Sequence[Any]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return content if isinstance(content, list | tuple) else ()


def _is_media(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _KINDS
