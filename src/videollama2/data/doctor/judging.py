"""What is wrong with one record, by what opening its media item and reading its text told."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..labels import dropped_turns
from ..records import Record
from .decoding import Answer

Severity = Literal["problem", "remark"]
MIN_FRAMES = 2  # different frames of a video
MIN_AUDIO_SECONDS = 0.1
_SLACK = 0.5  # seconds by which a time range may exceed its file
_SLACK_SHARE = 0.1  # share of a time range that may be missing


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something found in one record; `kind` is a short name to count by ("missing", "too long")."""

    origin: str
    id: str
    kind: str
    message: str
    severity: Severity = "problem"
    paths: tuple[str, ...] = ()


Seen = tuple[Severity, str, str]


def of_facts(record: Record, facts: Answer) -> Iterator[Seen]:
    """Findings about a media item that could be opened."""
    media = record.media
    assert media is not None
    if media.video:
        still = facts["kind"] == "image"
        if facts["kind"] == "audio":
            yield "problem", "no pictures", "it holds audio only; expected the key 'audio'"
        elif still != (record.modality == "image"):
            right = "image" if still else "video"
            yield "problem", "wrong medium", f"it is {'an image' if still else 'a video'}; expected the key {right!r}"
        elif not still and facts["different"] < MIN_FRAMES:
            yield "problem", "too short", f"expected {MIN_FRAMES} or more different frames, got {facts['different']}"
    if media.audio:
        yield from _of_audio(facts)
    requested = None if media.end is None else media.end - (media.start or 0.0)
    used = used_seconds(record, facts)
    if requested is not None and used and requested - used[0] > _SLACK:
        severity: Severity = "problem" if requested - used[0] > _SLACK_SHARE * requested else "remark"
        yield (
            severity,
            "too short",
            f"expected {requested:g} s from {media.start or 0.0:g} s, got {used[0]:.2f} s",
        )
    for loss in facts["losses"]:
        if "frames are used" in loss:
            yield "remark", "not all used", loss
        elif not loss.startswith("the audio is not used"):
            yield "problem", "damaged", loss


def _of_audio(facts: Answer) -> Iterator[Seen]:
    if facts["sound"] == "absent":
        reason = next(
            (loss for loss in facts["losses"] if loss.startswith("the audio is not used")), "its file has none"
        )
        yield "problem", "no sound", f"the record uses audio; {reason}"
    elif facts["sound_seconds"] is not None and facts["sound_seconds"] < MIN_AUDIO_SECONDS:
        yield (
            "problem",
            "too short",
            f"expected {MIN_AUDIO_SECONDS:g} s or more of audio, got {facts['sound_seconds']:.3f} s",
        )
    elif facts["sound"] == "silent":
        yield "remark", "silent", "its audio is digital silence"


def of_text(record: Record) -> Iterator[Seen]:
    """Findings about a record's turns."""
    answers = [turn["value"].strip() for turn in record.conversation if turn["from"] == "gpt"]
    if not any(answers):
        what = "no turn is from gpt" if not answers else "every answer is empty"
        yield "problem", "nothing to learn", f"{what}; expected an answer to learn"
    elif dropped_turns(record.conversation):
        yield "remark", "turn dropped", "its first turn is from gpt, before any question: it is not trained on"


def used_seconds(record: Record, facts: Answer | None) -> list[float]:
    """[seconds of the file in the requested range]; [] for images, text, lists of frames, and unreadable files."""
    media = record.media
    if media is None or facts is None or facts.get("seconds") is None or facts["kind"] == "image":
        return []
    if isinstance(media.source, tuple):
        return []
    if not media.video:  # audio alone is measured in the requested range
        return [facts["seconds"]]
    end = facts["seconds"] if media.end is None else min(media.end, facts["seconds"])
    return [max(end - (media.start or 0.0), 0.0)]
