"""The contract of an audio encoder. BEATs (beats.py) is the first that keeps it (paper §2.3).

    wave f32 [S] at 16 kHz ── config.input_features ──► [frames, bins]
                           ── model.encode ──► features [n, C], n = config.num_features(frames)
                           ── pool, projector (modeling.py) ──► tokens [config.num_tokens(n, pool), D]

What is known without weights belongs to the configuration, so that a prompt can be written, a sample counted and memory
planned before anything is loaded. A new audio encoder is one file: a configuration, a model, and
`@register_audio_encoder` above the model. Only two defaults name BEATs: configuration.py's, for an audio_config without
a model_type, and media/audio_features.py's filterbank, for callers without a model.
"""

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from .errors import ConfigError, UsageError

SAMPLING_RATE = 16_000  # of every wave that an encoder is given; one that was trained on another resamples it


class AudioEncoderConfig(PreTrainedConfig):
    """Settings of an audio encoder: everything that is known without its weights.

    A subclass sets `model_type` and has the standard names `hidden_size` (C) and `num_hidden_layers`, by an
    `attribute_map` where its own fields are called otherwise.
    """

    @property
    def bins(self) -> int:
        """Width of the input features."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Features per time step: 1, or the patches along the frequency axis. Features are time-major."""
        return 1

    @property
    def min_samples(self) -> int:
        """The shortest audio that gives one time step; anything shorter is padded with silence."""
        raise NotImplementedError

    def input_features(self, wave: Tensor) -> Tensor:
        """float [S] at 16 kHz, range ±1 → float [frames, bins], in the wave's dtype (float32 or float64).

        Raises:
            EmptyMedia: the wave is shorter than one frame.
        """
        raise NotImplementedError

    def num_frames(self, samples: int) -> int:
        """Frames of the input features of that many samples."""
        raise NotImplementedError

    def num_features(self, frames: int) -> int:
        """Features that `encode` makes of that many frames."""
        raise NotImplementedError

    def num_tokens(self, features: int, pool: Sequence[int] = (1, 1)) -> int:
        """Tokens of that many features after average pooling over (time, rows); a last block may be smaller."""
        return -(-(features // self.rows) // pool[0]) * -(-self.rows // pool[1])

    def with_layers(self, layers: int) -> "AudioEncoderConfig":
        """A copy with at most that many layers, which is how memory is estimated."""
        short = copy.deepcopy(self)
        short.num_hidden_layers = min(short.num_hidden_layers, layers)
        return short


class AudioEncoder(PreTrainedModel):
    """A network of audio; a subclass sets `config_class` and implements `encode`."""

    base_model_prefix = "audio_encoder"
    main_input_name = "input_features"
    input_modalities = ("audio",)

    def encode(self, input_features: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Features of each audio, as if it were alone: batching changes no number.

        Args:
            input_features: float [B, frames, bins], padded at the end.
            mask: bool or int [B, frames], 1 where a frame is audio and 0 where it is padding; None: no padding.

        Returns:
            B tensors [n, C], n = `config.num_features(frames of that audio)`.
        """
        raise NotImplementedError

    def record(
        self, input_features: Tensor, mask: Tensor | None = None, **flags: bool
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """`encode`, and what it records on the way: `hidden_states` and `attentions`, as far as `flags` request them.

        Args:
            flags: `output_hidden_states`, `output_attentions`.

        Raises:
            UsageError: this encoder records nothing.
        """
        raise UsageError(f"{type(self).__name__} records no hidden states or attentions; drop output_hidden_states")


AUDIO_ENCODERS: dict[str, type[AudioEncoder]] = {}  # model_type → class

E = TypeVar("E", bound=type[AudioEncoder])


def register_audio_encoder(cls: E) -> E:
    """Make an encoder known by its configuration's `model_type`, here and to transformers' Auto classes."""
    config: Any = cls.config_class
    AUDIO_ENCODERS[config.model_type] = cls
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(config, cls, exist_ok=True)
    return cls


def audio_encoder_class(model_type: str) -> type[AudioEncoder]:
    """The encoder of that model type.

    Raises:
        ConfigError: it is not registered.
    """
    if model_type not in AUDIO_ENCODERS:
        raise ConfigError(
            f"unknown audio encoder {model_type!r}; expected one of {', '.join(AUDIO_ENCODERS)}, or one that was "
            "registered with videollama2.audio.register_audio_encoder"
        )
    return AUDIO_ENCODERS[model_type]


def pool_features(features: Tensor, rows: int, pool: Sequence[int]) -> Tensor:
    """Average neighbouring features over (time, rows): [T·rows, C] → [T'·rows', C]. A last block may be smaller."""
    if tuple(pool) == (1, 1):
        return features
    grid = features.unflatten(0, (-1, rows)).permute(2, 0, 1)
    pooled = F.avg_pool2d(grid[None], tuple(pool), ceil_mode=True, count_include_pad=False)[0]
    return pooled.permute(1, 2, 0).flatten(0, 1)
