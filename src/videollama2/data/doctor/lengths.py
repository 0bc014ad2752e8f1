"""How many positions each training record takes, and how many of them are supervised (spec §6.5)."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import PromptError
from ..labels import IGNORE, characters_per_id, chat_example, fewest_ids
from ..records import Record

if TYPE_CHECKING:
    from ...processing import VideoLlama2Processor

Known = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""(key, function) → the function's result, or an earlier result of the same key."""


@dataclass(frozen=True, slots=True)
class Length:
    """Positions of one record: of its text, of its media item, and how many are supervised."""

    origin: str
    text: int
    media: int
    supervised: int

    @property
    def tokens(self) -> int:
        """All positions."""
        return self.text + self.media

    @property
    def share(self) -> float:
        """Supervised positions among all."""
        return self.supervised / self.tokens


class Lengths:
    """Counts positions by a model's tokenizer and connector, without opening media."""

    def __init__(self, processor: "VideoLlama2Processor", max_length: int | None, known: Known) -> None:
        """Set the model.

        Args:
            processor: of the model.
            max_length: maximum positions of a record; None: the model's context.
            known: cache of answers about texts.
        """
        self._processor, self._known = processor, known
        self.max_length = max_length or processor.config.max_positions
        tokenizer = processor.tokenizer
        identity = [tokenizer.chat_template, tokenizer.backend_tokenizer.to_str()]
        self._characters_per_id = characters_per_id(tokenizer)
        self._fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def of(self, record: Record, facts: Mapping[str, Any] | None) -> tuple[Length | None, tuple[str, str] | None]:
        """A record's length, and the kind and message of its problem, if it has one.

        Args:
            record: to measure.
            facts: of its media item, from worker.py; None for text alone. With an error in them there is no length.
        """
        unsupported = self._unsupported(record)
        if unsupported is not None:
            return None, ("not for this model", unsupported)
        least = fewest_ids(record.conversation, self._characters_per_id)
        if least > self.max_length:
            return None, (
                "too long",
                f"its text takes {least} positions or more, of at most {self.max_length}",
            )
        identity = [self._fingerprint, record.modality, record.conversation]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
        text = self._known(key, lambda: self._text(record))
        if "error" in text:
            return None, ("nothing to learn" if text["nothing"] else "prompt refused", text["error"])
        if facts is not None and "error" in facts:
            return None, None
        length = Length(record.origin, text["text"], self._media(record, facts), text["supervised"])
        if length.tokens > self.max_length:
            why = (
                f"it takes {length.tokens} positions ({length.text} of text, {length.media} of media), of at "
                f"most {self.max_length}"
            )
            return length, ("too long", why)
        return length, None

    def _unsupported(self, record: Record) -> str | None:
        config, media = self._processor.config, record.media
        if media is None:
            return None
        if media.video and config.vision_config is None:
            return "it has pictures, but this model has no vision encoder"
        if media.audio and config.audio_config is None:
            return "it uses audio, but this model has no audio encoder"
        return None

    def _text(self, record: Record) -> dict[str, Any]:
        try:
            example = chat_example(record.conversation, self._processor.tokenizer, record.modality)
        except PromptError as error:
            return {"error": str(error), "nothing": "no token to learn" in str(error)}
        supervised = sum(label != IGNORE for label in example.labels)
        return {"text": len(example.ids) - len(example.slots), "supervised": supervised}

    def _media(self, record: Record, facts: Mapping[str, Any] | None) -> int:
        if facts is None or record.media is None:
            return 0
        processor = self._processor
        frames = processor.config.num_frames if facts["kind"] == "image" else facts["frames"]
        video = processor.video_tokens(frames) if record.media.video and facts["frames"] else 0
        audio = processor.audio_tokens(facts["fbank"]) if record.media.audio and facts["fbank"] else 0
        return video + audio
