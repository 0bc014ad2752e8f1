"""The interface of an audio encoder. BEATs (beats.py) implements it (paper §2.3).

    wave f32 [S] at 16 kHz ── config.input_features ──► [frames, bins]
                           ── model.encode ──► features [n, C], n = config.num_features(frames)
                           ── pool, projector (modeling.py) ──► tokens [config.num_tokens(n, pool), D]

Everything known without weights belongs in the configuration, so that prompts can be built, samples counted and memory
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

SAMPLING_RATE = 16_000  # of every encoder's input wave; an encoder trained at another rate resamples it


class AudioEncoderConfig(PreTrainedConfig):
    """Settings of an audio encoder: everything that is known without its weights.

    A subclass sets `model_type` and has the standard attributes `hidden_size` (C) and `num_hidden_layers`, through an
    `attribute_map` if its own fields have other names.
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
        """Number of input-feature frames for that many samples."""
        raise NotImplementedError

    def num_features(self, frames: int) -> int:
        """Number of features that `encode` returns for that many frames."""
        raise NotImplementedError

    def num_tokens(self, features: int, pool: Sequence[int] = (1, 1)) -> int:
        """Number of tokens for that many features, average-pooled over (time, rows); the last block may be smaller."""
        return -(-(features // self.rows) // pool[0]) * -(-self.rows // pool[1])

    def with_layers(self, layers: int) -> "AudioEncoderConfig":
        """A copy with at most that many layers, used to estimate memory."""
        short = copy.deepcopy(self)
        short.num_hidden_layers = min(short.num_hidden_layers, layers)
        return short


class AudioEncoder(PreTrainedModel):
    """An audio encoder; a subclass sets `config_class` and implements `encode`."""

    base_model_prefix = "audio_encoder"
    main_input_name = "input_features"
    input_modalities = ("audio",)

    def encode(self, input_features: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Features of each audio clip, exactly as if it were encoded alone.

        Args:
            input_features: float [B, frames, bins], padded at the end.
            mask: bool or int [B, frames], 1 where a frame is audio and 0 where it is padding; None: no padding.

        Returns:
            B tensors [n, C], n = `config.num_features(frames of that clip)`.
        """
        raise NotImplementedError

    def record(
        self, input_features: Tensor, mask: Tensor | None = None, **flags: bool
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """`encode`, plus the intermediate outputs that `flags` request: `hidden_states` and `attentions`.

        Args:
            flags: `output_hidden_states`, `output_attentions`.

        Raises:
            UsageError: this encoder records nothing.
        """
        raise UsageError(f"{type(self).__name__} records no hidden states or attentions; drop output_hidden_states.")


AUDIO_ENCODERS: dict[str, type[AudioEncoder]] = {}  # model_type → class

E = TypeVar("E", bound=type[AudioEncoder])


def register_audio_encoder(cls: E) -> E:
    """Register an encoder under its configuration's `model_type`, here and with transformers' Auto classes."""
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
            "registered with videollama2.audio.register_audio_encoder."
        )
    return AUDIO_ENCODERS[model_type]


def pool_features(features: Tensor, rows: int, pool: Sequence[int]) -> Tensor:
    """Average neighbouring features over (time, rows): [T·rows, C] → [T'·rows', C]. The last block may be smaller."""
    if tuple(pool) == (1, 1):
        return features
    grid = features.unflatten(0, (-1, rows)).permute(2, 0, 1)
    pooled = F.avg_pool2d(grid[None], tuple(pool), ceil_mode=True, count_include_pad=False)[0]
    return pooled.permute(1, 2, 0).flatten(0, 1)
