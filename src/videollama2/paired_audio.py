"""Two audio encoders as one: features of BEATs, and YAMNet's class scores at the same time steps.

    wave ── Kaldi filterbank, YAMNet's log mel ──► [frames, 128 + 64]
    [frames, :128] ── BEATs ──► [T·8, C]           ─┐
    [frames, 128:] ── YAMNet ── nearest window ──► [T·8, 521] ┴─► features [T·8, C + 521]

BEATs hears what nano was trained on and when; YAMNet knows hundreds of names. Every feature of a time step has the same
class scores, those of the window (0.96 s) whose centre is closest. A projector with names (sound_names.py) reads them.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .audio import AudioEncoder, AudioEncoderConfig, register_audio_encoder
from .beats import BeatsModel
from .beats_config import BeatsConfig
from .yamnet import BINS, CLASSES, Yamnet, log_mel, window_of_frames


class PairedAudioConfig(AudioEncoderConfig):
    """Attributes:
    patches: configuration of the BEATs model.
    num_classes: of the classifier.
    """

    model_type = "paired_audio"
    sub_configs: ClassVar[dict[str, Any]] = {"patches": BeatsConfig}

    patches: Any = None
    num_classes: int = CLASSES

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.patches, BeatsConfig):
            self.patches = BeatsConfig(**(self.patches or {}))
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """BEATs' width and the number of classes."""
        return int(self.patches.hidden_size + self.num_classes)

    @property
    def num_hidden_layers(self) -> int:
        """BEATs'."""
        return int(self.patches.num_hidden_layers)

    @num_hidden_layers.setter
    def num_hidden_layers(self, layers: int) -> None:
        self.patches.num_hidden_layers = layers

    @property
    def bins(self) -> int:
        """Both filterbanks' together."""
        return int(self.patches.bins) + BINS

    @property
    def rows(self) -> int:
        """BEATs'."""
        return int(self.patches.rows)

    @property
    def min_samples(self) -> int:
        """BEATs': one patch."""
        return int(self.patches.min_samples)

    def input_features(self, wave: Tensor) -> Tensor:
        """float [S] → [frames, 192]; both filterbanks have frames of 25 ms every 10 ms."""
        return torch.cat([self.patches.input_features(wave), log_mel(wave)], dim=-1)

    def num_frames(self, samples: int) -> int:
        """Frames of both filterbanks, one every 10 ms."""
        return int(self.patches.num_frames(samples))

    def num_features(self, frames: int) -> int:
        """BEATs' patches."""
        return int(self.patches.num_features(frames))


@register_audio_encoder
class PairedAudio(AudioEncoder):
    """Both encoders."""

    config_class = PairedAudioConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("BeatsLayer",)

    def __init__(self, config: PairedAudioConfig) -> None:
        super().__init__(config)
        self.patches = BeatsModel(config.patches)
        self.classes = Yamnet(config.num_classes)
        self.post_init()

    def encode(self, input_features: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """See `AudioEncoder.encode`: per clip [T·8, C + 521]."""
        bins = self.config.patches.bins
        features = self.patches.encode(input_features[..., :bins], mask)
        lengths: Sequence[int] = [input_features.shape[1]] * len(features)
        if mask is not None:
            lengths = mask.bool().sum(1).tolist()
        dtype = self.classes.classifier.weight.dtype
        found = []
        for patches, frames, length in zip(features, input_features[..., bins:], lengths, strict=True):
            scores = self.classes.scores(frames[:length].to(dtype))
            step = self.config.patches.input_patch_size
            times = torch.arange(len(patches) // self.config.rows) * step + step // 2
            at_steps = scores[window_of_frames(length, times).to(scores.device)]
            found.append(torch.cat([patches, at_steps.repeat_interleave(self.config.rows, 0).to(patches.dtype)], -1))
        return found
