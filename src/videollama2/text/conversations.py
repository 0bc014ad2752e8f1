"""What users hand in: questions and conversations in several forms, and the media in them.

"What is this?" + videos="clip.mp4"    ─┐
[{"role": "user", "content": […]}, …]  ─┼─ as_conversations ──► conversations ── media_of ──► Media
a list of either                       ─┘
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from .prompts import Message
from .tokenization import Modality

_KINDS = ("image", "video", "audio")
_PART_OPTIONS = ("start", "end", "times", "num_frames", "sound")


@dataclass(frozen=True, kw_only=True)
class Media:
    """One medium of a request, and what is wanted of it.

    Attributes:
        source: a path, bytes, a PIL image, u8[T, H, W, C] or u8[H, W, C], or a list of frames.
        start, end: seconds from the beginning; None: from the beginning, to the end.
        video, audio: whether its pictures and its sound are wanted.
        times: seconds of each frame of a list.
        num_frames: frames to sample; None: the model's own number.
    """

    source: Any
    start: float | None = None
    end: float | None = None
    video: bool = True
    audio: bool = True
    times: Sequence[float] | None = None
    num_frames: int | None = None


def as_conversations(text: Any, images: Any = None, videos: Any = None, audio: Any = None) -> list[list[Message]]:
    """Every accepted form of `text` as a list of conversations.

    Args:
        text: a question, a conversation, or a list of either.
        images, videos, audio: for questions: one medium, or a list with one per question (None: none for that one).

    Raises:
        UsageError: anything else, or media that don't match the questions in number.
    """
    items: list[Any] = [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else []
    given = [(kind, media) for kind, media in zip(_KINDS, (images, videos, audio), strict=True) if media is not None]
    if items and all(isinstance(item, Mapping) for item in items):
        items = [items]
    if items and all(isinstance(item, list | tuple) for item in items):
        if given:
            raise UsageError("media go into the messages when conversations are given")
        return [list(item) for item in items]
    if not items or not all(isinstance(item, str) for item in items):
        raise UsageError(f"text is {text!r:.80}; expected a question, a conversation, or a list of either")
    contents: list[list[dict[str, Any]]] = [[] for _ in items]
    for kind, media in given:
        column = [media] if isinstance(text, str) else list(media)
        if len(column) != len(items):
            raise UsageError(f"{len(column)} {kind} media were given for {len(items)} questions; expected one each")
        for content, medium in zip(contents, column, strict=True):
            content += [] if medium is None else [{"type": kind, kind: medium}]
    return [
        [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
        for content, question in zip(contents, items, strict=True)
    ]


def media_of(conversation: Sequence[Message]) -> list[Media]:
    """The media parts of a conversation, in order.

    Raises:
        UsageError: a part without a source, or with a key that is not known.
    """
    return [_media(part) for message in conversation for part in _parts(message) if _is_medium(part)]


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


def with_modalities(conversation: Sequence[Message], modalities: Sequence[Modality]) -> list[Message]:
    """The conversation with the k-th media part's type set to what the k-th medium turned out to be.

    What is malformed is left for prompts.py to complain about.
    """
    left = iter(modalities)
    return [
        {**message, "content": [{"type": next(left, p["type"])} if _is_medium(p) else p for p in _parts(message)]}
        if _parts(message)
        else message
        for message in conversation
    ]


def _parts(message: Message) -> Sequence[Any]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return content if isinstance(content, list | tuple) else ()


def _is_medium(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _KINDS
