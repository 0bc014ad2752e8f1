"""Train nano: BEATs on labelled sounds, then the five phases. Can be interrupted and restarted at any time.

    python recipes/nano/train.py --gguf SmolLM2….gguf --vision DINOV2_FOLDER --tokenizer FOLDER \
        --pictures pictures.npz --sounds sounds.npz --out RUN [--size cpu|gpu] [--from PARTS --only av_joint]

The phases are the package's (`phases.PHASES`) with this model's numbers: a small language model on little data needs
higher rates than published, and learns through adapters. Each stage has a folder in RUN with its checkpoints, metrics,
and, once finished, parts.safetensors. A finished stage is not trained again; an unfinished one resumes from its last
checkpoint, to the same weights.

Sizes: `cpu` is for two cores and takes about a day by step times measured there (half of it av_joint); it has not been
run in full. `gpu` made the shipped weights on one H100 in 25 minutes.
"""

import argparse
import contextlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from adapters import add_adapters, load_parts, save_parts
from audio_only import SoundClassifier, SoundPrototypes
from batches import ComposedBatches, ComposedSteps
from chat import distil, questions
from kl_to_base import KLToBase
from model import LORA_ALPHA, LORA_RANK, SIDE, match_scale, sound_classes, starting_model
from rendering import to_inputs
from shared_clips import exact_match
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

import videollama2.vision
from videollama2.data.composed import PicturePack, SoundPack
from videollama2.phases import PHASES, Phase
from videollama2.train import checkpoint
from videollama2.train.loop import build_optimizer, optimise
from videollama2.train.metrics import FILE as METRICS
from videollama2.train.metrics import MetricsLog
from videollama2.train.strategy import SingleProcess, Strategy

logger = logging.getLogger("nano")

NEW_PARTS = {"connector", "audio_encoder", "audio_projector"}
SAVE_EVERY = {"cpu": 25, "gpu": 50}  # steps: some minutes on two cores, half a minute on a GPU
SAMPLED_ANSWERS = 2  # per text-only question, besides the greedy one


@dataclass(frozen=True)
class Stage:
    """A phase, and its (steps, clips per step) on each kind of machine."""

    phase: Phase
    cpu: tuple[int, int]
    gpu: tuple[int, int]
    asks: int = 10
    favoured: tuple[str, ...] = ()  # classes of sound drawn four times as often, in audio-only stages

    @property
    def name(self) -> str:
        return self.phase.name

    @property
    def audio_only(self) -> bool:
        """Whether it trains without the language model (audio_only.py)."""
        return self.name in ("sound_classes", "more_sounds")


SOUND_CLASSES = PHASES["audio_tune"].but(
    name="sound_classes", learns={"audio_encoder"}, mixture={"audio": 1.0}, learning_rate=1e-3, weight_decay=0.05,
    warmup=0.1, beta2=0.98,
)  # fmt: skip
STAGES = (
    Stage(SOUND_CLASSES, cpu=(3000, 32), gpu=(1500, 256), asks=1),
    Stage(
        PHASES["video_align"].but(mixture={"video": 0.9, "image": 0.1}, weight_decay=0.01, beta2=0.98),
        cpu=(1000, 6), gpu=(300, 64),
    ),
    Stage(
        PHASES["video_tune"].but(
            learns={"connector", "language_model"}, learning_rate=3e-4, rates={"connector": 5e-4},
            mixture={"video": 0.82, "image": 0.1, "text": 0.08}, weight_decay=0.01, beta2=0.98,
        ),
        cpu=(1000, 6), gpu=(800, 64),
    ),
    Stage(PHASES["audio_align"].but(mixture={"audio": 1.0}, warmup=0.1, beta2=0.98), cpu=(400, 8), gpu=(150, 64)),
    Stage(
        PHASES["audio_tune"].but(
            mixture={"audio": 1.0}, learning_rate=3e-4, rates={"audio_encoder": 1e-4}, warmup=0.1, beta2=0.98,
        ),
        cpu=(800, 8), gpu=(120, 64),
    ),
    Stage(
        PHASES["av_joint"].but(
            learns={"connector", "audio_projector", "audio_encoder", "language_model"}, learning_rate=4e-4,
            rates={"audio_encoder": 1.5e-4, "connector": 3e-4, "audio_projector": 4e-4}, weight_decay=0.01, beta2=0.98,
            mixture={"av": 0.56, "audio": 0.12, "video": 0.17, "image": 0.05, "text": 0.10},
        ),
        cpu=(5000, 4), gpu=(1350, 64), asks=9,
    ),
)  # fmt: skip

