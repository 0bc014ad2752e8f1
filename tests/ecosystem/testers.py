"""A tiny model of every modality, and inputs for it, as transformers' suites ask for them."""

from typing import Any

import torch
from torch import Tensor

from videollama2.configuration import VideoLlama2Config

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


class VideoLlama2Tester:
    """What the suites call a model tester: a configuration and a batch of prompts with an image, a video and audio."""

    def __init__(self, parent: Any, batch_size: int = 7, text_length: int = 7) -> None:
        self.parent, self.batch_size = parent, batch_size
        self.text_config, self.vision_config, self.audio_config = dict(TEXT), dict(VISION), dict(AUDIO)
        self.num_hidden_layers, self.hidden_size, self.num_attention_heads = 2, 32, 4
        self.is_training = True
        self.num_frames, self.fbank_frames = 4, 32
        # a 2 × 2 grid of patches; the connector halves time and both sides, an image stands for num_frames
        self.image_tokens = self.video_tokens = self.num_frames // 2
        self.audio_tokens = (self.fbank_frames // 16) * 8
        self.seq_length = text_length + self.image_tokens + self.video_tokens + self.audio_tokens
        self.encoder_seq_length = self.key_length = self.seq_length

    def get_config(self) -> VideoLlama2Config:
        return tiny.config(
            text_config=dict(self.text_config), vision_config=dict(self.vision_config),
            audio_config=dict(self.audio_config), num_frames=self.num_frames,
            # inside the vocabulary, as the suites assume: they resize it, clamp ids to it and embed prompts themselves
            image_token_id=3, video_token_id=4, audio_token_id=5,
        )  # fmt: skip

    def prepare_config_and_inputs_for_common(self) -> tuple[VideoLlama2Config, dict[str, Tensor]]:
        """A batch of prompts: an image, a video, its audio, then words."""
        config = self.get_config()
        B, S = self.batch_size, self.vision_config["image_size"]
        words = self.seq_length - self.image_tokens - self.video_tokens - self.audio_tokens
        runs = [
            torch.full((B, count), token)
            for count, token in (
                (self.image_tokens, config.image_token_id),
                (self.video_tokens, config.video_token_id),
                (self.audio_tokens, config.audio_token_id),
            )
        ]
        ids = torch.cat([*runs, torch.randint(6, self.text_config["vocab_size"], (B, words))], dim=1)
        return config, {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.rand(B, 3, S, S),
            "pixel_values_videos": torch.rand(B, self.num_frames, 3, S, S),
            "input_features": torch.randn(B, self.fbank_frames, 128),
        }
