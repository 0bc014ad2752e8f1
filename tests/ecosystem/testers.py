"""Tiny models and inputs for them, as transformers' suites ask for them: one of every modality, and unlike ones."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from videollama2.configuration import VideoLlama2Config
from videollama2.stc import connector_settings

from .. import tiny

VISION = {
    "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "projection_dim": 8,
}  # fmt: skip
AUDIO = {
    "embed_dim": 16, "encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 4, "predictor_class": 3,
}  # fmt: skip
TEXT = {
    "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 99, "max_position_embeddings": 512,
    "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1, "tie_word_embeddings": False,
}  # fmt: skip


INPUTS = {"image": "pixel_values", "video": "pixel_values_videos", "audio": "input_features"}


class VideoLlama2Tester:
    """What the suites call a model tester: a configuration and a batch of prompts with an image, a video and audio.

    Attributes:
        modalities: of each prompt, in order. text, vision, audio: the parts' configurations; audio may be None.
    """

    modalities: ClassVar[tuple[str, ...]] = ("image", "video", "audio")
    text: ClassVar[dict[str, Any]] = TEXT
    vision: ClassVar[dict[str, Any]] = VISION
    audio: ClassVar[dict[str, Any] | None] = AUDIO
    connector, num_frames = "stc_connector_v35", 4
    is_training, fbank_frames = True, 32

    def __init__(self, parent: Any, batch_size: int = 7, text_length: int = 7) -> None:
        self.parent, self.batch_size = parent, batch_size
        self.text_config, self.vision_config = dict(self.text), dict(self.vision)
        for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
            setattr(self, name, self.text[name])
        side = self.vision["image_size"] // self.vision["patch_size"]
        pictures = connector_settings(self.connector).num_tokens(self.num_frames, side, side)
        audio = self.get_config().audio_config
        sound = 0 if audio is None else audio.num_tokens(audio.num_features(self.fbank_frames), (1, 1))
        self.tokens = {"image": pictures, "video": pictures, "audio": sound}
        self.seq_length = text_length + sum(self.tokens[modality] for modality in self.modalities)
        self.encoder_seq_length = self.key_length = self.seq_length
        self.text_length = text_length
        for modality, name in (("image", "vision"), ("video", "video"), ("audio", "audio")):
            if modality not in self.modalities:  # what the suites take the inputs of `get_image_features` from
                setattr(self, f"{name}_model_tester", _Single(self, modality))

    def get_config(self) -> VideoLlama2Config:
        return tiny.config(
            text_config=dict(self.text), vision_config=dict(self.vision),
            audio_config=None if self.audio is None else dict(self.audio),
            num_frames=self.num_frames, connector_type=self.connector,
            # inside the vocabulary, as the suites assume: they resize it, clamp ids to it and embed prompts themselves
            image_token_id=3, video_token_id=4, audio_token_id=5,
        )  # fmt: skip

    def media(self, modality: str) -> Tensor:
        """The inputs of one modality, for a batch."""
        B, S = self.batch_size, self.vision["image_size"]
        if modality == "audio":
            return torch.randn(B, self.fbank_frames, 128)
        return torch.rand(B, *([self.num_frames] if modality == "video" else []), 3, S, S)

    def prepare_config_and_inputs_for_common(self) -> tuple[VideoLlama2Config, dict[str, Tensor]]:
        """A batch of prompts: media, then words."""
        config, B = self.get_config(), self.batch_size
        runs = [torch.full((B, self.tokens[m]), config.placeholder_ids[m]) for m in self.modalities]
        ids = torch.cat([*runs, torch.randint(6, self.text["vocab_size"], (B, self.text_length))], dim=1)
        media = {INPUTS[modality]: self.media(modality) for modality in self.modalities}
        return config, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **media}


class _Single:
    """Inputs of one modality that the prompts do not have."""

    def __init__(self, tester: VideoLlama2Tester, modality: str) -> None:
        self.tester, self.modality, self.num_hidden_layers = tester, modality, 2

    def prepare_config_and_inputs_for_common(self) -> tuple[VideoLlama2Config, dict[str, Tensor]]:
        return self.tester.get_config(), {INPUTS[self.modality]: self.tester.media(self.modality)}


class ImagesTester(VideoLlama2Tester):
    """A model of pictures alone: SigLIP, a connector without weights, Mistral; prompts with an image."""

    modalities, audio, connector = ("image",), None, "stp_connector"
    vision: ClassVar[dict[str, Any]] = {
        "model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 3, "image_size": 30, "patch_size": 10,
    }  # fmt: skip
    text: ClassVar[dict[str, Any]] = {**TEXT, "model_type": "mistral", "vocab_size": 131, "hidden_size": 48}


class ExpertsTester(VideoLlama2Tester):
    """A mixture of experts, VideoLLaMA 2's own connector, an odd number of frames; videos with audio."""

    modalities, connector, num_frames = ("video", "audio"), "stc_connector", 5
    text: ClassVar[dict[str, Any]] = {
        **TEXT, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8,
    }  # fmt: skip