# Not part of a whole run: adds recordings to finished weights (`--from PARTS --only more_sounds`), in under an hour on
# two cores. The classes with the fewest recordings are drawn more often.
RARE = ("a cow", "a helicopter", "a lion", "a sheep", "a ship", "a train", "a truck", "an airplane")
MORE_SOUNDS = Stage(
    SOUND_CLASSES.but(
        name="more_sounds", learns={"audio_encoder", "audio_projector"}, learning_rate=4e-4,
        rates={"audio_encoder": 2e-4},
    ),
    cpu=(600, 32), gpu=(600, 256), asks=1, favoured=RARE,
)  # fmt: skip


class Trainer:
    """Model, data and folder of a run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, args.out
        self.classes = sound_classes(args.sounds)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(args.tokenizer)
        self.model = starting_model(args.vision, args.gguf, len(self.classes)).to(args.device)
        self.packs = {
            s: (PicturePack.load(args.pictures, s), SoundPack.load(args.sounds, s)) for s in ("train", "test")
        }
        self.text = self._text()

    @property
    def strategy(self) -> Strategy:
        return SingleProcess.on(self.model.device)

    def _text(self) -> list[tuple[str, str]]:
        """Text-only samples: the base model's answers, generated once per run."""
        path = self.out / "chat.json"
        if not path.is_file():
            torch.manual_seed(self.args.seed)
            asked = questions()[: self.args.questions]
            options = {"model": self.model.eval(), "tokenizer": self.tokenizer, "asked": asked}
            answers = [distil(**options, sampled=n > 0) for n in range(1 + SAMPLED_ANSWERS)]
            path.write_text(json.dumps([pair for pairs in answers for pair in pairs], indent=0), encoding="utf-8")
        return [(q, a) for q, a in json.loads(path.read_text(encoding="utf-8"))]

    def data(self, stage: Stage, split: str, steps: int, batch: int, **options: Any) -> ComposedBatches:
        pictures, sounds = self.packs[split]
        mixture = options.pop("mixture", stage.phase.mixture)
        return ComposedBatches(
            self.model.config, self.tokenizer, pictures, sounds, mixture, batch, steps, text=self.text,
            seconds=(2.0, 5.0), **options,
        )  # fmt: skip

    def stage(self, number: int, stage: Stage, before: Path | None) -> Path:
        """Train the remaining steps of a stage; returns its parts."""
        folder = self.out / f"{number}-{stage.name}"
        finished = folder / "parts.safetensors"
        if finished.is_file():
            return finished
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.clean(folder)
        self._adapt("language_model" in stage.phase.learns or (before is not None and _has_adapters(before)))
        if before is not None:
            load_parts(self.model, before)
        steps, batch = getattr(stage, self.args.size)
        steps, batch = self.args.steps or steps, self.args.batch or batch
        options: dict[str, Any] = {"seed": self.args.seed + number, "asks": stage.asks}
        if stage.audio_only:
            labels = {name: 4.0 if name in stage.favoured else 1.0 for name in self.classes}
            options |= {"sound_classes": self.classes, "compose_options": {"late": 0.0, "labels": labels}}
        if stage.favoured:  # few recordings don't cover the range of pitches of a horn or an engine
            options["speeds"] = (0.7, 1.45)
        source = ComposedSteps(
            self.data(stage, "train", steps, batch, **options), SIDE, self.model.device, self.args.seed + number,
            self.args.workers,
        )  # fmt: skip
        network = self._network(stage, source)
        optimizer = build_optimizer(stage.phase, stage.phase.apply(network))
        done = checkpoint.checkpoints(folder)
        start = checkpoint.restore(done[-1], network, optimizer, self.strategy)["step"] if done else 0
        if start == 0 and stage.name in ("video_align", "audio_align"):
            self._match_scale(stage, source)
        self._steps(folder, stage, network, optimizer, source, start, steps)
        save_parts(self.model, NEW_PARTS, finished)
        return finished

    def _network(self, stage: Stage, source: ComposedSteps) -> nn.Module:
        """The module that the stage trains, with its loss."""
        if stage.name == "sound_classes":
            return SoundClassifier(self.model)
        if stage.name == "more_sounds":
            batches = (step.micro[0].inputs for step in source.steps(0, len(source.data)) if step.micro[0])
            return SoundPrototypes.of(self.model, batches, len(self.classes))
        return KLToBase(self.model)

    def _steps(
        self, folder: Path, stage: Stage, network: Any, optimizer: torch.optim.Optimizer, source: ComposedSteps,
        start: int, steps: int,
    ) -> None:  # fmt: skip
        autocast = torch.bfloat16 if self.model.device.type == "cuda" else None
        begun = start if (folder / METRICS).is_file() else None
        state = checkpoint.new_state(stage.name, f"composed clips, seed {source.data.seed}", steps)
        with contextlib.closing(MetricsLog(folder, resume_step=begun)) as metrics:
            metrics.begin(start, steps)
            for report in optimise(
                network, stage.phase, optimizer, source, steps=steps, start=start, seed=self.args.seed,
                autocast=autocast,
            ):  # fmt: skip
                metrics.step(report.step, loss=report.loss, gradient_norm=report.gradient_norm, seconds=report.seconds)
                if (report.step + 1) % SAVE_EVERY[self.args.size] == 0:
                    checkpoint.save(folder, network, optimizer, state | {"step": report.step + 1}, self.strategy)
                    checkpoint.prune(folder, 1, None)
            for name, found in ({} if stage.audio_only else self._measure(stage)).items():
                metrics.evaluation(steps, **{f"exact, {name}": found})

    def _adapt(self, wanted: bool) -> None:
        if wanted and not any("lora_" in n for n, _ in self.model.named_parameters()):
            add_adapters(self.model.model.language_model, LORA_RANK, LORA_ALPHA)

    def _measure(self, stage: Stage) -> dict[str, float]:
        """Share of exactly right answers per kind of question, on held-out scenes without augmentation."""
        counts: dict[str, list[bool]] = {}
        self.model.eval()
        mixture = {k: v for k, v in stage.phase.mixture.items() if k != "text"}
        data = self.data(
            stage, "test", self.args.measure, 4, seed=999, asks=10, mixture=mixture, compose_options={"stamps": 0.0}
        )
        for batch in DataLoader(data, batch_size=None):
            found = exact_match(self.model, to_inputs(batch, SIDE, self.model.device), batch["segments"])
            for kind, ok in zip(batch["asked"], found, strict=True):
                counts.setdefault(kind, []).append(ok)
        return {k: sum(v) / len(v) for k, v in sorted(counts.items())}

    @torch.no_grad()
    def _match_scale(self, stage: Stage, source: ComposedSteps) -> None:
        """Scale a new part's output to the magnitude of token embeddings."""
        inner, batch = self.model.model, next(source.steps(0, 1)).micro[0]
        assert batch is not None
        if stage.name == "audio_align":
            out, last = inner.get_audio_features(batch.inputs["input_features"]), inner.audio_projector[-1]
        else:
            pixels = batch.inputs.get("pixel_values_videos")
            last = inner.connector.readout[-1]
            out = (
                inner.get_image_features(batch.inputs["pixel_values"])
                if pixels is None
                else inner.get_video_features(pixels)
            )
        match_scale(last, torch.cat(list(out.pooler_output)))


