"""The processor's parts by transformers' names, for callers that prepare one kind of media without a prompt.

    processor.image_processor(images=…)            pixel_values         [images, 3, S, S]
    processor.video_processor(videos=…)            pixel_values_videos  [videos, T, 3, S, S], or a list of [T, 3, S, S]
    processor.feature_extractor(samples, sampling_rate=16000)   input_features [audios, frames, bins] and their mask

A part belongs to a processor, whose settings it reads and sets. One that is loaded or made alone (AutoImageProcessor,
AutoFeatureExtractor) has a processor without a tokenizer, and can become a part of a whole one:

    VideoLlama2Processor(tokenizer, image_processor=…, feature_extractor=…)
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.image_processing_utils import BaseImageProcessor

from .call_options import IMAGE_SETTINGS, CallOptions
from .configuration import VideoLlama2Config, read_json
from .errors import ConfigError, UsageError
from .hub import HubOptions, find_folder, refuse_unknown
from .image_settings import PREPROCESSOR, find_pixels
from .media import PixelSettings
from .media.in_memory import is_frames
from .processing import OF_AUTO_CLASSES, VideoLlama2Processor
from .processor_calls import as_arrays
from .receipt import Modality
from .text.media_parts import Media, source_media

SAMPLING_RATE, BINS = 16000, 128


class _Part:
    """One kind of media, prepared as the processor does it."""

    kind: Modality
    type_key: str
    model_input_names: Sequence[str]

    def __init__(self, processor: VideoLlama2Processor | None = None, **settings: Any) -> None:
        settings = {name: value for name, value in settings.items() if name not in (self.type_key, "processor_class")}
        object.__setattr__(self, "_processor", processor or self._alone(settings))

    @classmethod
    def _alone(cls, settings: Mapping[str, Any]) -> VideoLlama2Processor:
        """A processor without a tokenizer, from a part's own settings."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """The part of a checkpoint's processor, or one that was saved alone; `kwargs`: the hub's, and settings.

        Raises:
            CheckpointNotFound: no such folder.
            UnknownArgument: an unknown argument.
        """
        folder = find_folder(pretrained_model_name_or_path, HubOptions.take(kwargs), weights=False)
        changes = {name: value for name, value in kwargs.items() if name not in OF_AUTO_CLASSES}
        refuse_unknown(changes.keys() - set(IMAGE_SETTINGS), IMAGE_SETTINGS, f"{cls.__name__}.from_pretrained")
        if (Path(folder) / "config.json").is_file():
            config = VideoLlama2Config.from_pretrained(folder)
            part = cls(VideoLlama2Processor(None, config, find_pixels(folder, config)))
        else:
            part = cls(**read_json(folder / PREPROCESSOR))
        if changes:
            part._processor.pixels = part._processor._change_pixels(changes)
        return part

    def of(self, processor: VideoLlama2Processor) -> "_Part":
        """This part, of another processor."""
        part = copy.copy(self)
        object.__setattr__(part, "_processor", processor)
        return part

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"

    def to_dict(self) -> dict[str, Any]:
        """Its settings, as in preprocessor_config.json."""
        pixels = self._processor.pixels
        return {} if pixels is None else {self.type_key: type(self).__name__, **pixels.to_dict()}

    def __getattr__(self, name: str) -> Any:
        if name[:1] != "_" and name in (settings := {**self.to_dict(), **self._switches()}):
            return settings[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _switches(self) -> dict[str, bool]:
        """Steps that are on or off."""
        pixels = self._processor.pixels
        if pixels is None or self.kind == "audio":
            return {}
        off = {"do_rescale": pixels.rescale_factor == 1, "do_normalize": pixels.is_unnormalised}
        return {"do_resize": True, "do_convert_rgb": True, **{name: not value for name, value in off.items()}}

    def __setattr__(self, name: str, value: Any) -> None:
        """A setting of the processor that this is a part of; else an attribute of the part alone."""
        if name in IMAGE_SETTINGS and self.kind != "audio":
            self._processor.pixels = self._processor._change_pixels({name: value})
        elif name in self.to_dict():
            raise UsageError(f"{name} can't be set on the {self.kind} part: load the processor with it, or pass it.")
        else:
            object.__setattr__(self, name, value)

    def media(self, given: Any, options: CallOptions) -> list[Media]:
        """The media items of a call, lists of lists in order."""
        defaults = self._processor._part_defaults(options)
        return [source_media(self.kind, one, defaults) for one in self._flat(given)]

    def _prepared(self, given: Any, kwargs: Mapping[str, Any]) -> BatchFeature:
        options = CallOptions.read(kwargs, return_tensors="pt")
        media = self.media(given, options)
        if not media:
            raise UsageError(f"expected one or more of {self.kind} media, got none.")
        batch: BatchFeature = self._processor.media_batch(media, options)
        own = BatchFeature({name: value for name, value in batch.items() if name in self.model_input_names})
        return as_arrays(own) if options.return_tensors == "np" else own

    def _flat(self, given: Any) -> list[Any]:
        if not isinstance(given, list | tuple) or self._is_one(given):
            return [given]
        return [item for one in given if one is not None for item in self._flat(one)]

    def _is_one(self, given: Sequence[Any]) -> bool:
        return False


class _OfPictures(_Part):
    @classmethod
    def _alone(cls, settings: Mapping[str, Any]) -> VideoLlama2Processor:
        return VideoLlama2Processor(None, VideoLlama2Config(), PixelSettings.from_dict(settings))


class VideoLlama2ImageProcessor(_OfPictures, BaseImageProcessor):
    """Images → pixel values."""

    kind, type_key, model_input_names = "image", "image_processor_type", ("pixel_values",)

    def __call__(self, images: Any, **kwargs: Any) -> BatchFeature:
        """Images as the processor takes them, also in lists of lists, with its image settings as keywords."""
        return self._prepared(images, kwargs)


class VideoLlama2VideoProcessor(_OfPictures):
    """Videos → pixel values of their frames; their sound is not used."""

    kind, type_key, model_input_names = "video", "video_processor_type", ("pixel_values_videos",)

    def __call__(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Videos as the processor takes them; `num_frames`, `fps` and its image settings are keywords."""
        return self._prepared(videos, {"load_audio_from_video": False, **kwargs})

    def to_dict(self) -> dict[str, Any]:
        """Its settings, and the number of frames that it samples."""
        return {**super().to_dict(), "num_frames": self._processor.config.num_frames}

    @classmethod
    def _alone(cls, settings: Mapping[str, Any]) -> VideoLlama2Processor:
        own = dict(settings)
        frames = own.pop("num_frames", VideoLlama2Config.num_frames)
        return VideoLlama2Processor(None, VideoLlama2Config(num_frames=frames), PixelSettings.from_dict(own))

    def _is_one(self, given: Sequence[Any]) -> bool:
        return bool(is_frames(given))


