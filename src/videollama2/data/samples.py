"""Records to samples: what one record gives the model.

    Record ── media: the cache's features, or decoded pixels and fbank  ─┐
           ── conversation: ids and labels, one slot for the medium     ─┴─► Sample, one placeholder id per feature

Training sees a medium exactly as answering does: through `VideoLlama2Processor.prepare`, under a protocol. What can't
be had is an error or a skip that names the record; another sample never takes its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError, MediaError, NoAudioStream, NumericsError, PromptError, UnreadableMedia, UsageError
from ..processing import MediaInputs, VideoLlama2Processor, media_tensors
from ..protocols import Protocol
from ..protocols import protocol as named_protocol
from ..receipt import MediaReceipt, Modality
from ..stc import connector_settings
from ..text.conversations import Media
from .collate import collate
from .labels import CaptionStyle, Example, caption_example, characters_per_id, chat_example, fewest_ids
from .records import Record

if TYPE_CHECKING:
    from .features import FeatureCache, Keys


Style = Literal["chat"] | CaptionStyle
STYLES: tuple[Style, ...] = ("chat", "joined", "templated")
_WORDS: dict[Modality, str] = {"image": "a picture", "video": "a video", "audio": "a sound without pictures"}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One record, ready for a batch.

    Attributes:
        record: `Record.origin`.
        example: ids and labels, with one placeholder id per feature.
        pixels: float32 [T, 3, S, S], or [1, 3, S, S] for a still image; None without pictures.
        still: the pictures are one image.
        fbank: [frames, 128]; None without sound.
        patches: what the frozen vision encoder makes of the pixels, [T, P, C], in their place.
        sound_patches: what the frozen audio encoder makes of the fbank, [n, C] before pooling, in its place.
        keys: where the cache would keep the patches; None without a cache.
    """

    record: str
    example: Example
    pixels: Tensor | None
    still: bool
    fbank: Tensor | None
    patches: Tensor | None = None
    sound_patches: Tensor | None = None
    keys: "Keys | None" = None


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used, and why."""

    record: str
    reason: str


class Samples(Dataset[Sample | Skipped]):
    """The samples of these records; any of them can be asked for at any time, in any process."""

    def __init__(
        self,
        records: Sequence[Record],
        processor: VideoLlama2Processor,
        *,
        protocol: str | Protocol,
        frames: int | None,
        style: Style,
        max_length: int | None,
        cache: "FeatureCache | None" = None,
        on_unreadable: Literal["error", "skip"] = "error",
    ) -> None:
        """What is made of the records.

        Args:
            protocol: how media are prepared (protocols.py).
            frames: frames to sample of a video; None: the model's own number.
            style: "chat": the conversation through the chat template; "joined", "templated": captions, as
                `labels.caption_example` has them.
            max_length: most positions of a sample, media included; None: the model's context. A longer one is an
                error: the public implementation cuts its end off, and with it what should be learned.
            cache: features of frozen encoders; what is in it is not decoded.
            on_unreadable: a medium that can't be used is an error, or gives a `Skipped`.

        Raises:
            UsageError: an unknown style or protocol, or lengths that make no sense.
        """
        if style not in STYLES or on_unreadable not in ("error", "skip") or (max_length is not None and max_length < 1):
            raise UsageError(
                f"style is {style!r}, on_unreadable {on_unreadable!r} and max_length {max_length}; expected one of "
                f"{', '.join(STYLES)}; error or skip; and at least 1"
            )
        self.records, self.processor, self.cache = records, processor, cache
        self.protocol, self.frames = named_protocol(protocol), frames
        self.style, self.on_unreadable = style, on_unreadable
        context = processor.config.max_positions
        self.most = context if max_length is None else min(max_length, context)
        self._characters = characters_per_id(processor.tokenizer)
        self._fewest = connector_settings(processor.config.connector_type).downsample[0]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample | Skipped:
        """The sample of a record, or, where `on_unreadable` says so, that it was skipped.

        Raises:
            DataError: the record can't be learned from, or, where `on_unreadable` is "error", its medium not be used.
        """
        record = self.records[index]
        try:
            return self._sample(record)
        except (MediaError, NumericsError, UsageError) as error:  # a range asked of a picture is a UsageError
            if self.on_unreadable == "skip":
                return Skipped(record.origin, str(error))
            raise DataError(
                f"record {record.origin}: {error} Mend the file, leave the record out (`videollama2 data doctor` "
                "writes a list without such), or train with --on-unreadable skip."
            ) from error
        except PromptError as error:
            raise DataError(f"record {record.origin}: {error}") from error
        except Exception as error:  # a fault of ours or of a decoder; whoever reads of it wants to know the record
            error.add_note(f"It happened in record {record.origin}.")
            raise

    def text(self, index: int) -> Example:
        """Ids and labels of a record, with one negative id for its medium, which is not looked at.

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
        textual = Sample(record=record.origin, example=example, pixels=None, still=False, fbank=None)
        if record.media is None or modality is None:
            return textual
        media = record.media if self.frames is None else replace(record.media, num_frames=self.frames)
        sample = self._with_media(textual, media, modality)
        whole = example.expand([self._counts(sample)], self.processor.config.placeholder_ids)
        self._refuse_long(len(whole.ids))
        return replace(sample, example=whole)

    def _example(self, record: Record) -> Example:
        """Ids and labels, with one negative id for the medium."""
        tokenizer, modality = self.processor.tokenizer, record.modality
        if not any(turn["value"].strip() for turn in record.conversation if turn["from"] == "gpt"):
            raise PromptError("no turn is from gpt, or every answer is empty; expected an answer to learn from")
        self._refuse_long(fewest_ids(record.conversation, self._characters))
        if self.style == "chat":
            example = chat_example(record.conversation, tokenizer, modality)
        elif modality is None:
            raise PromptError(f"it is text alone, and prompts of style {self.style!r} are captions of a medium")
        else:
            example = caption_example(record.conversation, tokenizer, modality, self.style)
        self._refuse_long(len(example.ids))
        return example

    def _refuse_long(self, positions: int) -> None:
        if positions > self.most:
            raise PromptError(
                f"it takes {positions} positions, and at most {self.most} are allowed (max_length, or the "
                "model's context); raise that, use fewer frames or a shorter part of the medium, shorten the text, or "
                "leave the record out"
            )

    def _with_media(self, sample: Sample, media: Media, modality: Modality) -> Sample:
        """The sample with its medium, decoded only as far as the cache does not have it."""
        deaf = self.processor.config.audio_config is None
        hears = media.audio and not (deaf and media.video)  # a sound alone is for `prepare` to refuse
        still = modality == "image"
        keys = None if self.cache is None else self.cache.keys(media, still=still)
        patches = sound = None
        if self.cache is not None and keys is not None:
            patches = self.cache.look_up(keys.vision) if media.video else None
            sound = self.cache.look_up(keys.sound) if hears else None
        pixels = fbank = None
        if (media.video and patches is None) or (hears and sound is None):
            if patches is not None:
                media = replace(media, num_frames=self._fewest)  # the sound is the same with any number of pictures
            inputs, receipt = self.processor.prepare(replace(media, audio=media.audio and sound is None), self.protocol)
            _check(receipt, modality, hears=hears and sound is None)
            pixels = inputs.pixels if patches is None else None
            fbank = inputs.fbank if sound is None else None
        return replace(sample, pixels=pixels, still=still, fbank=fbank, patches=patches, sound_patches=sound, keys=keys)

    def _counts(self, sample: Sample) -> dict[Modality, int]:
        """Features per kind, as `Example.expand` needs them."""
        processor = self.processor
        counts: dict[Modality, int] = {}
        seen = sample.pixels if sample.patches is None else sample.patches
        if seen is not None and sample.still:
            counts["image"] = processor.video_tokens(processor.config.num_frames)
        elif seen is not None:
            counts["video"] = processor.video_tokens(len(seen))
        if sample.sound_patches is not None:
            config = processor.config
            counts["audio"] = config.audio_config.num_tokens(len(sample.sound_patches), config.audio_pool)
        elif sample.fbank is not None:
            counts["audio"] = processor.audio_tokens(len(sample.fbank))
        return counts


