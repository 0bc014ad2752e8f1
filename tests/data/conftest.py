"""Records of every kind about the self-made media."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from videollama2.data.records import Record
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.processing import VideoLlama2Processor
from videollama2.text.media_parts import Media

MakeRecord = Callable[..., Record]
_TAGS = {"av": "<video>\n", "video": "<video>\n", "image": "<image>\n", "audio": "<audio>\n", "text": ""}
_FILES = {"av": "clip.mp4", "video": "clip.mp4", "image": "still.png", "audio": "tone.wav"}


@pytest.fixture(scope="session")
def record(media: Path) -> MakeRecord:
    """record("av", answer="a bell", file="long.mp4", …Media's options)"""

    def make(kind: str, answer: str = "a red kite", *, origin: str = "", file: str = "", **options: Any) -> Record:
        said = ({"from": "human", "value": f"{_TAGS[kind]}what is there?"}, {"from": "gpt", "value": answer})
        medium = None
        if kind != "text":
            wanted = {"video": kind != "audio", "audio": kind in ("av", "audio"), **options}
            medium = Media(source=str(media / (file or _FILES[kind])), **wanted)
        return Record(id="1", origin=origin or f"train.jsonl:{kind}", conversation=said, media=medium)

    return make


@pytest.fixture(scope="session")
def model() -> VideoLlama2ForConditionalGeneration:
    """The tiny model with its encoders frozen."""
    made = tiny.model()
    made.model.vision_encoder.requires_grad_(False)
    made.model.audio_encoder.requires_grad_(False)
    return made


@pytest.fixture(scope="session")
def processor(model: VideoLlama2ForConditionalGeneration) -> VideoLlama2Processor:
    return tiny.processor(model.config)
