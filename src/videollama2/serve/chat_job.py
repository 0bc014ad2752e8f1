"""A chat request from the queue to its last event."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..encoded_media import DecodedMedia
from ..generation.sampling import GenerateOptions
from ..generation.sequence import ActiveSequence
from ..protocols import Protocol
from ..receipt import Answer, TokenLogprob
from ..text.media_parts import Media
from ..text.prompts import TokenisedPrompt


@dataclass(frozen=True)
class TextChunk:
    """Text that is now final, and the tokens since the chunk before."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


Event = TextChunk | Answer | Exception


@dataclass(eq=False, kw_only=True)
class ChatJob:
    """One chat request, from the queue to its last event.

    Attributes:
        client: whose turn it takes.
        messages: as the processor expects them; the k-th media part stands for the k-th of `media`.
        media: returns the media; called on a thread that may wait for them.
        send: called with every event, from any thread; an Answer or an Exception is the last one.
    """

    client: str
    messages: Sequence[Mapping[str, Any]]
    media: Callable[[], Sequence[Media]]
    options: GenerateOptions
    protocol: Protocol
    strict: bool
    send: Callable[[Event], None]
    arrived: float = field(default_factory=time.perf_counter)
    cancelled: bool = False
    decoded: list[DecodedMedia] = field(default_factory=list)
    encoded: TokenisedPrompt | None = None
    decode_seconds: float = 0.0
    encode_seconds: float = 0.0
    sequence: ActiveSequence | None = None
    remote: Any = None  # in place of `sequence`, if another engine generates (remote.py)
    sent_logprobs: int = 0
