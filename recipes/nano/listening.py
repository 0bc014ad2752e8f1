"""Training of the audio side alone: what sounds, by BEATs' own predictor, and in the words that the model knows."""

import argparse
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AUDIO_TOKENS = 4000  # that prototypes are the means of, all classes together, at least


class SoundClassifier(nn.Module):
    """BEATs and its own predictor, with the loss of the class heard at each audio token; names as in the whole."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.model, self.config = whole.model, whole.config

    def forward(self, input_features: Tensor, sound_targets: Tensor, **_: Any) -> Any:
        _, logits = self.heard(input_features)
        return argparse.Namespace(loss=self.class_loss(logits, sound_targets))

    def heard(self, input_features: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features [B, tokens, width] and the predictor's logits [B, tokens, classes]."""
        encoder = self.model.audio_encoder
        out = encoder(input_features)
        grid = out.features.unflatten(1, out.grid).permute(0, 3, 1, 2)
        pool = tuple(self.config.audio_pool)
        tokens = F.avg_pool2d(grid, pool, ceil_mode=True, count_include_pad=False).flatten(2).transpose(1, 2)
        return tokens, encoder.predictor(tokens).float()

    @staticmethod
    def class_loss(logits: Tensor, sound_targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), sound_targets.flatten(), label_smoothing=0.1)


class SoundPrototypes(SoundClassifier):
    """The same, and the projector too: it is to hand over, for every sound of a class, what it does on average.

    A trained projector hands over nearly the same for all that the model takes for one class, and the language model
    reads that: the mean of a class is named right, of each of nano's 41 classes. So sounds can be added without the
    language model, at a fortieth of the cost.
    """

    prototypes: Tensor

    def __init__(self, whole: Any, prototypes: Tensor) -> None:
        super().__init__(whole)
        self.register_buffer("prototypes", prototypes, persistent=False)

    def forward(self, input_features: Tensor, sound_targets: Tensor, **_: Any) -> Any:
        tokens, logits = self.heard(input_features)
        wanted = self.prototypes[sound_targets]
        distance = F.mse_loss(self.model.audio_projector(tokens).float(), wanted) / self.prototypes.var(0).mean()
        return argparse.Namespace(loss=self.class_loss(logits, sound_targets) + distance)

    @classmethod
    @torch.no_grad()
    def of(cls, whole: Any, batches: Iterable[dict[str, Tensor]], classes: int) -> "SoundPrototypes":
        """With the means of what the model hands over now, where its predictor is right."""
        listener, sums, counts = SoundClassifier(whole).eval(), 0.0, torch.zeros(classes)
        for inputs in batches:
            tokens, logits = listener.heard(inputs["input_features"])
            right = logits.argmax(-1) == inputs["sound_targets"]
            member = F.one_hot(inputs["sound_targets"][right], classes).T.float()
            sums = sums + member @ whole.model.audio_projector(tokens)[right].float()
            counts = counts + member.sum(1).cpu()
            if counts.sum() > AUDIO_TOKENS and counts.min() > 0:
                break
        if counts.min() == 0:
            raise SystemExit("a class of sounds is never recognised: train these weights from their start")
        return cls(whole, sums / counts[:, None].to(sums.device))
