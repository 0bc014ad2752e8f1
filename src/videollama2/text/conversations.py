"""What callers pass in: questions, conversations and rendered text in several forms, and the media in or beside them.

"What is this?" + videos="clip.mp4"    ─┐
[{"role": "user", "content": […]}, …]  ─┼─ prompt_inputs ──► PromptInput (messages or rendered text, and its Media)
RenderedText + videos="clip.mp4"       ─┤
a list of either                       ─┘
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, cast

from ..errors import UsageError
from ..media.in_memory import as_array, audio_source, from_base64, is_frames, picture
from ..media.opening import length_seconds
from ..receipt import MODALITIES, Modality
from .prompts import Message
from .rendering import RenderedText
from .tokenization import Piece, Segment, Slot

_PART_OPTIONS = ("start", "end", "times", "num_frames", "fps", "sound", "sampling_rate", "video_track", "audio_track")
_SOURCES = ("path", "url", "base64")
_TAG = re.compile("<(image|video|audio)>")
_LEADING_TAGS = re.compile(r"(?:\s*<(?:image|video|audio)>)+")


@dataclass(frozen=True, kw_only=True)
class Media:
    """A media item of a request, and what is used of it.

    Attributes:
        source: a path, bytes, a PIL image, u8[T, H, W, C] or u8[H, W, C], a list of frames, or a Recording.
        start, end: seconds from the beginning; None: from the beginning, to the end.
        video, audio: whether its pictures and its sound are used.
        times: seconds of each frame of a list.
        num_frames: frames to sample; None: the model's own number.
        fps: frames per second of a folder of images; None: the protocol's.
        video_track, audio_track: of a file with several: a number from 1, or a language ("eng"); None: FFmpeg's best.
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

    @property
    def tracks(self) -> dict[str, int | str]:
        """The tracks that are chosen, as arguments of `open_clip`."""
        given = {"video_track": self.video_track, "audio_track": self.audio_track}
        return {name: track for name, track in given.items() if track is not None}


