"""Media as the language model sees them: pixels and filterbanks → encoder features → tokens.

Methods follow transformers' names and outputs. Each half can be called separately: `encode_…` computes features, which
can be cached, and `connect_…` turns them into tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import can_return_tuple

from .audio import AudioEncoder, pool_features
from .errors import UnsupportedModality, UsageError
from .fusion import splice
from .sound_names import NamingProjector
from .vision import encode_frames, is_frozen, record_frames

MEDIA_INPUTS = ("pixel_values", "pixel_values_videos", "input_features", "input_features_mask")
FEATURE_INPUTS = ("image_features", "video_features", "audio_features")


class MediaFeatures:
    """The encoding half of VideoLlama2Model, which holds the encoders, connector and projector."""

    config: Any
    vision_encoder: Any
    connector: Any
    audio_encoder: AudioEncoder | None
    audio_projector: Any
    get_input_embeddings: Callable[[], nn.Module]

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Tokens of images; equal to those of `num_frames` copies of each, but computed once.

        Args:
            pixel_values: [images, 3, S, S].
            kwargs: `output_hidden_states`, `output_attentions` (of all blocks, which then all run), `return_dict`.

        Returns:
            `pooler_output`: per image [tokens, D]; `last_hidden_state`: [images, P, C].
        """
        features, recorded = self._frames(pixel_values, kwargs)
        return BaseModelOutputWithPooling(features, self.connect_images(features[:, None]), **recorded)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_video_features(
        self, pixel_values_videos: Tensor | Sequence[Tensor], **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Tokens of videos: [videos, T, 3, S, S], or a list of [T, 3, S, S] of any lengths.

        Returns:
            `pooler_output`: per video [tokens, D]; `last_hidden_state`: [videos, T, P, C], of a list [frames, P, C].
        """
        if isinstance(pixel_values_videos, Tensor):
            frames, recorded = self._frames(pixel_values_videos.flatten(0, 1), kwargs)
            frames = frames.unflatten(0, pixel_values_videos.shape[:2])
            return BaseModelOutputWithPooling(frames, self.connect_videos(frames), **recorded)
        frames, recorded = self._frames(torch.cat(list(pixel_values_videos)), kwargs)
        videos = frames.split([len(video) for video in pixel_values_videos])
        return BaseModelOutputWithPooling(frames, self.connect_videos(videos), **recorded)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_audio_features(
        self, input_features: Tensor, input_features_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Tokens of audio clips: [clips, frames, bins].

        Returns:
            `pooler_output`: per audio [tokens, D], without padding; `last_hidden_state`: [audios, longest n, C].
        """
        encoder = self._require_audio()
        flags = _recorded(encoder, kwargs)
        if any(flags.values()):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen(encoder)):
                features, recorded = encoder.record(input_features, input_features_mask, **flags)
        else:
            features, recorded = self.encode_audio(input_features, input_features_mask), {}
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True)
        return BaseModelOutputWithPooling(padded, self.connect_audio(features), **recorded)

    def _frames(self, pixels: Tensor, kwargs: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """`encode_frames`, and hidden states and attentions if they are requested."""
        config = self.config
        self._require_vision()
        flags = _recorded(self.vision_encoder, kwargs)
        if not any(flags.values()):
            return self.encode_frames(pixels), {}
        layer, select = config.vision_feature_layer, config.vision_feature_select
        return record_frames(self.vision_encoder, pixels, layer, select, **flags)

    def encode_frames(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] → features [N, P, C] of the vision encoder."""
        config = self.config
        self._require_vision()
        return encode_frames(self.vision_encoder, pixels, config.vision_feature_layer, config.vision_feature_select)

    def encode_audio(self, input_features: Tensor, input_features_mask: Tensor | None = None) -> list[Tensor]:
        """[audios, frames, bins] → per audio [n, C], the encoder's features; no gradient if it is frozen."""
        encoder = self._require_audio()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen(encoder)):
            return encoder.encode(input_features, input_features_mask)

    def connect_images(self, features: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Per image [1, P, C] → [tokens, D]."""
        self._require_vision()
        frames = features if isinstance(features, Tensor) else torch.stack(list(features))
        return list(self.connector(frames, still=self.config.num_frames))

    def connect_videos(self, features: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Per video [T, P, C] → [tokens, D]; in one batch if all have the same length."""
        self._require_vision()
        if len({len(video) for video in features}) > 1:
            return [self.connector(video[None])[0] for video in features]
        return list(self.connector(features if isinstance(features, Tensor) else torch.stack(list(features))))

    def connect_audio(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Per audio [n, C] → [tokens, D]."""
        rows, pool = self._require_audio().config.rows, self.config.audio_pool
        if isinstance(self.audio_projector, NamingProjector):
            return [self.audio_projector(audio, rows, pool) for audio in features]
        pooled = [pool_features(audio, rows, pool) for audio in features]
        return list(self.audio_projector(torch.cat(pooled)).split([len(audio) for audio in pooled]))

    def encode_media(
        self,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | Sequence[Tensor] | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        image_features: Sequence[Tensor] | None = None,
        video_features: Sequence[Tensor] | None = None,
        audio_features: Sequence[Tensor] | None = None,
    ) -> dict[str, BaseModelOutputWithPooling]:
        """`mm_encoder_outputs` of media, or of features of them: modality → output with tokens in `pooler_output`.

        Raises:
            UsageError: both media and features of one kind, whose order would be unknown.
        """
        found = {
            "image": _either(pixel_values, self.get_image_features, image_features, self.connect_images),
            "video": _either(pixel_values_videos, self.get_video_features, video_features, self.connect_videos),
            "audio": _either(
                input_features, self.get_audio_features, audio_features, self.connect_audio, input_features_mask
            ),
        }
        return {modality: output for modality, output in found.items() if output is not None}

    def embed(self, input_ids: Tensor, *media: Any, **named_media: Any) -> Tensor:
        """Prompt ids [B, L] and their media, as `encode_media` takes them → embeddings [B, L, D]."""
        return self._embed(input_ids, self.encode_media(*media, **named_media))

    def _embed(self, prompt: Tensor, outputs: Mapping[str, Any]) -> Tensor:
        tokens = {self.config.placeholder_ids[modality]: list(out.pooler_output) for modality, out in outputs.items()}
        none: dict[int, list[Tensor]] = {
            token_id: []
            for modality, token_id in self.config.placeholder_ids.items()
            # inside the vocabulary, the id of media that the model has no encoder for is a token like any other
            if self._encodes(modality) or token_id >= self.config.vocab_size
        }
        return splice(prompt, self.get_input_embeddings(), none | tokens)

    def _encodes(self, modality: str) -> bool:
        return (self.audio_encoder if modality == "audio" else self.vision_encoder) is not None

    def embed_features(
        self,
        input_ids: Tensor,
        images: Sequence[Tensor] = (),
        videos: Sequence[Tensor] = (),
        sounds: Sequence[Tensor] = (),
    ) -> Tensor:
        """Like `embed`, from precomputed tokens ([n, D] each)."""
        config = self.config
        features = {config.image_token_id: images, config.video_token_id: videos, config.audio_token_id: sounds}
        return splice(input_ids, self.get_input_embeddings(), features)

    def _require_vision(self) -> None:
        if self.vision_encoder is None or self.connector is None:
            raise UnsupportedModality("this model has no vision encoder; ask about text and audio only.")

    def _require_audio(self) -> AudioEncoder:
        if self.audio_encoder is None or self.audio_projector is None:
            raise UnsupportedModality("this model has no audio encoder; drop the audio, or load an audio-visual model.")
        return self.audio_encoder


def _recorded(encoder: Any, kwargs: Mapping[str, Any]) -> dict[str, bool]:
    """What an encoder should record, as requested by the call or its configuration."""
    flags = ("output_hidden_states", "output_attentions")
    return {flag: bool(kwargs.get(flag, getattr(encoder.config, flag, False))) for flag in flags}


def _either(
    media: Any, get: Callable[..., Any], features: Any, connect: Callable[..., Any], *more: Any
) -> BaseModelOutputWithPooling | None:
    """The output for media, or for their features; None without either."""
    if media is not None and features is not None:
        raise UsageError("got both media and features of one kind; expected one or the other.")
    if features is not None:
        return BaseModelOutputWithPooling(pooler_output=connect(features))
    return None if media is None else get(media, *more, return_dict=True)
