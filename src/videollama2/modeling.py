"""VideoLLaMA 2 as a transformers model.

    frames ─ vision encoder ─ STC connector ─┐
                                             ├─ fusion ─ language model ─ logits
    sound ── BEATs ─ audio projector ────────┘

Shapes: B prompts of L ids, D language width. The media of all prompts come in one tensor (or list) per kind, in prompt
order: `pixel_values` [images, 3, S, S], `pixel_values_videos` [videos, T, 3, S, S], `input_features`
[audios, frames, bins] with `input_features_mask` [audios, frames], 1 where a frame is audio and 0 where it is padding.

Encoder features can take the place of media: `image_features` (per image [1, P, C]) and `video_features` (per video
[T, P, C]) from `encode_frames`, `audio_features` (per audio [n, C]) from `encode_audio`. So can transformers' own
`mm_encoder_outputs`: modality → output of `get_image_features`, `get_video_features` or `get_audio_features`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import can_return_tuple

from .audio import AudioEncoder, audio_encoder_class
from .configuration import VideoLlama2Config
from .errors import ConfigError, UsageError
from .fusion import mark_placeholders
from .media_features import MediaFeatures
from .media_generation import MediaGenerationMixin
from .outputs import VideoLlama2CausalLMOutput, VideoLlama2ModelOutput, balancing_loss, cache_argument, modality_outputs
from .sound_names import build_projector
from .stc import build_connector
from .vision import is_frozen, vision_family

ZERO_3 = "DeepSpeed's ZeRO stage 3 is not supported: modules read each other's weights. Use stage 1 or 2, or FSDP."


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
        """Load a model from a folder or hub id, in our layout or the original's, with every tensor accounted for.

        Args:
            pretrained_model_name_or_path: a checkpoint folder, a training stage's or an adapter's, or a hub id; None:
                `config` and `state_dict` are given. An empty `state_dict` gives newly initialised weights.
            config: replaces the folder's own.
            kwargs: as in transformers (dtype, device_map, revision, attn_implementation, quantization_config, …), and
                settings of config.json (`num_frames=6`).

        Returns:
            The model; with `output_loading_info`, (model, report). Missing and unexpected tensors are then reported and
            warned about instead of raising an error, except in the original's layout.

        Raises:
            CheckpointNotFound: no such folder, or one without safetensors.
            TensorMismatch: tensors are missing, unexpected or misshapen; nothing is initialised in their place.
            UnknownArgument: an unknown argument.
        """
        from .weights.pretrained import from_pretrained  # weights know this class, not the reverse

        return from_pretrained(cls, pretrained_model_name_or_path, args, kwargs)

    def get_submodule(self, target: str) -> nn.Module:
        """Like torch's. PEFT looks for `embeddings.word_embeddings`, else for a tensor as long as the vocabulary.

        The latter would be an encoder's if it has one: BEATs' table of 320 positions, with a vocabulary of 320.
        """
        return self.get_input_embeddings() if target == "embeddings.word_embeddings" else super().get_submodule(target)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Like transformers'; placeholder ids outside the vocabulary stay outside the new one."""
        vocabulary = self.config.text_config.vocab_size
        embedding: nn.Module = super().resize_token_embeddings(*args, **kwargs)
        self.config.move_placeholders(vocabulary)
        return embedding

    @classmethod
    def is_custom_code(cls) -> bool:
        """Whether initialisation skips modules without parameters, as transformers does for classes outside it.

        False: CLIP's attention and MLP are such modules, and initialise their layers.
        """
        return bool(cls.is_remote_code())

    def _init_weights(self, module: nn.Module) -> None:
        """Readouts and projectors from N(0, initializer_range), convolutions with torch's default (spec §1.4.2)."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            module.reset_parameters()
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class VideoLlama2Model(MediaFeatures, VideoLlama2PreTrainedModel):
    """Encoders, connector, projector and the language model's trunk.

    1. `encode_frames`, `encode_audio`: media → features, then `connect_…`: features → tokens [n, D] of each item
       (together `get_image_features`, `get_video_features`, `get_audio_features`, as transformers names them)
    2. `embed`: prompt ids and tokens → embeddings [B, L, D]
    3. `language_model`: embeddings → hidden states [B, L, D]
    """

    def __init__(self, config: VideoLlama2Config) -> None:
        super().__init__(config)
        self.build_encoders(config)
        self.language_model = AutoModel.from_config(config.text_config)
        mark_placeholders(self.language_model.get_input_embeddings())
        self.post_init()

    def build_encoders(self, config: VideoLlama2Config) -> None:
        """Add encoders, connector and projector, where the configuration has them."""
        D = config.text_config.hidden_size
        self.vision_encoder: Any = None
        self.connector: Any = None
        self.audio_encoder: AudioEncoder | None = None
        self.audio_projector: Any = None
        if config.vision_config is not None:
            vision = config.vision_config
            vision_family(vision.model_type)  # raises if unsupported
            self.vision_encoder = AutoModel.from_config(vision)
            self.connector = build_connector(config.connector_type, vision.hidden_size, D)
        if config.audio_config is not None:
            audio = config.audio_config
            self.audio_encoder = audio_encoder_class(audio.model_type)(audio)
            self.audio_projector = build_projector(config.audio_projector_type, audio.hidden_size, D)

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embedding."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embedding."""
        self.language_model.set_input_embeddings(mark_placeholders(value))

    def train(self, mode: bool = True) -> "VideoLlama2Model":
        """Set training mode; a frozen encoder stays in evaluation mode, without dropout.

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

    @can_return_tuple  # type: ignore[untyped-decorator]
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
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        use_cache: bool | None = None,
        cache: Any = None,
        **kwargs: Any,
    ) -> VideoLlama2ModelOutput:
        """Hidden states of the prompt. Use right padding for training, left padding for generation; results match."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected exactly one of input_ids and inputs_embeds")
        media = (pixel_values, pixel_values_videos, input_features, input_features_mask)
        outputs = self.encode_media(*media, image_features, video_features, audio_features)
        if twice := sorted(outputs.keys() & (mm_encoder_outputs or {}).keys()):
            raise UsageError(f"got both {twice[0]} inputs and mm_encoder_outputs of {twice[0]}; expected one.")
        outputs |= mm_encoder_outputs or {}
        if inputs_embeds is None or outputs:
            prompt = input_ids if inputs_embeds is None else inputs_embeds
            assert prompt is not None
            inputs_embeds = self._embed(prompt, outputs)
        trunk = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            return_dict=True,
            **cache_argument(past_key_values, cache),
            **kwargs,
        )
        return VideoLlama2ModelOutput(**trunk, **modality_outputs(outputs))


