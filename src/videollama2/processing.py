"""Media and messages → model inputs. The arithmetic that decides context length and memory:

    16 frames × 27×27 patches → STC (2, 2, 2), no padding → 8×13×13 = 1352 video tokens        (VideoLLaMA 2.1)
     8 frames × 24×24 patches → STC (2, 2, 2), padding 1  → 5×13×13 =  845 video tokens        (VideoLLaMA 2)
    30 s at 16 kHz → 2998 filterbank rows → 187×8 patches =           1496 audio tokens

A media item is decoded once (`media_inputs`) and can then be asked about many times (`tokenise`).
"""

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature

from .call_options import IMAGE_SETTINGS, CallOptions
from .configuration import VideoLlama2Config, read_json
from .errors import ContextOverflow, NoVideoStream, UnsupportedModality, UsageError
from .hub import HubOptions, find_folder, refuse_unknown
from .image_settings import PREPROCESSOR, as_dict, default_pixels, find_pixels
from .media import AudioInput, Clip, Opener, PixelSettings, audio_input, open_clip, pixel_values
from .media_features import MEDIA_INPUTS
from .processor_attributes import PARTS
from .processor_calls import TransformersCalls
from .protocols import Protocol, as_sound_of_video
from .protocols import protocol as named_protocol
from .receipt import AudioReceipt, Loss, MediaReceipt, VideoReceipt, source_name
from .stc import connector_settings
from .text.media_parts import Media
from .text.prompts import (
    Message,
    TokenisedPrompt,
    parse_messages,
    prompt_of_turns,
    with_modalities,
)
from .text.tokenization import load_tokenizer
from .vision import num_patches

# Keywords that from_pretrained passes to the tokenizer, and those that Auto classes and pipelines add.
_OF_TOKENIZER = frozenset(
    "padding_side truncation_side chat_template model_max_length bos_token eos_token unk_token sep_token pad_token "
    "cls_token mask_token extra_special_tokens additional_special_tokens add_bos_token add_eos_token add_prefix_space "
    "clean_up_tokenization_spaces split_special_tokens legacy".split()
)
OF_AUTO_CLASSES = frozenset(
    "trust_remote_code use_fast backend dtype torch_dtype device_map code_revision adapter_kwargs _from_auto "
    "_from_pipeline _commit_hash".split()
)
PROCESSOR, IMAGES = "processor_config.json", "VideoLlama2ImageProcessor"  # the latter in processor_parts.py
MAX_CHARACTERS_PER_TOKEN = 100  # average over a text; 4 is usual


@dataclass(frozen=True, kw_only=True)
class MediaInputs:
    """The encoders' input tensors of one media item.

    Attributes:
        pixels: float32 [T, 3, S, S], or [1, 3, S, S] for a still image; None without pictures.
        still: the pixels are an image.
        fbank: [frames, bins], rounded as the protocol says; None without audio.
    """

    pixels: Tensor | None = None
    still: bool = False
    fbank: Tensor | None = None


