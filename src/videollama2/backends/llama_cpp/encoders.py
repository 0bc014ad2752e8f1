"""The half of the model that stays in torch: encoders, connector and projector, without the language model.

The token embedding is the GGUF file's: its rows are read when a prompt has them, as llama.cpp itself does for the
tokens it generates.
"""

from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import GenerationConfig

from ...configuration import VideoLlama2Config
from ...modeling import VideoLlama2Model, VideoLlama2PreTrainedModel
from ...weights import stages
from ...weights.files import SINGLE, LazyTensor
from ...weights.strict import assemble
from . import origin
from .families import HEAD, PREFIX
from .header import GgufFile

NORM = f"{PREFIX}norm.weight"


class GgufEmbedding(nn.Module):
    """A GGUF file's token embedding: ids [...] → [..., D]; it has no parameters.

    Attributes:
        num_embeddings: rows.
    """

    def __init__(self, file: GgufFile, dtype: torch.dtype) -> None:
        super().__init__()
        self._file, self._dtype = file, dtype
        self.num_embeddings = file.tensors["token_embd.weight"].shape[0]

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of the file, dequantised."""
        unique, places = np.unique(ids.cpu().numpy(), return_inverse=True)
        rows = torch.from_numpy(self._file.rows("token_embd.weight", unique))
        return rows[torch.from_numpy(places).view(ids.shape)].to(ids.device, self._dtype)


class MediaEncoders(VideoLlama2Model):
    """VideoLlama2Model without its language model."""

    def __init__(self, config: VideoLlama2Config) -> None:
        VideoLlama2PreTrainedModel.__init__(self, config)  # type: ignore[call-arg]
        self.build_encoders(config)
        self.embedding: GgufEmbedding | None = None
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """The file's token embedding; None until it is set."""
        return self.embedding


class EncodersForGeneration(VideoLlama2PreTrainedModel):
    """What `Engine` uses of VideoLlama2ForConditionalGeneration, without the language model and its head."""

    def __init__(self, config: VideoLlama2Config) -> None:
        super().__init__(config)
        self.model = MediaEncoders(config)
        self.generation_config = GenerationConfig.from_model_config(config)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """The file's token embedding; None until it is set."""
        return self.model.embedding


def load_encoders(collected: stages.Collected, file: GgufFile, dtype: torch.dtype) -> EncodersForGeneration:
    """The encoders of a checkpoint; no tensor of its language model is read.

    Raises:
        TensorMismatch: tensors of the encoders are missing, unexpected or misshapen.
    """
    assert collected.config is not None
    kept = encoder_tensors(collected.tensors)
    model, found = assemble(collected.config, kept, dtype=dtype, cls=EncodersForGeneration)
    found.refuse(collected.folders[0])
    model.model.embedding = GgufEmbedding(file, torch.float32)
    stages.take_generation_config(model, collected.folders)
    return model.eval()


def encoder_tensors(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """A checkpoint's tensors without those of its language model."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX) and name != HEAD}


def known_weights(collected: stages.Collected) -> str:
    """`origin.sample` of a checkpoint's language model, also if the checkpoint has it as a GGUF file alone."""
    found = origin.sample(collected.tensors)
    file = collected.folders[0] / SINGLE
    if found or not file.is_file():
        return found
    with safe_open(file, framework="pt") as opened:
        return str((opened.metadata() or {}).get(origin.METADATA, ""))


def final_norm(tensors: dict[str, LazyTensor]) -> Any:
    """The language model's final norm, to recognise its file; None if the checkpoint has none."""
    found = tensors.get(NORM)
    return None if found is None else found[...].float().numpy()