class VideoLlama2FeatureExtractor(_Part, FeatureExtractionMixin):
    """Audio → input features of the audio encoder."""

    kind, type_key, model_input_names = "audio", "feature_extractor_type", ("input_features", "input_features_mask")

    def __call__(self, raw_speech: Any = None, *, audio: Any = None, **kwargs: Any) -> BatchFeature:
        """Samples with their `sampling_rate`, or files."""
        return self._prepared(audio if raw_speech is None else raw_speech, kwargs)

    def fetch_audio(self, audio: Any, **_: Any) -> Any:
        """What pipelines call first: the audio as it is, because the processor reads it."""
        return audio

    def to_dict(self) -> dict[str, Any]:
        """Its settings; `audio_config` is the audio encoder's."""
        audio = self._processor.config.audio_config
        if audio is None:
            return {}
        return {
            self.type_key: type(self).__name__, "sampling_rate": SAMPLING_RATE, "feature_size": BINS,
            "protocol": self._processor.config.protocol, "audio_config": audio.to_dict(),
        }  # fmt: skip

    @classmethod
    def _alone(cls, settings: Mapping[str, Any]) -> VideoLlama2Processor:
        own = {"sampling_rate": SAMPLING_RATE, "feature_size": BINS, **settings}
        if (own.pop("sampling_rate"), own.pop("feature_size")) != (SAMPLING_RATE, BINS):
            raise ConfigError(f"expected a sampling_rate of {SAMPLING_RATE} and a feature_size of {BINS}")
        config = VideoLlama2Config(audio_config=own.pop("audio_config", {}), protocol=own.pop("protocol", "released"))
        refuse_unknown(own, ("sampling_rate", "feature_size", "audio_config", "protocol"), cls.__name__)
        return VideoLlama2Processor(None, config)

    def _is_one(self, given: Sequence[Any]) -> bool:
        return bool(given) and isinstance(given[0], int | float)


KINDS: dict[str, Any] = {
    "image_processor": VideoLlama2ImageProcessor,
    "video_processor": VideoLlama2VideoProcessor,
    "feature_extractor": VideoLlama2FeatureExtractor,
}
