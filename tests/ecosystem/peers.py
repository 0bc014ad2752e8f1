"""The suites on two of transformers' own models with images and videos, for comparison; no test of this package.

    python -m tests.ecosystem.table

LLaVA-NeXT-Video's processor needs torchvision.
"""

import unittest
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoModel,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
)
from transformers.utils import is_torchvision_available

from .. import tiny
from . import suites
from .generating import GenerationTesterMixin
from .testers import TEXT, VISION, ImagesTester

modeling = suites.load("test_modeling_common")
configuration = suites.load("test_configuration_common")
processing = suites.load("test_processing_common")

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'video') %}{{ '<' + part['type'] + '>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class PeerTester:
    """A tiny peer, and prompts with an image and a video each."""

    is_training, num_frames = True, 4

    def __init__(self, parent: Any, config_class: Any, model_class: Any, image_token: str, video_token: str) -> None:
        self.parent, self.config_class, self.batch_size = parent, config_class, 3
        self.ids = {image_token: 3, video_token: 4}
        for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
            setattr(self, name, TEXT[name])
        one_vision = config_class is LlavaOnevisionConfig  # made for encoders without a class token
        self.text_config, self.vision_config = dict(TEXT), dict(ImagesTester.vision if one_vision else VISION)
        media, model = self.media(), model_class(self.get_config()).eval()
        with torch.no_grad():
            image = model.get_image_features(media["pixel_values"], image_sizes=media["image_sizes"]).pooler_output
            video = model.get_video_features(media["pixel_values_videos"]).pooler_output
        self.image_tokens = len(image[0])
        self.video_tokens = sum(x.flatten(0, -2).shape[0] for x in video) // self.batch_size
        self.seq_length = self.encoder_seq_length = self.key_length = 7 + self.image_tokens + self.video_tokens

    def get_config(self) -> Any:
        side = self.vision_config["image_size"]
        return self.config_class(
            text_config=dict(self.text_config), vision_config=dict(self.vision_config),
            image_grid_pinpoints=[[side, side]], vision_feature_layer=-1, tie_word_embeddings=False, **self.ids,
        )  # fmt: skip

    def media(self) -> dict[str, Tensor]:
        B, S = self.batch_size, self.vision_config["image_size"]
        return {
            "pixel_values": torch.rand(B, 2, 3, S, S),
            "image_sizes": torch.tensor([[S, S]] * B),
            "pixel_values_videos": torch.rand(B, self.num_frames, 3, S, S),
        }

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, Tensor]]:
        B = self.batch_size
        runs = [torch.full((B, self.image_tokens), 3), torch.full((B, self.video_tokens), 4)]
        ids = torch.cat([*runs, torch.randint(6, TEXT["vocab_size"], (B, 7))], 1)
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids), **self.media()}


class LlavaNextVideoPeer(modeling.ModelTesterMixin, GenerationTesterMixin, unittest.TestCase):
    """LLaVA-NeXT-Video."""

    all_model_classes = (LlavaNextVideoModel, LlavaNextVideoForConditionalGeneration)
    config_class, names = LlavaNextVideoConfig, ("image_token_index", "video_token_index")
    _is_composite, test_all_params_have_gradient = True, False
    skip_test_image_features_output_shape = skip_test_video_features_output_shape = True

    def setUp(self) -> None:
        self.model_tester = PeerTester(self, self.config_class, self.all_model_classes[0], *self.names)
        self.config_tester = configuration.ConfigTester(self, config_class=self.config_class, has_text_modality=False)

    def test_config(self) -> None:
        self.config_tester.run_common_tests()


class LlavaOnevisionPeer(LlavaNextVideoPeer):
    """LLaVA-OneVision."""

    all_model_classes = (LlavaOnevisionModel, LlavaOnevisionForConditionalGeneration)
    config_class, names = LlavaOnevisionConfig, ("image_token_index", "video_token_index")


@unittest.skipUnless(is_torchvision_available(), "its video processor requires torchvision")
class LlavaNextVideoProcessorPeer(processing.ProcessorTesterMixin, unittest.TestCase):
    """LLaVA-NeXT-Video's processor, with the settings of its own test."""

    processor_class = LlavaNextVideoProcessor

    @classmethod
    def prepare_processor_dict(cls) -> dict[str, Any]:
        return {
            "chat_template": TEMPLATE, "num_additional_image_tokens": 0, "patch_size": 128,
            "vision_feature_select_strategy": "default",
        }  # fmt: skip

    @classmethod
    def _setup_tokenizer(cls) -> Any:
        words = tiny.tokenizer()
        words.add_tokens(["<image>", "<video>"], special_tokens=True)
        return words

    @classmethod
    def _setup_image_processor(cls) -> Any:
        return LlavaNextImageProcessor()

    @classmethod
    def _setup_video_processor(cls) -> Any:
        return LlavaNextVideoVideoProcessor()