def _has_adapters(parts: Path) -> bool:
    from safetensors import safe_open

    with safe_open(parts, "pt") as file:
        return any("lora_" in key for key in file.keys())  # noqa: SIM118 - no mapping


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("gguf", "vision", "pictures", "sounds", "tokenizer", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    gpu = torch.cuda.is_available()
    parser.add_argument("--size", choices=("cpu", "gpu"), default="gpu" if gpu else "cpu")
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--workers", type=int, default=12 if gpu else 0)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--from", dest="start", type=Path, help="parts.safetensors of an earlier run")
    parser.add_argument(
        "--only", nargs="+", choices=[s.name for s in (*STAGES, MORE_SOUNDS)], help="train only these stages"
    )
    parser.add_argument("--steps", type=int, help="per stage, instead of the size's (for a trial run)")
    parser.add_argument("--batch", type=int, help="clips per step, instead of the size's")
    parser.add_argument("--questions", type=int, help="number of text-only questions (default: all)")
    parser.add_argument("--measure", type=int, default=8, help="batches of four held-out clips per evaluation")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if args.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        videollama2.vision.FRAMES_PER_PASS = 1024  # the default underuses a large GPU
    trainer, parts = Trainer(args), args.start
    for number, stage in enumerate((*STAGES, MORE_SOUNDS)):
        if stage.name in (args.only or [s.name for s in STAGES]):
            parts = trainer.stage(number, stage, parts)
    logger.info("finished: %s", parts)


if __name__ == "__main__":
    main()
