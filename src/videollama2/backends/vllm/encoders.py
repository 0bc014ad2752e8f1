"""This package's encoders, connector and projector without its language model.

MediaInputs ── vision encoder, connector; audio encoder, projector ──► tokens [n, D] of one item
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...configuration import VideoLlama2Config
from ...modeling import VideoLlama2Model
from ...weights.strict import load_state_dict

PARTS = ("vision_encoder", "connector", "audio_encoder", "audio_projector")


class Encoders(VideoLlama2Model):
    """VideoLlama2Model before its language model."""

    def __init__(self, config: VideoLlama2Config) -> None:
        PreTrainedModel.__init__(self, config)  # VideoLlama2Model's would add the language model
        self.build_encoders(config)
        self.post_init()
        self.requires_grad_(False)

    def get_input_embeddings(self) -> Any:
        """None: vLLM has the token embedding."""
        return None

    @torch.inference_mode()
    def tokens(self, pixels: Tensor | None, still: bool, fbank: Tensor | None) -> Tensor:
        """One item's tokens [n, D]: those of its frames, then those of its audio.

        Args:
            pixels: [T, 3, S, S]. still: they are an image. fbank: [frames, bins].
        """
        found: list[Tensor] = []
        if pixels is not None and len(pixels):
            if still:
                found.append(self.get_image_features(pixels.to(self.dtype)).pooler_output[0])
            else:
                found.append(self.get_video_features(pixels.to(self.dtype)[None]).pooler_output[0])
        if fbank is not None and len(fbank):
            found.append(self.get_audio_features(fbank[None]).pooler_output[0])
        return torch.cat(found)

    def load(self, tensors: Mapping[str, Tensor]) -> set[str]:
        """Copy a checkpoint's tensors into the parameters and buffers; returns their names.

        Raises:
            TensorMismatch: tensors are missing, unexpected or of another shape.
        """
        # through transformers, which renames what its older versions wrote
        read = load_state_dict(Encoders, self.config, tensors, dtype=self.dtype)
        state = read.state_dict()
        self.load_state_dict(state)
        return set(state)