class VideoLlama2Processor(TransformersCalls):
    """Tokenizer, image settings and protocols behind one interface.

    `media_inputs` and `tokenise` are what the Engine uses; calling the processor gives transformers-style batches.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        config: VideoLlama2Config | None = None,
        pixels: PixelSettings | None = None,
        *,
        image_processor: Any = None,
        video_processor: Any = None,
        feature_extractor: Any = None,
        chat_template: Any = None,
    ) -> None:
        """From a tokenizer and a configuration, or from parts that bring their model's configuration.

        Args:
            tokenizer: None for media alone.
            config, pixels: by default those of the parts, else the configuration's and its vision encoder's defaults.
            image_processor, video_processor, feature_extractor: this package's; an image processor of transformers'
                gives its settings.
            chat_template: replaces the tokenizer's.
        """
        # skip ProcessorMixin.__init__, which would look up parts by class name
        self.tokenizer, self.pixels = tokenizer, pixels
        given = (image_processor, video_processor, feature_extractor)
        parts = {name: part for name, part in zip(PARTS, given, strict=True) if part is not None}
        self.config = self._take_parts(parts, config)
        if self.pixels is None and self.config.vision_config is not None:
            self.pixels = default_pixels(self.config.vision_config)
        self.fetch = None
        self._rendered = OrderedDict()
        self._found_padding_side = getattr(tokenizer, "padding_side", None)
        if chat_template is not None:
            self.chat_template = chat_template

    def __repr__(self) -> str:
        return f"{type(self).__name__}(tokenizer={type(self.tokenizer).__name__}, pixels={self.pixels})"

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "VideoLlama2Processor":
        """From a checkpoint folder or hub id, in our layout or the original's.

        Args:
            config: replaces the folder's own.
            tokenizer_folder: folder with the tokenizer, if this one has none.
            kwargs: the hub's (revision, cache_dir, …), the tokenizer's (padding_side, chat_template, …), image
                settings (do_normalize, …), parts (image_processor=…), and settings of config.json (num_frames, …).

        Raises:
            CheckpointNotFound: no folder, or no tokenizer in it.
            ConfigError: an invalid configuration.
            UnknownArgument: an unknown argument.
        """
        folder = find_folder(pretrained_model_name_or_path, HubOptions.take(kwargs), weights=False)
        config, tokenizer_folder = kwargs.pop("config", None), kwargs.pop("tokenizer_folder", None)
        of_tokenizer = {name: kwargs.pop(name) for name in _OF_TOKENIZER if name in kwargs}
        parts = {name: kwargs.pop(name) for name in PARTS if kwargs.get(name) is not None}
        changes = {name: kwargs.pop(name) for name in IMAGE_SETTINGS if name in kwargs}
        kwargs = {name: value for name, value in kwargs.items() if name not in OF_AUTO_CLASSES}
        if config is None:
            config, kwargs = VideoLlama2Config.from_pretrained(folder, return_unused_kwargs=True, **kwargs)
        known = {*_OF_TOKENIZER, *PARTS, *IMAGE_SETTINGS, *VideoLlama2Config.__dataclass_fields__}
        refuse_unknown(kwargs, known, f"{cls.__name__}.from_pretrained")
        template = of_tokenizer.pop("chat_template", None)
        tokenizer = load_tokenizer(tokenizer_folder or folder, **of_tokenizer)
        legacy = folder / "chat_template.json"  # where transformers before 5 kept a processor's template
        if template is None and legacy.is_file():
            template = read_json(legacy).get("chat_template")
        if template is not None:
            tokenizer.chat_template = template
        tokenizer.padding_side = of_tokenizer.get("padding_side", "left")
        pixels = None if {"image_processor", "video_processor"} & parts.keys() else find_pixels(folder, config)
        made = cls(tokenizer, config, pixels, **parts)
        if changes:
            made.pixels = made._change_pixels(changes)
        made._found_padding_side = None  # chosen here, or by the caller
        return made

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Write tokenizer, image settings and, if missing, config.json; returns the files' paths.

        Raises:
            UsageError: for push_to_hub, or another keyword.
        """
        if push_to_hub or kwargs:
            raise UsageError("save_pretrained takes a folder only; to upload, call processor.push_to_hub(name).")
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        files = [str(f) for f in self.tokenizer.save_pretrained(folder)]
        if self.pixels is not None:
            path = folder / PREPROCESSOR
            path.write_text(
                json.dumps(as_dict(self.pixels, self.config.vision_config), indent=2) + "\n", encoding="utf-8"
            )
            files.append(str(path))
            # so that AutoImageProcessor gives this package's, whose pixels are those of the whole processor
            own = {"processor_class": type(self).__name__, "image_processor": {"image_processor_type": IMAGES}}
            (folder / PROCESSOR).write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")
            files.append(str(folder / PROCESSOR))
        if not (folder / "config.json").exists():  # the model's own config.json is more complete
            self.config.save_pretrained(folder)
            files.append(str(folder / "config.json"))
        return files

    # ── media ──────────────────────────────────────────────────────────────────────────────────────────────────

    def media_inputs(
        self, media: Media, protocol: Protocol, opener: Opener = open_clip
    ) -> tuple[MediaInputs, MediaReceipt]:
        """Decode one media item; returns the encoders' inputs, and their receipt.

        Args:
            opener: `open_clip`, or that of a pool of workers (`media.worker.WorkerPool`).

        Raises:
            MediaError: the file can't be used (see errors.py for the kinds).
            UnsupportedModality: video or images without a vision encoder, or audio without an audio encoder.
        """
        has_audio_encoder = self.config.audio_config is not None
        wants_audio = media.audio and has_audio_encoder
        separate = wants_audio and media.audio_source is not None
        no_audio_encoder = UnsupportedModality(
            f"{source_name(media.source)} has only audio to use, but this model has no audio encoder; load an "
            "audio-visual model."
        )
        if not has_audio_encoder and not media.video:
            raise no_audio_encoder
        if media.fps is not None:
            protocol = _with_folder_fps(media, protocol)
        try:
            options = media.clip_options(self.config.num_frames, audio_encoder=has_audio_encoder)
            clip = opener(media.source, protocol=protocol, **options)
            if separate:
                start, end = (media.start, media.end) if protocol.audio_in_range else (None, None)
                of_video = as_sound_of_video(protocol)
                clip = clip.with_sound(
                    opener(media.audio_source, protocol=of_video, start=start, end=end, want_video=False)
                )
        except NoVideoStream:
            if media.audio and not has_audio_encoder:
                raise no_audio_encoder from None
            raise
        return self.clip_inputs(clip, media, protocol)

    def clip_inputs(self, clip: Clip, media: Media, protocol: Protocol) -> tuple[MediaInputs, MediaReceipt]:
        """As `media_inputs`, from a decoded clip."""
        if clip.frames and self.pixels is None:
            raise UnsupportedModality(
                f"{clip.source} has video or images, but this model has no vision encoder; ask only about its audio "
                "(video=False, --no-video)."
            )
        pixels = video = audio = None
        losses = tuple(Loss("decoding", detail) for detail in clip.losses)
        still = clip.kind == "image"
        if self.pixels is not None and clip.frames:
            pixels = pixel_values(clip.frames, self.pixels, protocol.aspect)
            video = self._video_receipt(clip)
        fbank = None
        if not still:  # an image has no audio to account for
            fbank, audio, own = self._audio_input(clip, media, protocol)
            losses += own
        receipt = MediaReceipt(source=clip.source, video=video, audio=audio, losses=losses)
        return MediaInputs(pixels=pixels, still=still, fbank=fbank), receipt

    def _video_receipt(self, clip: Clip) -> VideoReceipt:
        used = len(clip.frames)
        return VideoReceipt(
            source=clip.source,
            kind="image" if clip.kind == "image" else "video",
            range_seconds=None if clip.range_seconds is None else _closed(clip.range_seconds, clip),
            frames_total=clip.frames_total,
            frames_used=used,
            times_seconds=tuple(round(float(t), 6) for t in clip.times) if clip.kind == "video" else None,
            tokens=self.video_tokens(self.config.num_frames if clip.kind == "image" else used),
            notes=clip.notes,
        )

    def _audio_input(self, clip: Clip, media: Media, protocol: Protocol) -> AudioInput:
        if not media.audio:
            return AudioInput(None, AudioReceipt(source=clip.source, state="not_requested"))
        if self.config.audio_config is None:
            note = "this model has no audio encoder; audio, if present, was not decoded"
            receipt = AudioReceipt(source=clip.source, state="unsupported", notes=(note,))
            return AudioInput(None, receipt, (Loss("audio_unsupported", "this model can't use its audio"),))
        made = audio_input(clip, protocol, self.config.audio_config)
        tokens = 0 if made.fbank is None else self.audio_tokens(len(made.fbank))
        notes = made.receipt.notes if clip.frames else (*clip.notes, *made.receipt.notes)
        source = clip.source if media.audio_source is None else source_name(media.audio_source)
        return made._replace(receipt=replace(made.receipt, source=source, tokens=tokens, notes=notes))

    # ── tokens ─────────────────────────────────────────────────────────────────────────────────────────────────

    def video_tokens(self, frames: int) -> int:
        """Number of tokens of a video with that many frames; an image counts as `config.num_frames` frames."""
        if self.config.vision_config is None or self.pixels is None:
            return 0
        rows, columns = num_patches(self.config.vision_config, self.pixels.output_size)
        return connector_settings(self.config.connector_type).num_tokens(frames, rows, columns)

    def audio_tokens(self, frames: int) -> int:
        """Number of tokens of audio with that many frames of input features."""
        audio = self.config.audio_config
        return 0 if audio is None else self.config.audio_tokens(audio.num_features(frames))

    def tokenise(self, messages: Sequence[Message], media: Sequence[MediaReceipt] = ()) -> TokenisedPrompt:
        """Messages to ids. The k-th media part of the messages stands for `media[k]`.

        Raises:
            PromptError: messages and media don't match, or the chat template rejects the messages.
            ContextOverflow: the text alone is longer than the context.
        """
        config = self.config
        turns = with_modalities(parse_messages(messages), [m.modality for m in media])
        self.check_length(sum(len(part) for turn in turns for part in turn.parts if isinstance(part, str)))
        prompt = prompt_of_turns(turns, self.tokenizer, system_prompt=config.system_prompt)
        return prompt.expand([m.tokens for m in media], config.placeholder_ids)

    def check_length(self, characters: int) -> None:
        """Reject text that can't fit, before spending minutes tokenising it.

        Raises:
            ContextOverflow: that many characters can't fit into the context.
        """
        positions = self.config.max_positions
        if characters > MAX_CHARACTERS_PER_TOKEN * positions:
            raise ContextOverflow(
                f"the text has {characters:,} characters, but the context is only {positions:,} tokens; shorten it."
            )

    def collate(
        self,
        prompts: Sequence[TokenisedPrompt],
        media: Sequence[MediaInputs] = (),
        padding_side: str = "left",
        *,
        width: int | None = None,
    ) -> BatchFeature:
        """Prompts of different lengths, and their media in prompt order, as one padded batch.

        Args:
            width: of the padded rows; None: the longest prompt's.
        """
        if not prompts:
            raise UsageError("expected a batch of 1 or more prompts, got 0.")
        if padding_side not in ("left", "right"):
            raise UsageError(f"padding_side is {padding_side!r}; expected 'left' (generation) or 'right' (training).")
        width = width or max(len(prompt.input_ids) for prompt in prompts)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.full((len(prompts), width), pad, dtype=torch.long)
        mask, generated = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            n = len(prompt.input_ids)
            place = slice(width - n, width) if padding_side == "left" else slice(0, n)
            ids[i, place], mask[i, place] = torch.tensor(prompt.input_ids), 1
            if prompt.generated:
                generated[i, place] = torch.tensor(prompt.generated, dtype=torch.long)
        marked = {"assistant_masks": generated} if any(prompt.generated for prompt in prompts) else {}
        return BatchFeature({"input_ids": ids, "attention_mask": mask, **marked, **media_tensors(media)})

    def media_batch(self, media: Sequence[Media], options: CallOptions) -> BatchFeature:
        """The encoders' inputs of media without a prompt."""
        worker, protocol = self._with_image_settings(dict(options.image_settings)), named_protocol(self.config.protocol)
        prepared = [worker.media_inputs(item, protocol) for item in media]
        self._warn_of_losses([receipt for _, receipt in prepared])
        return BatchFeature(media_tensors([inputs for inputs, _ in prepared]))

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that a batch can hold."""
        return ["input_ids", "attention_mask", *MEDIA_INPUTS]


def _closed(requested: tuple[float | None, float | None], clip: Clip) -> tuple[float, float]:
    """The requested range, with open ends filled in from the clip."""
    start, end = requested
    length = clip.end_seconds
    return (start or 0.0, length if end is None else end)


def media_tensors(media: Sequence[MediaInputs]) -> dict[str, Any]:
    """The model's media arguments for all media of a batch, in prompt order."""
    tensors: dict[str, Any] = {}
    images = [m.pixels[0] for m in media if m.still and m.pixels is not None]
    videos = [m.pixels for m in media if not m.still and m.pixels is not None]
    fbanks = [m.fbank for m in media if m.fbank is not None]
    if images:
        tensors["pixel_values"] = torch.stack(images)
    if videos:
        same = len({len(v) for v in videos}) == 1
        tensors["pixel_values_videos"] = torch.stack(videos) if same else videos
    if fbanks:
        longest = max(len(fbank) for fbank in fbanks)
        features = torch.zeros(len(fbanks), longest, fbanks[0].shape[1], dtype=fbanks[0].dtype)
        mask = torch.zeros(len(fbanks), longest, dtype=torch.bool)
        for i, fbank in enumerate(fbanks):
            features[i, : len(fbank)], mask[i, : len(fbank)] = fbank, True
        tensors |= {"input_features": features, "input_features_mask": mask}
    return tensors


def _with_folder_fps(media: Media, protocol: Protocol) -> Protocol:
    """The protocol with the requested frame rate of a folder."""
    fps = media.fps
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps <= 1000:
        raise UsageError(f"fps={fps!r}; expected frames per second, more than 0 and at most 1000.")
    if not (isinstance(media.source, str | PathLike) and Path(media.source).is_dir()):
        raise UsageError(f"fps={fps:g} is for folders of images; {source_name(media.source)} is not a folder.")
    return replace(protocol, folder_fps=float(fps))