@dataclass(frozen=True, kw_only=True)
class PartDefaults:
    """How media are read, unless their part says otherwise.

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


@dataclass(frozen=True)
class PromptInput:
    """One prompt of a batch: messages, or text that stands for itself, and its media in order."""

    messages: list[Message]
    text: RenderedText | None
    media: list[Media]


def prompt_inputs(
    text: Any, given: Mapping[str, Any], options: PartDefaults | None = None, *, as_is: bool = False
) -> list[PromptInput]:
    """Every accepted form of `text`, with its media.

    Args:
        text: a question, a conversation, rendered text, or a list of these.
        given: media beside it, by kind: for one text, one or several; for a list of texts, a list with the media of
            each, or all of them in order. They fill the places of rendered text, and parts without a source. A
            question's media stand before it, unless it begins with exactly their tags (`<image>`, …).
        as_is: a question is not a user's turn, but the text itself.

    Raises:
        UsageError: anything else, or media that do not match the texts.
    """
    options = options or PartDefaults()
    items = _items(text)
    beside = {kind: given[kind] for kind in MODALITIES if given.get(kind) is not None}
    messages = [None if isinstance(item, str) else normalised(item, options) for item in items]
    places = [
        _places(item if conversation is None else conversation)
        for item, conversation in zip(items, messages, strict=True)
    ]
    alone = len(items) == 1 and not (isinstance(text, list | tuple) and isinstance(text[0], str))
    shares = {
        kind: _share(kind, media, [row.count(kind) for row in places], alone=alone) for kind, media in beside.items()
    }
    inputs = []
    for k, (item, conversation) in enumerate(zip(items, messages, strict=True)):
        own = {kind: list(share[k]) for kind, share in shares.items()}
        if isinstance(item, RenderedText):
            media = [_source_media(kind, source, options) for kind, source in _in_order(item.slots, own)]
            inputs.append(PromptInput([], item, media))
        elif conversation is not None:
            filled = _filled(conversation, own)
            inputs.append(PromptInput(filled, None, media_of(filled, options)))
        else:
            inputs.append(_question(item, own, options, as_is))
    return inputs


def _items(text: Any) -> list[Any]:
    items: list[Any] = [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else []
    if items and all(isinstance(item, Mapping) for item in items):
        items = [items]
    strings = [isinstance(item, str) for item in items]
    if not items or not (all(strings) or all(isinstance(item, list | tuple) for item in items)):
        raise UsageError(f"text is {text!r:.80}; expected a question, a conversation, or a list of either")
    return items


def _places(item: Any) -> list[Modality]:
    """The kinds of media that a text or conversation has a place for."""
    if isinstance(item, RenderedText):
        return list(item.slots)
    if isinstance(item, str):
        return _leading_tags(item)
    return [part["type"] for message in item for part in _parts(message) if _is_media(part) and not _has_source(part)]


def _leading_tags(text: str) -> list[Modality]:
    head = _LEADING_TAGS.match(text)
    return [cast(Modality, tag) for tag in _TAG.findall(head.group())] if head else []


def _share(kind: Modality, given: Any, places: Sequence[int], *, alone: bool) -> list[list[Any]]:
    """The media of each text."""
    n = len(places)
    if alone:
        return [_sources(kind, given)]
    entries = list(given) if isinstance(given, list | tuple) and not (kind == "video" and is_frames(given)) else [given]
    nested = len(entries) == n and all(one is None or isinstance(one, list | tuple) for one in entries)
    if nested:
        return [_sources(kind, one) for one in entries]
    given_ones, wanted = [one for one in entries if one is not None], sum(places)
    if wanted and wanted == len(given_ones):
        left = iter(given_ones)
        return [[next(left) for _ in range(count)] for count in places]
    if len(entries) == n and not wanted:
        return [[] if one is None else [one] for one in entries]
    if n == 1:
        return [given_ones]
    raise UsageError(
        f"{len(entries)} {kind} media were given for {n} questions; expected one each, a list for each, or as many as "
        f"the texts have <{kind}> ({wanted})"
    )


def _sources(kind: Modality, given: Any) -> list[Any]:
    """The media items of one text."""
    if given is None:
        return []
    if isinstance(given, list | tuple):
        one_video = kind == "video" and is_frames(given)
        one_wave = kind == "audio" and bool(given) and isinstance(given[0], int | float)
        if one_video or one_wave:
            return [given]
        inner = given[0] if len(given) == 1 and isinstance(given[0], list | tuple) else None
        return list(given) if inner is None or (kind == "video" and is_frames(inner)) else _sources(kind, inner)
    shape = getattr(given, "shape", ())
    stacked = (kind == "image" and len(shape) == 4) or (kind == "video" and len(shape) == 5)
    return list(as_array(given)) if stacked else [given]


def _in_order(slots: Sequence[Modality], own: Mapping[Modality, list[Any]]) -> list[tuple[Modality, Any]]:
    """The media in the order of their places."""
    for kind in MODALITIES:
        wanted, found = list(slots).count(kind), len(own.get(kind, ()))
        if wanted != found:
            raise UsageError(
                f"the text has {wanted} <{kind}>, but {found} {kind} media were given; expected one for each place"
            )
    left = {kind: iter(media) for kind, media in own.items()}
    return [(kind, next(left[kind])) for kind in slots]


def _filled(conversation: Sequence[Message], own: Mapping[Modality, list[Any]]) -> list[Message]:
    """The conversation with media given beside it put into its parts without a source."""
    if not any(own.values()):
        return list(conversation)
    places = _places(conversation)
    if sorted(places) != sorted(kind for kind, media in own.items() for _ in media):
        raise UsageError(
            "got media beside conversations that have no part without a source for each; put media into the messages"
        )
    left = iter(_in_order(places, own))
    return [
        {
            **message,
            "content": [
                {**part, part["type"]: next(left)[1]} if _is_media(part) and not _has_source(part) else part
                for part in _parts(message)
            ],
        }
        if _parts(message)
        else message
        for message in conversation
    ]


def _question(text: str, own: Mapping[Modality, list[Any]], options: PartDefaults, as_is: bool) -> PromptInput:
    tags = _leading_tags(text)
    order: list[Modality] = [kind for kind in MODALITIES for _ in own.get(kind, ())]
    tagged = bool(order) and sorted(tags) == sorted(order)
    head = _LEADING_TAGS.match(text) if tagged else None
    ordered = _in_order(tags if tagged else order, own)
    media = [_source_media(kind, source, options) for kind, source in ordered]
    rest = text[head.end() :] if head else text
    if not as_is:
        parts: list[dict[str, Any]] = [{"type": kind} for kind, _ in ordered]
        content = [*parts, {"type": "text", "text": rest.lstrip() if tagged else rest}]
        return PromptInput([{"role": "user", "content": content}], None, media)
    if head is not None:
        return PromptInput([], RenderedText((*with_slots(head.group(), trusted=False), Segment(rest, False))), media)
    pieces: list[Piece] = [piece for kind, _ in ordered for piece in (Slot(kind), Segment("\n", trusted=True))]
    return PromptInput([], RenderedText((*pieces, Segment(text, trusted=False))), media)


def with_slots(text: str, *, trusted: bool) -> list[Piece]:
    """Text with a slot at each tag (`<image>`, `<video>`, `<audio>`)."""
    pieces: list[Piece] = []
    for k, part in enumerate(_TAG.split(text)):
        if k % 2:
            pieces.append(Slot(cast(Modality, part)))
        elif part:
            pieces.append(Segment(part, trusted))
    return pieces


def normalised(conversation: Sequence[Any], options: PartDefaults) -> list[Message]:
    """Messages without keys that are None, with OpenAI's `image_url` parts as media parts."""
    messages: list[Message] = []
    for message in conversation:
        if not isinstance(message, Mapping):
            return list(conversation)  # parse_messages says what is wrong
        kept = {key: value for key, value in message.items() if value is not None}
        if isinstance(kept.get("content"), list | tuple):
            kept["content"] = _normalised_parts(kept["content"], options)
        messages.append(kept)
    return messages


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
    return [_media(part, options) for message in conversation for part in _parts(message) if _is_media(part)]


