"""One question to the Engine, as data."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..errors import UsageError
from ..protocols import Protocol
from ..receipt import Modality
from ..text.conversations import first_turn
from ..text.media_parts import Media, media_of
from ..text.prompts import Message
from .sampling import GenerateOptions


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question.

    Attributes:
        media: None, one media item, or a list of `Media`. A list of anything else is read as the frames of one video.
        question: the question, as text; or `messages`, a whole conversation whose media parts have their sources.
        system: replaces the model's own system prompt.
        start, end: the range of the media item to use, in seconds; None: its beginning, its end.
        video, audio: whether its video and its audio are used.
        num_frames: frames to sample; None: the model's own number.
        video_track, audio_track: which of several tracks, as in `Media`; None: chosen automatically.
        protocol: how media are prepared (protocols.py); None: the engine's.
        strict: fail if anything requested would not be used.
        options: how the answer is generated.
    """

    media: Any = None
    question: str | None = None
    messages: Sequence[Message] | None = None
    system: str | None = None
    start: float | None = None
    end: float | None = None
    video: bool = True
    audio: bool = True
    num_frames: int | None = None
    video_track: int | str | None = None
    audio_track: int | str | None = None
    protocol: str | Protocol | None = None
    strict: bool = False
    options: GenerateOptions = field(default_factory=GenerateOptions)

    def media_items(self) -> list[Media]:
        """The request's media, in order.

        Raises:
            UsageError: the request has both or neither of question and messages, or options that belong in the
                messages or in each `Media`.
        """
        if self.question is None and self.messages is None:
            raise UsageError("no question; expected answer(media, question), where media may be None.")
        if self.question is not None and self.messages is not None:
            raise UsageError("got both a question and messages; put the question into the messages.")
        if self.messages is not None:
            self._raise_if_given("media", "system", *_OF_MEDIA, where="them in the messages, each with its part")
            return media_of(self.messages)
        if self.media is None:
            self._raise_if_given(*_OF_MEDIA, where="a media item with them, but the request has none")
            return []
        given = [self.media] if isinstance(self.media, Media) else self.media
        if isinstance(given, list | tuple) and given and all(isinstance(m, Media) for m in given):
            self._raise_if_given(*_OF_MEDIA, where="them in each Media")
            return list(given)
        return [Media(source=given, **{name: getattr(self, name) for name in _OF_MEDIA})]

    def conversation(self, modalities: Sequence[Modality]) -> list[Message]:
        """The request's messages; a question gets one part per media item, of these modalities."""
        if self.messages is not None:
            return list(self.messages)
        return first_turn(self.question or "", modalities, self.system)

    def _raise_if_given(self, *names: str, where: str) -> None:
        """Raise on options that would have no effect."""
        given = [f.name for f in fields(self) if f.name in names and getattr(self, f.name) != f.default]
        if given:
            raise UsageError(f"{', '.join(given)} would have no effect here; expected {where}.")


_OF_MEDIA = ("start", "end", "video", "audio", "num_frames", "video_track", "audio_track")
_OPTIONS = frozenset(f.name for f in fields(GenerateOptions))
_KEYWORDS = frozenset(f.name for f in fields(Request)) - {"media", "question"}


def as_request(media: Any, question: str | None, kwargs: dict[str, Any]) -> Request:
    """The request described by the arguments of `Engine.answer`.

    Args:
        media: as in `Request`; or a Request, without other arguments.
        kwargs: fields of `Request` and of `GenerateOptions`.

    Raises:
        UsageError: an unknown keyword, or other arguments next to a Request.
    """
    if isinstance(media, Request):
        if question is not None or kwargs:
            raise UsageError("a Request can't be combined with other arguments; use dataclasses.replace to change it.")
        return media
    unknown = sorted(set(kwargs) - _KEYWORDS - _OPTIONS)
    if unknown:
        known = sorted((_KEYWORDS | _OPTIONS) - {"options"})
        raise UsageError(f"unknown option(s) {', '.join(unknown)}; expected some of {', '.join(known)}.")
    if question is not None and not isinstance(question, str):
        raise UsageError(f"the question is a {type(question).__name__}; expected a str.")
    about = {name: value for name, value in kwargs.items() if name in _KEYWORDS}
    options = replace(about.pop("options", GenerateOptions()), **{k: v for k, v in kwargs.items() if k in _OPTIONS})
    return Request(media=media, question=question, options=options, **about)


def changed_options(options: GenerateOptions, changes: dict[str, Any]) -> GenerateOptions:
    """The options with some replaced.

    Raises:
        UsageError: a keyword that is not a field of GenerateOptions, or an invalid value.
    """
    unknown = sorted(set(changes) - _OPTIONS)
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)} can't change for one question about open media; expected some of "
            f"{', '.join(sorted(_OPTIONS))}, or open the media again."
        )
    return replace(options, **changes)
