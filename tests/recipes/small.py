"""A word-level tokenizer and batches of composed clips for the small model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from batches import ComposedBatches
from questions import FOLLOW_UPS, MOVES, NO_PICTURE, NO_SOUND, NUMBERS, WORDINGS
from rendering import to_inputs
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.train.small import SIDE, SOUND_LABELS, packs
from videollama2.configuration import VideoLlama2Config
from videollama2.data.batches import MicroBatch, StepBatch, StepSource
from videollama2.data.composed import PHOTO_CLASSES
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.phases import Phase
from videollama2.train.loop import StepReport, build_optimizer, optimise

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Words and punctuation, one id each."""
    said = [*PHOTO_CLASSES, *SOUND_LABELS, NO_PICTURE, NO_SOUND, *MOVES.values()]
    said += [w for wordings in WORDINGS.values() for w in wordings] + list(NUMBERS)
    said += [question for pairs in FOLLOW_UPS.values() for question, _ in pairs]
    said += ["I see nothing and hear then stays in place be heard can Yes No user assistant system moves left right up"]
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    words = {w for s in said for w, _ in splitter.pre_tokenize_str(s)}
    words |= {w.capitalize() for s in said for w in s.split()}
    vocabulary = {w: i for i, w in enumerate(["<unk>", "<pad>", "<s>", "</s>", *sorted(words)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = splitter
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    made.chat_template = TEMPLATE
    return made


def small_batches(kind: str, config: VideoLlama2Config, **options: Any) -> ComposedBatches:
    pictures, sounds = packs()
    settings: dict[str, Any] = {"batch": 3, "length": 4, "seconds": (1.0, 1.0), **options}
    return ComposedBatches(config, tokenizer(), pictures, sounds, {kind: 1.0}, **settings)


def batch_of(model: VideoLlama2ForConditionalGeneration, kind: str, **options: Any) -> dict[str, Any]:
    """One batch as model inputs."""
    return to_inputs(small_batches(kind, model.config, **options)[0], SIDE, torch.device("cpu"))


@dataclass
class Again(StepSource):
    """The same batch in every step."""

    inputs: dict[str, Any]

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        supervised = int((self.inputs["labels"][:, 1:] != -100).sum())
        for step in range(start, stop):
            yield StepBatch(
                step, [MicroBatch(self.inputs, ("the batch",), supervised, self.inputs["labels"].numel(), 0)]
            )


def train(model: torch.nn.Module, phase: Phase, source: StepSource, steps: int) -> list[StepReport]:
    """Take all steps; their reports."""
    return list(optimise(model, phase, build_optimizer(phase, phase.apply(model)), source, steps=steps))
