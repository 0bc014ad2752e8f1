"""The processor's parts by transformers' names, for callers that prepare one kind of media without a prompt.

    processor.image_processor(images=…)            pixel_values         [images, 3, S, S]
    processor.video_processor(videos=…)            pixel_values_videos  [videos, T, 3, S, S], or a list of [T, 3, S, S]
    processor.feature_extractor(samples, sampling_rate=16000)   input_features [audios, frames, bins] and their mask

They are views of the processor: its files describe them, they have none themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import BatchFeature

from .call_options import CallOptions
from .errors import UsageError
from .image_settings import as_dict
from .media.in_memory import is_frames
from .receipt import Modality
from .text.media_parts import source_media


class _Part:
    """One kind of media, prepared as the processor does it."""

    kind: Modality
    model_input_names: Sequence[str]

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"

    def to_dict(self) -> dict[str, Any]:
        """Its settings, as in preprocessor_config.json."""
        vision = self._processor.config.vision_config
        return {} if vision is None else as_dict(self._processor.pixels, vision)

    def __getattr__(self, name: str) -> Any:
        if name[:1] != "_" and name in (settings := self.to_dict()):
            return settings[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _prepared(self, given: Any, kwargs: Mapping[str, Any]) -> BatchFeature:
        options = CallOptions.read(kwargs, return_tensors="pt")
        if options.return_tensors != "pt":
            raise UsageError(f"return_tensors={options.return_tensors!r}; expected 'pt'")
        media = [source_media(self.kind, one, self._processor._part_defaults(options)) for one in self._flat(given)]
        if not media:
            raise UsageError(f"expected one or more of {self.kind} media, got none")
        batch: BatchFeature = self._processor.media_batch(media, options)
        return BatchFeature({name: value for name, value in batch.items() if name in self.model_input_names})

    def _flat(self, given: Any) -> list[Any]:
        """The media items; lists of lists, as processors take them for several prompts, in order."""
        if not isinstance(given, list | tuple) or self._is_one(given):
            return [given]
        return [item for one in given if one is not None for item in self._flat(one)]

    def _is_one(self, given: Sequence[Any]) -> bool:
        return False


class ImagesAlone(_Part):
    """Images → pixel values."""

    kind, model_input_names = "image", ("pixel_values",)

    def __call__(self, images: Any, **kwargs: Any) -> BatchFeature:
        """Images as the processor takes them, also in lists of lists, with its image settings as keywords."""
        return self._prepared(images, kwargs)


class VideosAlone(_Part):
    """Videos → pixel values of their frames; their sound is not used."""

    kind, model_input_names = "video", ("pixel_values_videos",)

    def __call__(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Videos as the processor takes them; `num_frames`, `fps` and its image settings are keywords."""
        return self._prepared(videos, {"load_audio_from_video": False, **kwargs})

    def _is_one(self, given: Sequence[Any]) -> bool:
        return bool(is_frames(given))


class AudioAlone(_Part):
    """Audio → input features of the audio encoder."""

    kind, model_input_names = "audio", ("input_features", "input_features_mask")

    def __call__(self, raw_speech: Any = None, *, audio: Any = None, **kwargs: Any) -> BatchFeature:
        """Samples with their `sampling_rate`, or files."""
        return self._prepared(audio if raw_speech is None else raw_speech, kwargs)

    def fetch_audio(self, audio: Any, **_: Any) -> Any:
        """What pipelines call first: the audio as it is, because the processor reads it."""
        return audio

    def to_dict(self) -> dict[str, Any]:
        """Its settings."""
        audio = self._processor.config.audio_config
        return {} if audio is None else {"sampling_rate": 16000, "feature_size": 128, "model_type": audio.model_type}

    def _is_one(self, given: Sequence[Any]) -> bool:
        return bool(given) and isinstance(given[0], int | float)


class ProcessorParts:
    """Properties of the processor."""

    @property
    def image_processor(self) -> ImagesAlone:
        """Prepares images alone."""
        return ImagesAlone(self)

    @property
    def video_processor(self) -> VideosAlone:
        """Prepares videos alone."""
        return VideosAlone(self)

    @property
    def feature_extractor(self) -> AudioAlone:
        """Prepares audio alone."""
        return AudioAlone(self)
