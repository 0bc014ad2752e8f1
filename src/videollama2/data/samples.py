"""Records to samples: what the model trains on.

    Record ── media: cached features, or decoded pixels and fbank         ─┐
           ── conversation: ids and labels, one slot for the media item   ─┴─► Sample, one placeholder id per token

Training uses the same media inputs as inference: `VideoLlama2Processor.media_inputs`, under a protocol. A record that
can't be used is an error, or a skip that names it; no other sample takes its place.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch.utils.data import Dataset

from ..errors import DataError, MediaError, NoAudioStream, NumericsError, PromptError, UnreadableMedia, UsageError
from ..processing import VideoLlama2Processor
from ..protocols import Protocol
from ..protocols import protocol as named_protocol
from ..receipt import MediaReceipt, Modality
from ..stc import connector_settings
from ..text.media_parts import Media
from .collate import Sample, Skipped
from .features import FeatureCache
from .labels import CaptionStyle, Example, caption_example, characters_per_id, chat_example, fewest_ids
from .records import Record
from .tar_media import in_memory

Style = Literal["chat"] | CaptionStyle
STYLES: tuple[Style, ...] = ("chat", "joined", "templated")
_WORDS: dict[Modality, str] = {"image": "an image", "video": "a video", "audio": "audio without pictures"}


class Samples(Dataset[Sample | Skipped]):
    """The samples of records, by index, in any order and process."""

    def __init__(
        self,
        records: Sequence[Record],
        processor: VideoLlama2Processor,
        *,
        protocol: str | Protocol,
        frames: int | None,
        style: Style,
        max_length: int | None,
        cache: FeatureCache | None = None,
        on_unreadable: Literal["error", "skip"] = "error",
    ) -> None:
        """Set up the conversion of records to samples.

        Args:
            records: to convert.
            processor: of the model.
            protocol: how media are prepared (protocols.py).
            frames: to sample of a video; None: the model's number.
            style: "chat": the conversation through the chat template; "joined", "templated": captions, see
                `labels.caption_example`.
            max_length: maximum positions of a sample, media included; None: the model's context. A longer sample is an
                error: truncating it, as the public implementation does, would cut off the answers.
            cache: of frozen encoders' features; cached media are not decoded.
            on_unreadable: media that can't be used are an error, or give a `Skipped`.

        Raises:
            UsageError: an unknown style, protocol or `on_unreadable`, or max_length below 1.
        """
        if style not in STYLES or on_unreadable not in ("error", "skip") or (max_length is not None and max_length < 1):
            raise UsageError(
                f"style is {style!r}, on_unreadable {on_unreadable!r} and max_length {max_length}; expected one of "
                f"{', '.join(STYLES)}; error or skip; and at least 1."
            )
        self.records, self.processor, self.cache = records, processor, cache
        self.protocol, self.frames = named_protocol(protocol), frames
        self.style, self.on_unreadable = style, on_unreadable
        context = processor.config.max_positions
        self.max_positions = context if max_length is None else min(max_length, context)
        self._characters_per_id = characters_per_id(processor.tokenizer)
        self._min_frames = connector_settings(processor.config.connector_type).downsample[0]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample | Skipped:
        """The sample of a record, or that it was skipped.

        Raises:
            DataError: the record can't be learned from, or its media can't be used and `on_unreadable` is "error".
        """
        record = self.records[index]
        try:
            return self._sample(record)
        except (MediaError, NumericsError, UsageError) as error:  # UsageError: e.g. a time range of an image
            if self.on_unreadable == "skip":
                return Skipped(record.origin, str(error))
            raise DataError(
                f"record {record.origin}: {error} Repair the file, remove the record (`videollama2 data doctor` writes "
                "a clean list), or train with --on-unreadable skip."
            ) from error
        except PromptError as error:
            raise DataError(f"record {record.origin}: {error}") from error
        except Exception as error:  # a bug here or in a decoder
            error.add_note(f"while preparing record {record.origin}")
            raise

    def text(self, index: int) -> Example:
        """Ids and labels of a record, with one negative id for its media item, which is not decoded.

        Raises:
            DataError: the record can't be learned from.
        """
        record = self.records[index]
        try:
            return self._example(record)
        except PromptError as error:
            raise DataError(f"record {record.origin}: {error}") from error

    def _sample(self, record: Record) -> Sample:
        example, modality = self._example(record), record.modality
        text_only = Sample(record=record.origin, example=example, pixels=None, still=False, fbank=None)
        if record.media is None or modality is None:
            return text_only
        media = record.media if self.frames is None else replace(record.media, num_frames=self.frames)
        sample = self._with_media(text_only, media, modality)
        expanded = example.expand([self._token_counts(sample)], self.processor.config.placeholder_ids)
        self._check_length(len(expanded.ids))
        return replace(sample, example=expanded)

    def _example(self, record: Record) -> Example:
        """Ids and labels, with one negative id for the media item."""
        tokenizer, modality = self.processor.tokenizer, record.modality
        if not any(turn["value"].strip() for turn in record.conversation if turn["from"] == "gpt"):
            raise PromptError("no turn is from gpt, or every answer is empty; expected an answer to learn from.")
        self._check_length(fewest_ids(record.conversation, self._characters_per_id))
        if self.style == "chat":
            example = chat_example(record.conversation, tokenizer, modality)
        elif modality is None:
            raise PromptError(f"it is text alone; style {self.style!r} expects captions of a media item.")
        else:
            example = caption_example(record.conversation, tokenizer, modality, self.style)
        self._check_length(len(example.ids))
        return example

    def _check_length(self, positions: int) -> None:
        if positions > self.max_positions:
            raise PromptError(
                f"it takes {positions} positions, more than the {self.max_positions} allowed (max_length, or the "
                "model's context); raise that, use fewer frames or a shorter time range, shorten the text, or remove "
                "the record."
            )

    def _with_media(self, sample: Sample, media: Media, modality: Modality) -> Sample:
        """The sample with its media item; what the cache lacks is decoded."""
        # a video's audio is dropped for a model without audio encoder; audio alone is rejected by `media_inputs`
        uses_audio = media.audio and not (media.video and self.processor.config.audio_config is None)
        still = modality == "image"
        keys = vision = audio = None
        if self.cache is not None:
            keys = self.cache.keys(media, still=still)
            vision = self.cache.look_up(keys.vision) if media.video else None
            audio = self.cache.look_up(keys.audio) if uses_audio else None
        pixels = fbank = None
        if (media.video and vision is None) or (uses_audio and audio is None):
            if vision is not None:
                media = replace(media, num_frames=self._min_frames)  # decoded for the audio alone
            wanted = replace(media, audio=media.audio and audio is None, source=in_memory(media.source))
            inputs, receipt = self.processor.media_inputs(wanted, self.protocol)
            _check(receipt, modality, uses_audio=uses_audio and audio is None)
            pixels = inputs.pixels if vision is None else None
            fbank = inputs.fbank if audio is None else None
        return replace(
            sample, pixels=pixels, still=still, fbank=fbank, vision_features=vision, audio_features=audio, keys=keys
        )

    def _token_counts(self, sample: Sample) -> dict[Modality, int]:
        """Tokens of the media item per modality."""
        processor = self.processor
        counts: dict[Modality, int] = {}
        frames = sample.pixels if sample.vision_features is None else sample.vision_features
        if frames is not None and sample.still:
            counts["image"] = processor.video_tokens(processor.config.num_frames)
        elif frames is not None:
            counts["video"] = processor.video_tokens(len(frames))
        if sample.audio_features is not None:
            counts["audio"] = processor.config.audio_tokens(len(sample.audio_features))
        elif sample.fbank is not None:
            counts["audio"] = processor.audio_tokens(len(sample.fbank))
        return counts


def _check(receipt: MediaReceipt, modality: Modality, *, uses_audio: bool) -> None:
    """Reject media that differ from their record. Silence is accepted: the protocol handles it, as in inference."""
    if receipt.modality != modality:
        raise UnreadableMedia(f"it is {_WORDS[receipt.modality]}, but the record says {modality}.")
    if uses_audio and receipt.audio is not None and receipt.audio.state == "absent":
        raise NoAudioStream(
            f"the record uses audio, but {receipt.audio.source} has none. Set 'sound': false in the record, or "
            "--sound false if it does not say."
        )
