"""The processor's attributes by transformers' names: its parts, its chat template, its tags and placeholder ids.

    processor.image_processor    a part (processor_parts.py), made when it is first asked for
    processor.chat_template      the tokenizer's
    processor.image_token_id     the configuration's

transformers rejects class attributes with the names of arguments, so the first two kinds are found by `__getattr__`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import ProcessorMixin
from transformers.processing_utils import MultiModalData

from .configuration import VideoLlama2Config
from .errors import UsageError
from .image_settings import pixels_of
from .media import PixelSettings
from .protocols import protocol as named_protocol
from .text.media_parts import PartDefaults, source_media

PARTS = ("image_processor", "video_processor", "feature_extractor")
_DEFAULTS_OF_CALLS = ("padding", "max_length", "truncation", "pad_to_multiple_of")


class ProcessorAttributes(ProcessorMixin):
    """What transformers, its pipelines and other engines read from a processor."""

    tokenizer: Any
    config: VideoLlama2Config
    pixels: PixelSettings | None
    media_inputs: Any
    video_tokens: Any

    @classmethod
    def get_attributes(cls) -> list[str]:
        """The parts that transformers' Auto classes load from the processor's folder, without torchvision.

        AutoVideoProcessor requires it, and before transformers 5.17 AutoImageProcessor did: then they are placeholders.
        """
        from transformers import AutoImageProcessor

        images = [] if getattr(AutoImageProcessor, "is_dummy", False) else ["image_processor"]
        return [*images, "feature_extractor", "tokenizer"]

    def __getattr__(self, name: str) -> Any:
        if name == "chat_template":
            return self.tokenizer.chat_template
        if name in PARTS:
            from . import processor_parts

            self.__dict__[name] = part = processor_parts.KINDS[name](self)
            return part
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "chat_template":
            self.tokenizer.chat_template = value
        else:
            super().__setattr__(name, value)

    def _take_parts(self, given: Mapping[str, Any], config: VideoLlama2Config | None) -> VideoLlama2Config:
        """Keep copies of parts, with their image settings; returns the configuration, theirs if none is passed.

        Raises:
            UsageError: a part is of another kind, or two parts contradict each other.
        """
        kept = {}
        for name, part in given.items():
            owner = getattr(part, "_processor", None)
            if owner is not None:
                config = config or owner.config
                kept[name] = part
            elif name != "image_processor":
                raise UsageError(f"{name} is a {type(part).__name__}; expected one of this package's processors.")
            settings = pixels_of(part) if owner is None else owner.pixels
            if name == "feature_extractor" or settings is None:
                continue
            if self.pixels not in (None, settings):
                raise UsageError(
                    f"{name} has other image settings than the other parts, or `pixels`; expected the same, because "
                    "frames and images are prepared alike."
                )
            self.pixels = settings
        for name, part in kept.items():
            self.__dict__[name] = part.of(self)
        return config or VideoLlama2Config()

    def _change_pixels(self, changes: Mapping[str, Any]) -> PixelSettings:
        """The image settings with changes.

        Raises:
            UsageError: an invalid value, or images of a size that the vision encoder does not take.
        """
        if self.pixels is None:
            raise UsageError(f"{', '.join(changes)}: this model has no vision encoder.")
        try:
            changed = self.pixels.changed(changes)
        except ValueError as error:  # ConfigError, of a file's settings
            raise UsageError(str(error)) from error
        if self.config.vision_config is not None and changed.output_size != self.pixels.output_size:
            height, width = self.pixels.output_size
            raise UsageError(f"images of {changed.output_size}; the vision encoder expects ({height}, {width}).")
        return changed

    def _with_tokenizers_defaults(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The keywords of a call, with those that the tokenizer was loaded with (`padding`, `max_length`, …)."""
        made_with = getattr(self.tokenizer, "init_kwargs", {})
        found = {name: made_with[name] for name in _DEFAULTS_OF_CALLS if made_with.get(name) is not None}
        if not found or (found.get("padding") == "max_length" and found.keys() == {"padding"}):
            return kwargs
        passed = {*kwargs, *kwargs.get("text_kwargs", ()), *kwargs.get("common_kwargs", ())}
        return {**{name: value for name, value in found.items() if name not in passed}, **kwargs}

    # ── numbers of tokens, for engines that reserve room before media are read ───────────────────────────────────

    def _get_num_multimodal_tokens(
        self,
        image_sizes: Sequence[Sequence[int]] | None = None,
        video_sizes: Sequence[Sequence[int]] | None = None,
        audio_lengths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> MultiModalData:
        """Tokens of each image (height, width), video (frames, height, width) and audio (samples at 16 kHz)."""
        images = [self.video_tokens(self.config.num_frames) for _ in image_sizes or ()]
        return MultiModalData(
            num_image_tokens=images if image_sizes is not None else None,
            num_image_patches=[1] * len(images) if image_sizes is not None else None,
            num_video_tokens=None if video_sizes is None else [self.video_tokens(size[0]) for size in video_sizes],
            num_audio_tokens=None if audio_lengths is None else [self._tokens_of_samples(n) for n in audio_lengths],
        )

    def _tokens_of_samples(self, samples: int) -> int:
        silence = source_media("audio", np.zeros(samples, np.float32), PartDefaults(sampling_rate=16000))
        _, receipt = self.media_inputs(silence, named_protocol(self.config.protocol))
        return int(receipt.audio.tokens)

    # ── tags and placeholder ids ─────────────────────────────────────────────────────────────────────────────────

    @property
    def image_token(self) -> str:
        """The tag of an image in rendered text."""
        return "<image>"

    @property
    def video_token(self) -> str:
        """The tag of a video in rendered text."""
        return "<video>"

    @property
    def audio_token(self) -> str:
        """The tag of audio in rendered text."""
        return "<audio>"

    @property
    def image_token_id(self) -> int:
        """The placeholder of an image's tokens."""
        return int(self.config.placeholder_ids["image"])

    @property
    def video_token_id(self) -> int:
        """The placeholder of a video's tokens."""
        return int(self.config.placeholder_ids["video"])

    @property
    def audio_token_id(self) -> int:
        """The placeholder of audio tokens."""
        return int(self.config.placeholder_ids["audio"])

    def to_dict(self) -> dict[str, Any]:
        """The processor's settings: configuration and image settings. The tokenizer has its own files."""
        return {
            "processor_class": type(self).__name__,
            "config": json.loads(self.config.to_json_string()),
            "pixels": None if self.pixels is None else self.pixels.to_dict(),
        }
