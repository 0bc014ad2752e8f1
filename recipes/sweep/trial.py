"""One run of the sweep, a row of Table 1 and a seed: train a small model from scratch and evaluate it."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from patches import Encoded
from scenes import FRAMES, TASKS, Clip, frame_index, held_out, training_batch, word_tokenizer
from shared_clips import Sequenced, collate, exact_match, segment_mask, shared
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from videollama2.configuration import VideoLlama2Config
from videollama2.data.batches import MicroBatch, StepBatch, StepSource
from videollama2.data.labels import IGNORE
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.phases import PHASES, Phase
from videollama2.stc import TABLE_1, connector_settings
from videollama2.train.loop import build_optimizer, optimise

logger = logging.getLogger("sweep")

GRID = 6  # rows and columns of patches in a frame


@dataclass(frozen=True)
class Budget:
    """The budget that all runs share."""

    steps: int = 600
    batch: int = 8
    train_clips: int = 2000
    width: int = 96
    layers: int = 2
    learning_rate: float = 2e-3

    def phase(self) -> Phase:
        """The package's `video_tune`, with a learning rate for training from scratch."""
        return PHASES["video_tune"].but(
            name="sweep", learns={"connector", "language_model"}, learning_rate=self.learning_rate, batch=self.batch,
            steps=self.steps, warmup=0.1, weight_decay=0.05, beta2=0.98,
        )  # fmt: skip


def small_model(connector_type: str, budget: Budget, seed: int) -> VideoLlama2ForConditionalGeneration:
    """A model with new weights; its vision encoder has no blocks, as clips are stored as encoder features."""
    torch.manual_seed(seed)
    vision = {"model_type": "dinov2", "hidden_size": budget.width, "num_hidden_layers": 0, "num_attention_heads": 1,
              "patch_size": 1, "image_size": GRID}  # fmt: skip
    text = {"model_type": "llama", "hidden_size": budget.width, "intermediate_size": budget.width * 5 // 2,
            "num_hidden_layers": budget.layers, "num_attention_heads": 4, "num_key_value_heads": 4,
            "vocab_size": len(word_tokenizer()), "max_position_embeddings": 512,
            "tie_word_embeddings": True, "initializer_range": budget.width**-0.5}  # fmt: skip
    config = VideoLlama2Config(
        vision_config=vision, text_config=text, connector_type=connector_type, vision_feature_layer=-1,
        num_frames=FRAMES, tie_word_embeddings=True, initializer_range=0.05,
    )  # fmt: skip
    return VideoLlama2ForConditionalGeneration(config)


def num_tokens(connector_type: str) -> int:
    """Tokens of a clip."""
    return connector_settings(connector_type).num_tokens(FRAMES, GRID, GRID)


# ── batches ───────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=100_000)
def _encode(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer().encode(text, add_special_tokens=False))


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    return word_tokenizer()


def _sequence(clip: Clip, tokens: int, video_token_id: int) -> Sequenced:
    """All questions about a clip in one sequence; they don't attend to each other."""
    tokenizer = _tokenizer()
    samples = []
    for asked in clip.questions:
        prompt = [tokenizer.bos_token_id, *[video_token_id] * tokens, *_encode(asked.text)]
        reply = [*_encode(asked.answer), tokenizer.eos_token_id]
        samples.append((prompt + reply, [IGNORE] * len(prompt) + reply))
    return shared(samples)


def to_micro_batch(clips: list[Clip], encoded: Encoded, config: VideoLlama2Config) -> tuple[MicroBatch, Tensor]:
    """A batch for the model, and its `segments`: the question that each position belongs to."""
    rows = [_sequence(c, num_tokens(config.connector_type), config.video_token_id) for c in clips]
    batch = collate(rows, _tokenizer().pad_token_id)
    which, frame = frame_index(clips)
    inputs = {
        "video_features": encoded.patches[torch.from_numpy(which), torch.from_numpy(frame)],
        "input_ids": batch["input_ids"],
        "labels": batch["labels"],
        "position_ids": batch["position_ids"],
        "attention_mask": segment_mask(batch["segments"]),
    }
    positions = int(batch["attention_mask"].sum())
    made = MicroBatch(
        inputs=inputs,
        records=tuple(f"clip {c.frames[0]} … {c.frames[-1]}" for c in clips),
        supervised=int((batch["labels"][:, 1:] != IGNORE).sum()),
        positions=positions,
        padding=batch["input_ids"].numel() - positions,
    )
    return made, batch["segments"]


@dataclass(frozen=True)
class ClipSteps(StepSource):
    """Training steps of random clips, for the package's loop."""

    encoded: Encoded
    config: VideoLlama2Config
    seed: int
    batch: int

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        """Steps `start` … `stop - 1`."""
        for step in range(start, stop):
            clips = training_batch(step, self.seed, self.batch, self.encoded.told)
            yield StepBatch(step, [to_micro_batch(clips, self.encoded, self.config)[0]])


@torch.no_grad()
def match_scale(model: Any, patches: Tensor) -> None:
    """Scale the connector's tokens to the magnitude of word embeddings."""
    tokens = model.model.connector(patches)
    model.model.connector.readout[-1].weight *= model.get_input_embeddings().weight.std() / tokens.std()


# ── a run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(row: int, seed: int, budget: Budget, encoded: dict[str, Encoded]) -> dict[str, Any]:
    """Train and evaluate a row of Table 1.

    Args:
        row: 1 … 9.
        seed: of initialisation and data order.
        budget: of all runs.
        encoded: split → encoded clips.

    Returns:
        A line of results.jsonl: (right, asked) per task, the last losses, the row's cost.
    """
    name = TABLE_1[row - 1]
    model = small_model(name, budget, seed)
    source = ClipSteps(encoded["train"], model.config, seed, budget.batch)
    first, _ = to_micro_batch(training_batch(0, seed, budget.batch, source.encoded.told), source.encoded, model.config)
    match_scale(model, first.inputs["video_features"])
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        model(**first.inputs)

    phase = budget.phase()
    optimizer = build_optimizer(phase, phase.apply(model))
    started, losses = time.process_time(), []
    for report in optimise(model, phase, optimizer, source, steps=budget.steps, seed=seed):
        losses.append(report.loss)
        if report.step % 100 == 99:
            logger.info("row %d seed %d step %d: loss %.3f", row, seed, report.step + 1, sum(losses[-50:]) / 50)
    seconds = time.process_time() - started
    last = losses[-50:]
    return {
        "row": row,
        "seed": seed,
        "connector": name,
        "tokens": num_tokens(name),
        "parameters": sum(p.numel() for p in model.model.connector.parameters()),
        "mflop": round(forward.get_total_flops() / budget.batch / 1e6, 1),
        "cpu_seconds": round(seconds, 1),  # on this machine, under its load at the time
        "loss": round(sum(last) / len(last), 4),
        "right": answers(model, encoded["test"]),
        "budget": vars(budget),
    }


def answers(model: Any, encoded: Encoded, at_once: int = 32) -> dict[str, list[int]]:
    """Task → [right, asked] over the held-out clips; right: greedy decoding gives exactly the answer."""
    model.eval()
    counts = {task: [0, 0] for task in TASKS}
    clips = held_out(encoded.told)
    for start in range(0, len(clips), at_once):
        part = clips[start : start + at_once]
        batch, segments = to_micro_batch(part, encoded, model.config)
        asked = [q.task for c in part for q in c.questions]
        for task, right in zip(asked, exact_match(model, batch.inputs, segments), strict=True):
            counts[task][0] += right
            counts[task][1] += 1
    return counts