def _media(part: Mapping[str, Any], options: PartDefaults | None) -> Media:
    kind = part["type"]
    own = {k: v for k, v in part.items() if k not in ("type", kind, *_SOURCES)}
    sources = [part[key] for key in (kind, *_SOURCES) if part.get(key) is not None]
    if len(sources) != 1 or not set(own) <= set(_PART_OPTIONS):
        raise UsageError(
            f"a {kind} part has {', '.join(map(str, part))}; expected type, {kind} (its source; or path, url or "
            f"base64), and optionally {', '.join(_PART_OPTIONS)}"
        )
    source = from_base64(sources[0]) if part.get("base64") is not None else sources[0]
    return _source_media(kind, source, options, **own)


def _source_media(kind: Modality, source: Any, options: PartDefaults | None, **own: Any) -> Media:
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
                    "`fetch` to a function from a URL to bytes (docs/ways-in.md), or pass a path or bytes"
                )
            return options.fetch(source)
        return source.removeprefix("file://")
    if kind == "audio":
        return audio_source(source, rate)
    source = picture(source)
    return [source] if kind == "video" and getattr(source, "ndim", 0) in (2, 3) else source


def _frames_at(fps: float, source: Any, start: float | None, end: float | None) -> int:
    if not fps > 0:
        raise UsageError(f"fps={fps!r}; expected more than 0 frames per second")
    if isinstance(source, str | PathLike) and Path(source).is_dir():
        raise UsageError("fps of a call can't sample a folder; pass num_frames, or the folder's own fps in its part")
    seconds = (length_seconds(source) if end is None else end) - (start or 0.0)
    return max(1, round(seconds * fps))


def _count(source: Any) -> int:
    if isinstance(source, list | tuple) or hasattr(source, "shape"):
        return len(source)
    raise UsageError("do_sample_frames=False uses all frames of a list or array; for a file, pass num_frames")


def first_turn(question: str, modalities: Sequence[Modality], system: str | None = None) -> list[Message]:
    """Messages of a question: the caller's system turn, if any, then the media before the question."""
    media = [{"type": modality} for modality in modalities]
    turns: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    return [*turns, {"role": "user", "content": [*media, {"type": "text", "text": question}]}]


def _parts(message: Message) -> Sequence[Any]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return content if isinstance(content, list | tuple) else ()


def _is_media(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in MODALITIES


def _has_source(part: Mapping[str, Any]) -> bool:
    return any(part.get(key) is not None for key in (part["type"], *_SOURCES))
