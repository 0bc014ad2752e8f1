"""VideoLLaMA 2 as a transformers model.

    frames ─ vision encoder ─ STC connector ─┐
                                             ├─ fusion ─ language model ─ logits
    sound ── BEATs ─ audio projector ────────┘

Shapes: B prompts of L ids, D language width. The media of all prompts come in one tensor (or list) per kind, in prompt
order: `pixel_values` [images, 3, S, S], `pixel_values_videos` [videos, T, 3, S, S], `input_features`
[audios, frames, bins] with `input_features_mask` [audios, frames], 1 where a frame is audio and 0 where it is padding.

Encoder features can take the place of media: `image_features` (per image [1, P, C]) and `video_features` (per video
[T, P, C]) from `encode_frames`, `audio_features` (per audio [n, C]) from `encode_audio`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .audio import AudioEncoder, audio_encoder_class, pool_features
from .configuration import VideoLlama2Config
from .errors import ConfigError, UnsupportedModality, UsageError
from .fusion import splice
from .stc import build_connector, build_mlp
from .vision import encode_frames, is_frozen, vision_family

MEDIA_INPUTS = ("pixel_values", "pixel_values_videos", "input_features", "input_features_mask")
ZERO_3 = (
    "DeepSpeed's ZeRO stage 3 is not supported: this model reads weights of other layers. Use stage 1 or 2, or FSDP"
)
FEATURE_INPUTS = ("image_features", "video_features", "audio_features")


class VideoLlama2PreTrainedModel(PreTrainedModel):
    """Base of both model classes."""

    config_class = VideoLlama2Config
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "video", "audio", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ("past_key_values",)
    _no_split_modules: ClassVar[list[str]] = ["Bottleneck"]  # transformers adds those of the parts

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """A model from a folder or hub id, in our layout or the original's, with every tensor accounted for.

        Args:
            pretrained_model_name_or_path: a checkpoint folder, a training stage's or an adapter's, or a hub id; None:
                `config` and `state_dict` are given.
            config: replaces the folder's own.
            kwargs: as transformers' (dtype, device_map, revision, attn_implementation, quantization_config, …), and
                settings of config.json (`num_frames=6`).

        Returns:
            The model; with `output_loading_info`, (model, report). Then missing and unexpected tensors are in the
            report and in a warning instead of an error, except in the original's layout.

        Raises:
            CheckpointNotFound: no such folder, or one without safetensors.
            TensorMismatch: tensors are missing, unexpected or misshapen; nothing is initialised in their place.
            UnknownArgument: an argument that nothing reads.
        """
        from .weights.pretrained import from_pretrained  # weights know this class, not the reverse

        return from_pretrained(cls, pretrained_model_name_or_path, args, kwargs)

    def _init_weights(self, module: nn.Module) -> None:
        """Readouts and projectors N(0, initializer_range), convolutions as torch does it (spec §1.4.2)."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            module.reset_parameters()
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class VideoLlama2Model(VideoLlama2PreTrainedModel):
    """Encoders, connector, projector and the language model's trunk.

    1. `encode_frames`, `encode_audio`: media → features, then `connect_…`: features → tokens [n, D] of each item
       (together `get_image_features`, `get_video_features`, `get_audio_features`, as transformers names them)
    2. `embed`: prompt ids and tokens → embeddings [B, L, D]
    3. `language_model`: embeddings → hidden states [B, L, D]
    """

    def __init__(self, config: VideoLlama2Config) -> None:
        super().__init__(config)
        text = config.text_config
        D = text.hidden_size
        self.vision_encoder: Any = None
        self.connector: Any = None
        self.audio_encoder: AudioEncoder | None = None
        self.audio_projector: Any = None
        if config.vision_config is not None:
            vision = config.vision_config
            vision_family(vision.model_type)  # raises on one that we can't run
            self.vision_encoder = AutoModel.from_config(vision)
            self.connector = build_connector(config.connector_type, vision.hidden_size, D)
        if config.audio_config is not None:
            audio = config.audio_config
            self.audio_encoder = audio_encoder_class(audio.model_type)(audio)
            self.audio_projector = build_mlp(config.audio_projector_type, audio.hidden_size, D)
        self.language_model = AutoModel.from_config(text)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embedding."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embedding."""
        self.language_model.set_input_embeddings(value)

    def train(self, mode: bool = True) -> "VideoLlama2Model":
        """Training mode; a frozen encoder stays in evaluation mode, without dropout.

        Raises:
            UsageError: DeepSpeed's ZeRO-3 has partitioned the weights.
        """
        if any(hasattr(parameter, "ds_id") for parameter in self.parameters()):
            raise UsageError(ZERO_3)  # the first step would fail with an empty weight
        super().train(mode)
        for encoder in (self.vision_encoder, self.audio_encoder):
            if encoder is not None and is_frozen(encoder):
                encoder.eval()
        return self

    def get_image_features(self, pixel_values: Tensor) -> list[Tensor]:
        """[images, 3, S, S] → per image [tokens, D]; the same numbers as `num_frames` copies of it, computed once."""
        return self.connect_images(self.encode_frames(pixel_values)[:, None])

    def get_video_features(self, pixel_values_videos: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """[videos, T, 3, S, S], or a list of [T, 3, S, S] of any lengths → per video [tokens, D]."""
        if isinstance(pixel_values_videos, Tensor):
            frames = self.encode_frames(pixel_values_videos.flatten(0, 1))
            return self.connect_videos(frames.unflatten(0, pixel_values_videos.shape[:2]))
        return self.connect_videos([self.encode_frames(video) for video in pixel_values_videos])

    def get_audio_features(self, input_features: Tensor, input_features_mask: Tensor | None = None) -> list[Tensor]:
        """[audios, frames, bins] → per audio [tokens, D], padding removed."""
        return self.connect_audio(self.encode_audio(input_features, input_features_mask))

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
        rows = self._require_audio().config.rows
        pooled = [pool_features(audio, rows, self.config.audio_pool) for audio in features]
        return list(self.audio_projector(torch.cat(pooled)).split([len(audio) for audio in pooled]))

    def embed(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | Sequence[Tensor] | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        image_features: Sequence[Tensor] | None = None,
        video_features: Sequence[Tensor] | None = None,
        audio_features: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Prompt ids [B, L] and their media, or features of these → embeddings [B, L, D].

        Raises:
            UsageError: both media and features of one kind, whose order would be unknown.
        """
        get_audio = partial(self.get_audio_features, input_features_mask=input_features_mask)
        images = _either(pixel_values, self.get_image_features, image_features, self.connect_images)
        videos = _either(pixel_values_videos, self.get_video_features, video_features, self.connect_videos)
        sounds = _either(input_features, get_audio, audio_features, self.connect_audio)
        return self.embed_features(input_ids, images, videos, sounds)

    def embed_features(
        self,
        input_ids: Tensor,
        images: Sequence[Tensor] = (),
        videos: Sequence[Tensor] = (),
        sounds: Sequence[Tensor] = (),
    ) -> Tensor:
        """As `embed`, from tokens that were computed before ([n, D] each)."""
        config = self.config
        features = {config.image_token_id: images, config.video_token_id: videos, config.audio_token_id: sounds}
        return splice(input_ids, self.get_input_embeddings(), features)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | Sequence[Tensor] | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        image_features: Sequence[Tensor] | None = None,
        video_features: Sequence[Tensor] | None = None,
        audio_features: Sequence[Tensor] | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of the prompt. Right padding for training, left padding for generation; both give the same."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected exactly one of input_ids and inputs_embeds")
        if input_ids is not None:
            media = (pixel_values, pixel_values_videos, input_features, input_features_mask)
            inputs_embeds = self.embed(input_ids, *media, image_features, video_features, audio_features)
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )

    def _require_vision(self) -> None:
        if self.vision_encoder is None or self.connector is None:
            raise UnsupportedModality("this model has no vision encoder; ask about text and audio only")

    def _require_audio(self) -> AudioEncoder:
        if self.audio_encoder is None or self.audio_projector is None:
            raise UnsupportedModality("this model has no audio encoder; drop the audio, or load an audio-visual model")
        return self.audio_encoder


def _either(media: Any, get: Callable[..., Any], features: Any, connect: Callable[..., Any]) -> list[Tensor]:
    """Tokens of media, or of their features; empty without either."""
    if media is not None and features is not None:
        raise UsageError("got both media and features of one kind; expected one or the other")
    if features is not None:
        return list(connect(features))
    return [] if media is None else list(get(media))


class VideoLlama2ForConditionalGeneration(VideoLlama2PreTrainedModel, GenerationMixin):
    """The model with its head: `forward` for logits and losses, `generate` for answers."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan: ClassVar[dict[str, str]] = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: VideoLlama2Config) -> None:
        super().__init__(config)
        text = config.text_config
        self.model = VideoLlama2Model(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embedding."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embedding."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | Sequence[Tensor] | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        image_features: Sequence[Tensor] | None = None,
        video_features: Sequence[Tensor] | None = None,
        audio_features: Sequence[Tensor] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss if `labels` are given.

        Args:
            input_ids: int64 [B, L] with one placeholder per media feature.
            labels: int64 [B, L], -100 at unsupervised positions; shifted inside.
            logits_to_keep: compute the logits of the last n positions only (0: all), or of these positions.

        Returns:
            `logits` float [B, L, V]. In training with labels the head runs on supervised positions only, since it would
            otherwise dominate the cost, and `logits` is None.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            input_features=input_features,
            input_features_mask=input_features_mask,
            image_features=image_features,
            video_features=video_features,
            audio_features=audio_features,
            use_cache=use_cache,
            **{k: v for k, v in kwargs.items() if k != "num_items_in_batch"},
        )
        hidden = outputs.last_hidden_state
        logits, loss = None, None
        if labels is None or not self.training:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self._head(hidden[:, kept])
        if labels is not None:
            loss = self._loss(hidden, labels, kwargs.get("num_items_in_batch"))
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _head(self, hidden: Tensor) -> Tensor:
        logits = self.lm_head(hidden)
        cap = getattr(self.config.text_config, "final_logit_softcapping", None)  # Gemma 2
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _loss(self, hidden: Tensor, labels: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Next-token cross entropy in float32 over the supervised positions: a scalar."""
        target = F.pad(labels[:, 1:], (0, 1), value=-100)
        supervised = target != -100
        if not bool(supervised.any()):
            raise ConfigError("expected at least one supervised position in the batch, got none (all labels are -100)")
        logits = self._head(hidden[supervised]).float()
        total = F.cross_entropy(logits, target[supervised].to(logits.device), reduction="sum")
        return total / (supervised.sum() if num_items is None else num_items)

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, **kwargs: Any) -> Any:
        """As transformers', with media encoded once, before the first token.

        The prompt enters as embeddings, as in the public implementation, so a repetition penalty counts new tokens
        only (spec §5.2). The result holds the prompt's ids and the new ones, as in transformers; with `inputs_embeds`
        only the new ones.
        """
        input_ids = kwargs.pop("input_ids", inputs)
        media = {name: kwargs.pop(name) for name in (*MEDIA_INPUTS, *FEATURE_INPUTS) if name in kwargs}
        if input_ids is None or all(value is None for value in media.values()):
            return super().generate(input_ids, **kwargs)
        embeds = self.model.embed(input_ids, **media)
        mask = kwargs.pop("attention_mask", None)
        mask = torch.ones_like(input_ids) if mask is None else mask
        out = super().generate(inputs_embeds=embeds, attention_mask=mask, **kwargs)
        new = out if isinstance(out, Tensor) else out.sequences
        prompt = input_ids.repeat_interleave(len(new) // len(input_ids), dim=0)
        whole = torch.cat([prompt, new], dim=1)
        if isinstance(out, Tensor):
            return whole
        out.sequences = whole
        return out