class VideoLlama2ForConditionalGeneration(VideoLlama2PreTrainedModel, MediaGenerationMixin):
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

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        """See `VideoLlama2Model.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    def get_video_features(self, pixel_values_videos: Tensor | Sequence[Tensor], **kwargs: Any) -> Any:
        """See `VideoLlama2Model.get_video_features`."""
        return self.model.get_video_features(pixel_values_videos, **kwargs)

    def get_audio_features(
        self, input_features: Tensor, input_features_mask: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """See `VideoLlama2Model.get_audio_features`."""
        return self.model.get_audio_features(input_features, input_features_mask, **kwargs)

    @can_return_tuple  # type: ignore[untyped-decorator]
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
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        skip_logits: bool = False,
        cache: Any = None,
        **kwargs: Any,
    ) -> VideoLlama2CausalLMOutput:
        """Logits, and the loss if labels are given.

        Args:
            input_ids: int64 [B, L] with one placeholder per media feature.
            labels: int64 [B, L], -100 at unsupervised positions, which include placeholders; shifted inside.
            num_items_in_batch: what the summed loss is divided by; by default the number of supervised positions.
            logits_to_keep: compute the logits of the last n positions only (0: all), or of these positions.
            skip_logits: with labels, run the head only on supervised positions and return no logits; the head would
                otherwise dominate a training step's memory.
            kwargs: of the language model, and `shift_labels`: int64 [B, L], used in place of `labels`: already
                shifted, the label of each next position. (A Trainer expects every argument named so in a batch.)

        Returns:
            `logits` float [B, L, V].
        """
        shift_labels = kwargs.pop("shift_labels", None)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            input_features=input_features,
            input_features_mask=input_features_mask,
            image_features=image_features,
            video_features=video_features,
            audio_features=audio_features,
            mm_encoder_outputs=mm_encoder_outputs,
            use_cache=use_cache,
            return_dict=True,
            **cache_argument(past_key_values, cache),
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        supervised = labels is not None or shift_labels is not None
        logits, loss = None, None
        if not (supervised and skip_logits):
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self._head(hidden[:, kept])
        if supervised:
            whole = logits if isinstance(logits_to_keep, int) and logits_to_keep == 0 else None
            loss = self._loss(hidden, whole, self._targets(labels, shift_labels), num_items_in_batch)
        balance = balancing_loss(outputs.router_logits, self.config.text_config, attention_mask)
        if loss is not None and balance is not None:
            loss = loss + self.config.text_config.router_aux_loss_coef * balance.to(loss.device)
        return VideoLlama2CausalLMOutput(
            loss=loss, logits=logits, aux_loss=balance,
            **{key: value for key, value in outputs.items() if key != "last_hidden_state"},
        )  # fmt: skip

    def _head(self, hidden: Tensor) -> Tensor:
        logits = self.lm_head(hidden)
        cap = getattr(self.config.text_config, "final_logit_softcapping", None)  # Gemma 2
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _targets(self, labels: Tensor | None, shift_labels: Tensor | None) -> Tensor:
        """The label of each next position [B, L], -100 at unsupervised positions and placeholders."""
        target = (
            shift_labels if labels is None or shift_labels is not None else F.pad(labels[:, 1:], (0, 1), value=-100)
        )
        assert target is not None
        for token_id in self.config.placeholder_ids.values():
            target = target.masked_fill(target == token_id, -100)
        return target

    def _loss(self, hidden: Tensor, logits: Tensor | None, target: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Next-token cross entropy in float32 over the supervised positions: a scalar."""
        supervised = target != -100
        if not bool(supervised.any()):
            raise ConfigError("expected at least one supervised position in the batch, got none (all labels are -100).")
        seen = self._head(hidden[supervised]) if logits is None else logits[supervised]
        total = F.cross_entropy(seen.float(), target[supervised].to(seen.device), reduction="sum")
        return total / (supervised.sum() if num_items is None else num_items)
