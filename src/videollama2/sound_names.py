"""An audio projector with a dictionary: tokens of the features, then the names of what a classifier recognises.

    features [n, C + K] ─┬─ C ── pool, MLP ───────────────────────────► tokens [n', D]                    ─┐
                         └─ K ── greatest of a period, sigmoid ── words ─► [periods · slots · (words + 1), D] ┴─►

The features end with K class scores per time step (paired_audio.py). As in the connector with names (names.py), each
name is the language model's own token embeddings of it, behind a token that says how sure the classifier is. Slots of a
period: the best names, then the best general one ("an animal").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .audio import pool_features
from .errors import ConfigError
from .names import spelled
from .stc import build_mlp


@dataclass(frozen=True)
class SoundNaming:
    """An audio projector that appends names to the tokens of an MLP.

    Attributes:
        mlp: of the projector in front.
        classes: class scores at the end of the features.
        names: of one class or several that are called the same.
        general: broader names.
        periods, best, words: parts of the clip, of equal length, that are named separately; names per period, besides a
            general one; and tokens of a name: longer names are cut, shorter ones padded.
    """

    mlp: str = "mlp2x_gelu"
    classes: int = 521
    names: int = 213
    general: int = 15
    periods: int = 2
    best: int = 2
    words: int = 4

    @property
    def num_tokens(self) -> int:
        """Tokens of names in a clip."""
        return self.periods * (self.best + 1) * (self.words + 1)


PROJECTORS: dict[str, SoundNaming] = {"mlp2x_gelu_names": SoundNaming()}


def projector_names(kind: str) -> int:
    """How many tokens the audio projector of that name appends to those of the features."""
    return PROJECTORS[kind].num_tokens if kind in PROJECTORS else 0


def build_projector(kind: str, audio_width: int, language_width: int) -> nn.Module:
    """The audio projector of that name, freshly initialised: a row of PROJECTORS, `linear` or `mlpNx_gelu`.

    Raises:
        ConfigError: an unknown name, or features that are too narrow to end with class scores.
    """
    if kind not in PROJECTORS:
        return build_mlp(kind, audio_width, language_width)
    naming = PROJECTORS[kind]
    if audio_width <= naming.classes:
        raise ConfigError(
            f"this audio projector expects features that end with {naming.classes} class scores, but the audio "
            f"encoder's are {audio_width} wide; use a 'paired_audio' encoder or another projector."
        )
    return NamingProjector(naming, audio_width, language_width)


class NamingProjector(nn.Module):
    """Tokens of pooled features, then those of names."""

    def __init__(self, naming: SoundNaming, audio_width: int, language_width: int) -> None:
        super().__init__()
        self.naming = naming
        self.projector = build_mlp(naming.mlp, audio_width - naming.classes, language_width)
        self.names = SoundDictionary(naming, language_width)

    def forward(self, features: Tensor, rows: int = 1, pool: Sequence[int] = (1, 1)) -> Tensor:
        """Features [n, C + K] of one clip, `rows` per time step → tokens [n' + names, D]."""
        K = self.naming.classes
        heard = self.projector(pool_features(features[:, :-K], rows, pool))
        return torch.cat([heard, self.names(features[::rows, -K:][None])[0].to(heard.dtype)])


class SoundDictionary(nn.Module):
    """Class scores per time step [B, T, K] → the best names' words [B, periods · slots · (words + 1), D].

    Classes of audio do not exclude each other, so a class's probability is the sigmoid of its greatest score in a
    period, and a name's is the greatest of its classes', at most 1. `members` has a row per name, then per general
    name: how much of each class's probability counts.
    """

    def __init__(self, naming: SoundNaming, width: int) -> None:
        super().__init__()
        self.naming = naming
        rows = naming.names + naming.general
        self.words = nn.Parameter(torch.zeros(rows, naming.words, width))
        self.certainty = nn.Parameter(torch.zeros(2, width))
        self.members = nn.Linear(naming.classes, rows, bias=False)

    def forward(self, scores_BTK: Tensor) -> Tensor:
        """Each period has the greatest scores of its time steps."""
        scores = scores_BTK.float().transpose(1, 2)
        periods = F.adaptive_max_pool1d(scores, self.naming.periods).transpose(1, 2).sigmoid()
        names = (periods[..., None, :] * self.members.weight.float()).amax(-1).clamp(max=1)
        best, which = names[..., : self.naming.names].topk(self.naming.best, dim=-1)
        broad, general = names[..., self.naming.names :].max(-1, keepdim=True)
        which = torch.cat([which, general + self.naming.names], -1)
        return spelled(self.certainty, torch.cat([best, broad], -1), self.words[which]).flatten(1, 2)
