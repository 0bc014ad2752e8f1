"""A small model, small packs and a tokenizer, all made here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from videollama2.configuration import VideoLlama2Config
from videollama2.data.batches import MicroBatch, StepBatch, StepSource
from videollama2.data.composed import PHOTO_CLASSES, Pictures, Sounds
from videollama2.data.composed.batches import ComposedBatches
from videollama2.data.composed.questions import FOLLOW_UPS, MOVES, NO_PICTURE, NO_SOUND, NUMBERS, WORDINGS
from videollama2.data.composed.rendering import to_inputs
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.phases import Phase
from videollama2.train.loop import StepReport, build_optimizer, optimise

SIDE = 28
SOUND_LABELS = ("a flute", "a drum", "birds")
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


def small_config(*, deaf: bool = False) -> VideoLlama2Config:
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 256,
            "tie_word_embeddings": True}  # fmt: skip
    vision = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "mlp_ratio": 2, "patch_size": 7, "image_size": SIDE}  # fmt: skip
    audio = {"encoder_layers": 1, "embed_dim": 16, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32,
             "encoder_attention_heads": 2, "conv_pos": 8, "conv_pos_groups": 2, "finetuned_model": False,
             "encoder_layerdrop": 0.0}  # fmt: skip
    return VideoLlama2Config(
        vision_config=vision, audio_config=None if deaf else audio, text_config=text, vision_feature_layer=-1,
        num_frames=4, audio_pool=(2, 8), tie_word_embeddings=True,
    )  # fmt: skip


def small_model(*, deaf: bool = False) -> VideoLlama2ForConditionalGeneration:
    torch.manual_seed(0)
    return VideoLlama2ForConditionalGeneration(small_config(deaf=deaf))


def packs() -> tuple[Pictures, Sounds]:
    """One flat colour per class of picture, one tone per class of sound."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (10, 1, 1, 1, 3))
    photos = np.broadcast_to(colours, (10, 2, 32, 32, 3)).reshape(20, 32, 32, 3).astype(np.uint8)
    stamps = np.zeros((1, 96, 96, 4), np.uint8)
    stamps[:, 20:70, 20:70] = 255
    pictures = Pictures(photos, np.repeat(np.arange(10), 2), stamps, ("a white square",))
    clock = np.arange(2 * 16_000) / 16_000
    tones = [(np.sin(2 * np.pi * hz * clock) * 9000).astype(np.int16) for hz in (300, 900, 2700)]
    spans = [(label, i * clock.size, (i + 1) * clock.size) for i, label in enumerate(SOUND_LABELS)]
    return pictures, Sounds.of(np.concatenate(tones), spans)


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
