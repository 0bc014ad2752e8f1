"""How many positions each training record takes, and how many of them are trained on (spec §6.5)."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import PromptError
from ...processing import VideoLlama2Processor
from ..labels import IGNORE, characters_per_id, chat_example, fewest_ids
from ..records import Record

Known = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""Takes the key of a question and what would answer it; gives the answer, perhaps an earlier one."""


@dataclass(frozen=True, slots=True)
class Length:
    """Positions of one record: of its text, of its medium, and how many are supervised."""

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
    """Counts with a model's tokenizer and connector; the medium itself is not opened here."""

    def __init__(self, processor: VideoLlama2Processor, most: int | None, known: Known) -> None:
        """`most`: positions that a record may take; None: the model's context."""
        self._processor, self._known = processor, known
        self.most = most or processor.config.max_positions
        tokenizer = processor.tokenizer
        told = [tokenizer.chat_template, tokenizer.backend_tokenizer.to_str()]
        self._characters = characters_per_id(tokenizer)
        self._fingerprint = hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def of(self, record: Record, facts: Mapping[str, Any] | None) -> tuple[Length | None, tuple[str, str] | None]:
        """Length of a record, and kind and words of what is wrong with it.

        Args:
            facts: of its medium, as worker.py gives them; None for text alone. With an error in them there is
                no length.
        """
        deaf = self._unsupported(record)
        if deaf is not None:
            return None, ("not for this model", deaf)
        least = fewest_ids(record.conversation, self._characters)
        if least > self.most:
            return None, ("too long", f"{least} positions of text, or more; at most {self.most}")
        told = [self._fingerprint, record.modality, record.conversation]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
        text = self._known(key, lambda: self._text(record))
        if "error" in text:
            return None, ("nothing to learn" if text["nothing"] else "prompt refused", text["error"])
        if facts is not None and "error" in facts:
            return None, None
        length = Length(record.origin, text["text"], self._media(record, facts), text["supervised"])
        if length.tokens > self.most:
            why = (
                f"{length.tokens} positions ({length.text} of text, {length.media} of its medium); at most {self.most}"
            )
            return length, ("too long", why)
        return length, None

    def _unsupported(self, record: Record) -> str | None:
        config, media = self._processor.config, record.media
        if media is None:
            return None
        if media.video and config.vision_config is None:
            return "it has pictures, and this model is blind"
        if media.audio and config.audio_config is None:
            return "its sound is asked for, and this model is deaf"
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
        seen = processor.video_tokens(frames) if record.media.video and facts["frames"] else 0
        heard = processor.audio_tokens(facts["fbank"]) if record.media.audio and facts["fbank"] else 0
        return seen + heard
