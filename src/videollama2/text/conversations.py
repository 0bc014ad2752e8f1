"""The accepted inputs: questions, conversations and rendered text in several forms, with media inside or next to them.

"What is this?" + videos="clip.mp4"    ─┐
[{"role": "user", "content": […]}, …]  ─┼─ prompt_inputs ──► PromptInput (messages or rendered text, and its Media)
RenderedText + videos="clip.mp4"       ─┤
a list of either                       ─┘
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..errors import UsageError
from ..media.in_memory import as_array, is_frames
from ..receipt import MODALITIES, Modality
from .media_parts import (
    Media,
    PartDefaults,
    as_dicts,
    has_source,
    is_media,
    media_of,
    normalised,
    parts_of,
    source_media,
)
from .prompts import Message
from .rendering import RenderedText
from .tokenization import Piece, Segment, Slot

logger = logging.getLogger(__name__)
_TAG = re.compile("<(image|video|audio)>")
_LEADING_TAGS = re.compile(r"(?:\s*<(?:image|video|audio)>)+")


@dataclass(frozen=True)
class PromptInput:
    """One prompt of a batch: messages, or text that is used unchanged, and its media in order."""

    messages: list[Message]
    text: RenderedText | None
    media: list[Media]


def prompt_inputs(
    text: Any, given: Mapping[str, Any], options: PartDefaults | None = None, *, as_is: bool = False
) -> list[PromptInput]:
    """Every accepted form of `text`, with its media.

    Args:
        text: a question, a conversation, rendered text, or a list of these.
        given: media passed with it, by kind: for one text, one or several; for a list of texts, a list with the media
            of each, or all of them in order. They fill the places in rendered text, and parts without a source. A
            question's media are put before it, unless it begins with exactly their tags (`<image>`, …).
        as_is: a question is not turned into a user turn, but used unchanged.

    Raises:
        UsageError: any other input, or media that do not match the texts.
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
    quoted = [
        _TAG.findall(item) if isinstance(item, str) and not isinstance(item, RenderedText) else [] for item in items
    ]
    shares = {
        kind: _share(kind, media, [row.count(kind) for row in places], [q.count(kind) for q in quoted], alone=alone)
        for kind, media in beside.items()
    }
    inputs = []
    for k, (item, conversation) in enumerate(zip(items, messages, strict=True)):
        own = {kind: list(share[k]) for kind, share in shares.items()}
        if isinstance(item, RenderedText):
            media = [source_media(kind, source, options) for kind, source in _in_order(item.slots, own)]
            inputs.append(PromptInput([], item, media))
        elif conversation is not None:
            filled = _filled(conversation, own)
            inputs.append(PromptInput(filled, None, media_of(filled, options)))
        else:
            inputs.append(_question(item, own, options, as_is))
    return inputs


def _items(text: Any) -> list[Any]:
    items: list[Any] = (
        [text] if isinstance(text, str) else list(map(as_dicts, text)) if isinstance(text, Sequence) else []
    )
    if items and all(isinstance(item, Mapping) for item in items):
        items = [items]
    strings = [isinstance(item, str) for item in items]
    if not items or not (all(strings) or all(isinstance(item, list | tuple) for item in items)):
        raise UsageError(f"text is {text!r:.80}; expected a question, a conversation, or a list of either.")
    return items


def _places(item: Any) -> list[Modality]:
    """The kinds of media that a text or conversation has a place for."""
    if isinstance(item, RenderedText):
        return list(item.slots)
    if isinstance(item, str):
        return _leading_tags(item)
    return [part["type"] for message in item for part in parts_of(message) if is_media(part) and not has_source(part)]


def _leading_tags(text: str) -> list[Modality]:
    head = _LEADING_TAGS.match(text)
    return [cast(Modality, tag) for tag in _TAG.findall(head.group())] if head else []


def _share(kind: Modality, given: Any, places: Sequence[int], quoted: Sequence[int], *, alone: bool) -> list[list[Any]]:
    """The media of each text.

    Args:
        places: how many each text has a place for.
        quoted: how many tags each question has anywhere. They only tell how many media are its own, and only if there
            can't be one each: otherwise a tag that one person types would move the media of others.
    """
    n = len(places)
    if alone:
        return [_sources(kind, given)]
    entries = list(given) if isinstance(given, list | tuple) and not (kind == "video" and is_frames(given)) else [given]
    nested = len(entries) == n and all(one is None or isinstance(one, list | tuple) for one in entries)
    if nested:
        return [_sources(kind, one) for one in entries]
    given_ones, wanted = [one for one in entries if one is not None], sum(places)
    one_each = len(entries) == n
    for counts in (places,) if one_each else (places, quoted):
        if sum(counts) and sum(counts) == len(given_ones):
            left = iter(given_ones)
            return [[next(left) for _ in range(count)] for count in counts]
    if one_each:
        return [[] if one is None else [one] for one in entries]
    if n == 1:
        return [given_ones]
    raise UsageError(
        f"{len(entries)} {kind} media were passed for {n} questions; expected one each, a list for each, or as many as "
        f"the texts have <{kind}> ({wanted})."
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
                f"the text has {wanted} <{kind}>, but {found} {kind} media were passed; expected one for each."
            )
    left = {kind: iter(media) for kind, media in own.items()}
    return [(kind, next(left[kind])) for kind in slots]


def _filled(conversation: Sequence[Message], own: Mapping[Modality, list[Any]]) -> list[Message]:
    """The conversation, with separately passed media put into its parts without a source."""
    if not any(own.values()):
        return list(conversation)
    places = _places(conversation)
    if sorted(places) != sorted(kind for kind, media in own.items() for _ in media):
        raise UsageError(
            "got media, but the conversations do not have a part without a source for each; "
            "put media into the messages."
        )
    left = iter(_in_order(places, own))
    return [
        {
            **message,
            "content": [
                {**part, part["type"]: next(left)[1]} if is_media(part) and not has_source(part) else part
                for part in parts_of(message)
            ],
        }
        if parts_of(message)
        else message
        for message in conversation
    ]


def _question(text: str, own: Mapping[Modality, list[Any]], options: PartDefaults, as_is: bool) -> PromptInput:
    tags = _leading_tags(text)
    order: list[Modality] = [kind for kind in MODALITIES for _ in own.get(kind, ())]
    tagged = bool(order) and sorted(tags) == sorted(order)
    head = _LEADING_TAGS.match(text) if tagged else None
    ordered = _in_order(tags if tagged else order, own)
    media = [source_media(kind, source, options) for kind, source in ordered]
    rest = text[head.end() :] if head else text
    shown = sorted(set(_TAG.findall(rest)) & set(order))
    if shown:
        logger.warning(
            "the question contains <%s> %s: it is read as plain text, and the media are put before it. To place them, "
            "pass a conversation, or text rendered by apply_chat_template",
            shown[0],
            "after its beginning" if tagged else "but does not begin with exactly the tags of its media",
        )
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


def first_turn(question: str, modalities: Sequence[Modality], system: str | None = None) -> list[Message]:
    """The messages of a question: the caller's system turn, if any, then the media and the question."""
    media = [{"type": modality} for modality in modalities]
    turns: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    return [*turns, {"role": "user", "content": [*media, {"type": "text", "text": question}]}]