def collate_samples(samples: Sequence[Sample], pad_token_id: int) -> dict[str, Any]:
    """A batch as keyword arguments of the model, padded on the right.

    Returns:
        `input_ids`, `labels`, `attention_mask` int64 [B, L], and of the media that there are: `pixel_values`,
        `pixel_values_videos`, `input_features` with `input_features_mask`, as `processing.media_tensors` has them;
        or lists `image_patches`, `video_patches`, `sound_patches`.

    Raises:
        UsageError: of two media of a kind one comes with its features and one without.
    """
    batch: dict[str, Any] = collate([sample.example for sample in samples], pad_token_id)
    patches: dict[str, list[Tensor]] = {"image_patches": [], "video_patches": [], "sound_patches": []}
    for sample in samples:
        if sample.patches is not None:
            patches["image_patches" if sample.still else "video_patches"].append(sample.patches)
        if sample.sound_patches is not None:
            patches["sound_patches"].append(sample.sound_patches)
    features = {name: tensors for name, tensors in patches.items() if tensors}
    media = media_tensors([MediaInputs(pixels=s.pixels, still=s.still, fbank=s.fbank) for s in samples])
    for whole, part in _SAME.items():
        if whole in media and part in features:
            raise UsageError(
                f"a batch holds both {whole} and {part}, whose order the model can't know; encode all samples of a "
                "batch, or none"
            )
    return {**batch, **media, **features}


_SAME = {
    "pixel_values": "image_patches",
    "pixel_values_videos": "video_patches",
    "input_features": "sound_patches",
}


def _check(receipt: MediaReceipt, modality: Modality, *, hears: bool) -> None:
    """Refuse a medium that is not what its record says.

    Digital silence is sound: what becomes of it is the protocol's matter, as in answering.
    """
    if receipt.modality != modality:
        raise UnreadableMedia(f"it is {_WORDS[receipt.modality]}, but the record says {modality}.")
    if hears and receipt.audio is not None and receipt.audio.state == "absent":
        raise NoAudioStream(
            f"its sound is to be learned from, but {receipt.audio.source} has none. Say 'sound': false in the record, "
            "or --sound false where it says nothing."
        )
