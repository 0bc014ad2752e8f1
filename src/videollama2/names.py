"""A connector with a dictionary: the tokens of STC, then the names of what a classifier recognises, and of colours.

    features [B, T, N, C + K] ─┬─ C ── STC ────────────────────────► tokens [B, n, D]   ─┐
                               └─ K ── mean ── the best names' words ─► [B, names, D]     ┴─►

The features end with K scores per position (paired_vision.py): of classes, then of colours. Averaged over the positions
of a period of the clip, they say which classes are in it, and which colour stands out. The connector knows each name as
the language model's own token embeddings, so it hands over the words themselves, each name behind a token that says how
sure the classifier is. Without training, this is a lookup; what is learned is how the language model reads it.

A period has the best classes, the best group of classes ("a bird"), whose probability is its members', and a colour.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ConfigError
from .stc import CONNECTORS, ConnectorSettings, STCConnector


@dataclass(frozen=True)
class NamingSettings:
    """A connector that appends names to STC's tokens.

    Attributes:
        stc: of the connector in front.
        classes: class scores in the features.
        colours: shares of colours at the end of the features, after the class scores.
        groups: broader names, each for several classes.
        periods: parts of the clip, of equal length, that are named separately.
        best: classes named per period, besides one group.
        words: tokens of a name; longer names are cut, shorter ones padded.
    """

    stc: ConnectorSettings = field(default_factory=lambda: ConnectorSettings(learned=True))
    classes: int = 1000
    groups: int = 64
    periods: int = 2
    best: int = 2
    words: int = 7
    colours: int = 11
    downsample: ClassVar[tuple[int, int, int]] = (2, 2, 2)

    @property
    def names(self) -> int:
        """Tokens of names in a clip."""
        return self.periods * ((self.best + 1) * (self.words + 1) + 2 * bool(self.colours))

    @property
    def scores(self) -> int:
        """Scores at the end of the features."""
        return self.classes + self.colours

    def num_tokens(self, frames: int, rows: int, columns: int) -> int:
        """Tokens of a clip with that many frames, rows and columns of patches.

        Raises:
            MediaError: too few frames or patches for one token.
        """
        return self.stc.num_tokens(frames, rows, columns) + self.names

    def build(self, vision_width: int, language_width: int) -> "NamingConnector":
        """The connector, freshly initialised.

        Raises:
            ConfigError: the features are too narrow to end with class scores.
        """
        if vision_width <= self.scores:
            raise ConfigError(
                f"this connector expects features that end with {self.scores} scores, but the vision encoder's "
                f"are {vision_width} wide; use a 'paired_vision' encoder or another connector."
            )
        return NamingConnector(self, vision_width, language_width)


class NamingConnector(nn.Module):
    """STC's tokens, then those of names."""

    def __init__(self, settings: NamingSettings, vision_width: int, language_width: int) -> None:
        super().__init__()
        self.settings = settings
        self.stc = STCConnector(settings.stc, vision_width - settings.scores, language_width)
        self.names = Dictionary(settings, language_width)

    def forward(self, features: Tensor, still: int | None = None) -> Tensor:
        """Frame features → tokens [B, n, D]; arguments as of `STCConnector.forward`."""
        x_BTNC = features.flatten(2, 3) if features.dim() == 5 else features
        K = self.settings.scores
        seen = self.stc(x_BTNC[..., :-K], still)
        return torch.cat([seen, self.names(x_BTNC[..., -K:].mean(2)).to(seen.dtype)], dim=1)


class Dictionary(nn.Module):
    """Scores per frame [B, T, K] → the best names' words [B, names, D].

    `words` holds the names of classes, then those of groups; `colours` those of colours, a token each; `certainty` the
    tokens for 0 and 1, between which the token in front of a name lies. `groups` has a column per class: 1 in its
    group's row.
    """

    def __init__(self, settings: NamingSettings, width: int) -> None:
        super().__init__()
        self.settings = settings
        rows = settings.classes + settings.groups
        self.words = nn.Parameter(torch.zeros(rows, settings.words, width))
        self.colours = nn.Parameter(torch.zeros(settings.colours, width))
        self.certainty = nn.Parameter(torch.zeros(2, width))
        self.groups = nn.Linear(settings.classes, settings.groups, bias=False)

    def forward(self, scores_BTK: Tensor) -> Tensor:
        """Each period has the mean scores of its frames; of a still, every period has the same."""
        periods = F.adaptive_avg_pool1d(scores_BTK.float().transpose(1, 2), self.settings.periods).transpose(1, 2)
        classes = periods[..., : self.settings.classes].softmax(-1)
        groups = F.linear(classes, self.groups.weight.float())
        best, names = classes.topk(self.settings.best, dim=-1)
        broad, group = groups.max(-1, keepdim=True)
        which = torch.cat([names, group + self.settings.classes], -1)
        tokens = [spelled(self.certainty, torch.cat([best, broad], -1), self.words[which])]
        if self.settings.colours:
            share, colour = periods[..., self.settings.classes :].max(-1, keepdim=True)
            tokens.append(spelled(self.certainty, share, self.colours[colour][..., None, :]))
        return torch.cat(tokens, -2).flatten(1, 2)


def spelled(certainty: Tensor, share: Tensor, words: Tensor) -> Tensor:
    """Each name's words behind a token for its probability, between the two of `certainty` (for 0 and 1) [2, D].

    Probabilities [B, periods, slots] and words [B, periods, slots, words, D] → tokens [B, periods, n, D].
    """
    doubtful, certain = certainty.float()
    first = doubtful + share[..., None] * (certain - doubtful)
    return torch.cat([first[..., None, :], words.float()], dim=-2).flatten(2, 3)


CONNECTORS["stc_connector_v35_names"] = NamingSettings()
