"""Training of audio encoder and projector without the language model."""

import argparse
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AUDIO_TOKENS = 4000  # minimum number that prototypes are averaged over, all classes together


class SoundClassifier(nn.Module):
    """BEATs with its classifier, trained on the class heard at each audio token; parameter names as in the model."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.model, self.config = whole.model, whole.config

    def forward(self, input_features: Tensor, sound_targets: Tensor, **_: Any) -> Any:
        _, logits = self.classify(input_features)
        return argparse.Namespace(loss=self.class_loss(logits, sound_targets))

    def classify(self, input_features: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features [B, tokens, width] and the classifier's logits [B, tokens, classes]."""
        encoder = self.model.audio_encoder
        out = encoder(input_features)
        grid = out.last_hidden_state.unflatten(1, (-1, encoder.config.rows)).permute(0, 3, 1, 2)
        pool = tuple(self.config.audio_pool)
        tokens = F.avg_pool2d(grid, pool, ceil_mode=True, count_include_pad=False).flatten(2).transpose(1, 2)
        return tokens, encoder.predictor(tokens).float()

    @staticmethod
    def class_loss(logits: Tensor, sound_targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), sound_targets.flatten(), label_smoothing=0.1)


class SoundPrototypes(SoundClassifier):
    """Also trains the projector: its tokens for every sound of a class should be the class's mean tokens.

    A trained projector gives nearly the same tokens for all sounds of a class, and the language model reads those: it
    names the mean of each of nano's 41 classes correctly. So sounds can be added without the language model, at a
    fortieth of the cost.
    """

    prototypes: Tensor

    def __init__(self, whole: Any, prototypes: Tensor) -> None:
        super().__init__(whole)
        self.register_buffer("prototypes", prototypes, persistent=False)

    def forward(self, input_features: Tensor, sound_targets: Tensor, **_: Any) -> Any:
        tokens, logits = self.classify(input_features)
        target = self.prototypes[sound_targets]
        distance = F.mse_loss(self.model.audio_projector(tokens).float(), target) / self.prototypes.var(0).mean()
        return argparse.Namespace(loss=self.class_loss(logits, sound_targets) + distance)

    @classmethod
    @torch.no_grad()
    def of(cls, whole: Any, batches: Iterable[dict[str, Tensor]], classes: int) -> "SoundPrototypes":
        """Average the model's current audio tokens per class, where its classifier is right."""
        classifier, sums, counts = SoundClassifier(whole).eval(), 0.0, torch.zeros(classes)
        for inputs in batches:
            tokens, logits = classifier.classify(inputs["input_features"])
            right = logits.argmax(-1) == inputs["sound_targets"]
            member = F.one_hot(inputs["sound_targets"][right], classes).T.float()
            sums = sums + member @ whole.model.audio_projector(tokens)[right].float()
            counts = counts + member.sum(1).cpu()
            if counts.sum() > AUDIO_TOKENS and counts.min() > 0:
                break
        if counts.min() == 0:
            raise SystemExit("a class of sounds is never recognised: run the whole training instead of more_sounds")
        return cls(whole, sums / counts[:, None].to(sums.device))
