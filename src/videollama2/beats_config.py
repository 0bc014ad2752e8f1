"""Sizes of BEATs, and what follows from them without weights."""

from typing import Any, ClassVar

from torch import Tensor

from .audio import AudioEncoderConfig
from .errors import ConfigError
from .media import fbank as kaldi


class BeatsConfig(AudioEncoderConfig):
    """Sizes of a BEATs audio encoder (spec §1.5); the defaults are the released `BEATs_iter3+ (AS2M, cpt2)`.

    Names follow the original's, so that its `cfg` dict and `beats_config.json` load unmodified.
    """

    model_type = "beats"
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "encoder_embed_dim",
        "num_hidden_layers": "encoder_layers",
    }

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_wise_gradient_decay_ratio: float = 0.6
    layer_norm_first: bool = False
    deep_norm: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.05
    dropout_input: float = 0.0
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = True
    num_buckets: int = 320
    max_distance: int = 800
    gru_rel_pos: bool = True
    finetuned_model: bool = True
    predictor_dropout: float = 0.0
    predictor_class: int = 527

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        unsupported = {
            "activation_fn": (self.activation_fn, "gelu"),
            "layer_norm_first": (self.layer_norm_first, False),
            "deep_norm": (self.deep_norm, True),
            "relative_position_embedding": (self.relative_position_embedding, True),
            "gru_rel_pos": (self.gru_rel_pos, True),
        }
        for name, (found, expected) in unsupported.items():
            if found != expected:
                raise ConfigError(f"BEATs with {name}={found!r} is not supported; released ones have {expected!r}.")
        D, heads = self.encoder_embed_dim, self.encoder_attention_heads
        if D % heads:
            raise ConfigError(f"BEATs width {D} does not divide into {heads} heads.")

    @property
    def bins(self) -> int:
        """Mel bins of the filterbank."""
        return kaldi.BINS

    @property
    def rows(self) -> int:
        """Patches along the frequency axis."""
        return kaldi.BINS // self.input_patch_size

    @property
    def min_samples(self) -> int:
        """Samples of one patch."""
        return kaldi.FRAME + (self.input_patch_size - 1) * kaldi.SHIFT

    def input_features(self, wave: Tensor) -> Tensor:
        """float [S] → [frames, 128] log-mel energies (spec §4.6)."""
        return kaldi.fbank(wave)

    def num_frames(self, samples: int) -> int:
        """Filterbank frames, one every 10 ms."""
        return kaldi.num_frames(samples)

    def num_features(self, frames: int) -> int:
        """Patches of that many frames; a trailing partial patch is dropped."""
        return frames // self.input_patch_size * self.rows
