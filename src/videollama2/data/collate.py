"""Training samples, and batches of them: truncate, pad on the right, mask (spec §6.5)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import PromptError, UsageError
from ..processing import MediaInputs, media_tensors
from ..text.tokenization import SLOT_MODALITIES
from .labels import IGNORE, Example


@dataclass(frozen=True)
class FeatureKeys:
    """Cache keys of a media item's features; None: not cached, as the encoder learns or the modality is absent."""

    vision: str | None
    audio: str | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One record, ready for a batch.

    Attributes:
        record: `Record.origin`.
        example: ids and labels, with one placeholder id per media token.
        pixels: float32 [T, 3, S, S], or [1, 3, S, S] of a still image; None without pictures.
        still: the pictures are one image.
        fbank: [frames, bins]; None without audio.
        vision_features: the frozen vision encoder's output [T, P, C], instead of pixels.
        audio_features: the frozen audio encoder's output [n, C], instead of fbank.
        keys: of the features in the cache; None without a cache.
    """

    record: str
    example: Example
    pixels: Tensor | None
    still: bool
    fbank: Tensor | None
    vision_features: Tensor | None = None
    audio_features: Tensor | None = None
    keys: FeatureKeys | None = None


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used, and the reason."""

    record: str
    reason: str


def truncate(example: Example, max_length: int, placeholders: Collection[int] = ()) -> Example:
    """The first `max_length` ids.

    The public implementation truncates before `Example.expand`, when a media item is a single id; to truncate after it,
    pass the placeholder ids.

    Raises:
        PromptError: the cut would remove all or part of a media item (the public implementation trains on without it),
            or leave no supervised token.
    """
    cut = example.ids[max_length:]
    lost = sum(i in SLOT_MODALITIES or i in placeholders for i in cut)
    if lost:
        raise PromptError(
            f"truncating {len(example.ids)} ids to {max_length} would cut off {lost} ids of media; raise "
            "model_max_length, use fewer frames, or remove the sample."
        )
    return Example(example.ids[:max_length], example.labels[:max_length])


def collate(
    examples: Sequence[Example],
    pad_token_id: int,
    max_length: int | None = None,
    placeholders: Collection[int] = (),
) -> dict[str, Tensor]:
    """Pad examples on the right to the longest.

    Args:
        examples: one or more.
        pad_token_id: fills `input_ids`; labels are filled with IGNORE.
        max_length, placeholders: of `truncate`; None: no truncation.

    Returns:
        `input_ids`, `labels` and `attention_mask`, int64 [B, L]. The mask follows from the lengths, so a padding id
        inside a text is not masked.

    Raises:
        PromptError: as `truncate`, or there are no examples.
    """
    if not examples:
        raise PromptError("an empty batch; expected one or more examples.")
    if max_length is not None:
        examples = [truncate(example, max_length, placeholders) for example in examples]

    def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

    return {
        "input_ids": padded([example.ids for example in examples], pad_token_id),
        "labels": padded([example.labels for example in examples], IGNORE),
        "attention_mask": padded([[1] * len(example.ids) for example in examples], 0),
    }


_FEATURES_OF = {
    "pixel_values": "image_features",
    "pixel_values_videos": "video_features",
    "input_features": "audio_features",
}


def collate_samples(samples: Sequence[Sample], pad_token_id: int) -> dict[str, Any]:
    """A batch as keyword arguments of the model, padded on the right.

    Returns:
        `input_ids`, `labels`, `attention_mask` int64 [B, L]; `pixel_values`, `pixel_values_videos`, `input_features`
        with `input_features_mask`, as `processing.media_tensors` makes them; or lists of features `image_features`,
        `video_features`, `audio_features`. Kinds of media that no sample has are missing.

    Raises:
        UsageError: some samples hold media of a kind as features, others as encoder inputs.
    """
    batch: dict[str, Any] = collate([sample.example for sample in samples], pad_token_id)
    features: dict[str, list[Tensor]] = {}
    for sample in samples:
        if sample.vision_features is not None:
            name = "image_features" if sample.still else "video_features"
            features.setdefault(name, []).append(sample.vision_features)
        if sample.audio_features is not None:
            features.setdefault("audio_features", []).append(sample.audio_features)
    media = media_tensors([MediaInputs(pixels=s.pixels, still=s.still, fbank=s.fbank) for s in samples])
    for inputs, encoded in _FEATURES_OF.items():
        if inputs in media and encoded in features:
            raise UsageError(
                f"a batch holds both {inputs} and {encoded}, so the model can't know their order; encode all samples "
                "of a batch, or none."
            )
    return {**batch, **media, **features}
