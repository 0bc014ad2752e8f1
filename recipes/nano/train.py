"""Train nano: BEATs on labelled sounds, then the five phases. On one data-centre GPU this takes a quarter of an hour.

    python recipes/nano/train.py --gguf SmolLM2….gguf --vision DINOV2_FOLDER --tokenizer FOLDER \
        --pictures pictures.npz --sounds sounds.npz --out RUN [--minutes 12] [--device cuda]

The phases are the package's (`phases.PHASES`) with this model's numbers: a small language model on little data wants
higher rates than the published ones, and its language model learns through adapters. Each phase writes what has been
trained so far to RUN/parts.safetensors and its figures to RUN/log.jsonl.
"""

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
from chat import distil
from model import LORA_ALPHA, LORA_RANK, SIDE, match_scale, sound_classes, starting_model
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

import videollama2.vision
from videollama2.data.compose import Pictures, Sounds
from videollama2.data.composed import ComposedBatches
from videollama2.data.rendering import to_inputs
from videollama2.phases import PHASES, Phase
from videollama2.train.lora import add_adapters
from videollama2.train.run import device_batches, exact_match, save_parts, train_phase

logger = logging.getLogger("nano")

# share of the whole time that a phase gets, and what differs from the published phase
SOUND_CLASSES = Phase(
    name="sound_classes", learns=frozenset({"audio_encoder"}), mixture={"audio": 1.0}, learning_rate=1e-3, batch=256,
    weight_decay=0.05, warmup=0.1,
)  # fmt: skip
RECIPE: tuple[tuple[float, Phase], ...] = (
    (0.14, SOUND_CLASSES),
    (0.24, PHASES["video_align"].but(batch=128, mixture={"video": 0.9, "image": 0.1}, weight_decay=0.01)),
    (
        0.20,
        PHASES["video_tune"].but(
            batch=128, learns={"connector", "language_model"}, learning_rate=3e-4, rates={"connector": 5e-4},
            mixture={"video": 0.82, "image": 0.1, "text": 0.08}, weight_decay=0.01,
        ),
    ),
    (0.05, PHASES["audio_align"].but(batch=128, warmup=0.1)),
    (0.10, PHASES["audio_tune"].but(batch=128, learning_rate=3e-4, rates={"audio_encoder": 1e-4}, warmup=0.1)),
    (
        0.27,
        PHASES["av_joint"].but(
            batch=96, learns={"connector", "audio_projector", "audio_encoder", "language_model"}, learning_rate=3e-4,
            rates={"audio_encoder": 2e-4}, weight_decay=0.01,
            mixture={"av": 0.5, "audio": 0.18, "video": 0.18, "image": 0.05, "text": 0.09},
        ),
    ),
)  # fmt: skip
NEW_PARTS = {"connector", "audio_encoder", "audio_projector"}


def sound_class_loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Cross entropy of the class heard at each audio token, from BEATs' own predictor."""
    encoder = model.model.audio_encoder
    out = encoder(batch["input_features"])
    pool = model.config.audio_pool
    grid = out.features.unflatten(1, out.grid).permute(0, 3, 1, 2)
    tokens = F.avg_pool2d(grid, tuple(pool), ceil_mode=True, count_include_pad=False).flatten(2).transpose(1, 2)
    logits = encoder.predictor(tokens).float()
    return F.cross_entropy(logits.flatten(0, 1), batch["sound_targets"].flatten(), label_smoothing=0.1)


def measure(model: Any, data: ComposedBatches, workers: int) -> dict[str, Any]:
    """Exactly right answers on held-out scenes, in memory, not augmented: kind of question → (right, asked)."""
    counts: dict[str, list[int]] = {}
    model.eval()
    for batch in DataLoader(data, batch_size=None, num_workers=workers):
        right = exact_match(model, to_inputs(batch, SIDE, model.device)).tolist()
        for kind, ok in zip(batch["asked"], right, strict=True):
            count = counts.setdefault(kind, [0, 0])
            count[0] += ok
            count[1] += 1
    model.train()
    return {k: tuple(v) for k, v in sorted(counts.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("gguf", "vision", "pictures", "sounds", "tokenizer", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12.0, help="for all phases together")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--batch", type=int, help="replaces every phase's")
    parser.add_argument("--most-steps", type=int, default=20_000, help="per phase")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--resume", type=Path, help="parts.safetensors of an earlier run")
    parser.add_argument(
        "--only", nargs="+", metavar="PHASE:SHARE", help="these phases only, with these shares of the time"
    )
    parser.add_argument(
        "--chats", type=Path, help="chat.json of an earlier run, instead of asking the base model again"
    )
    parser.add_argument("--asks", type=int, default=5, help="questions per clip")
    parser.add_argument("--most-chats", type=int, help="text-only samples (default: all)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if args.device == "cuda":
        videollama2.vision.FRAMES_PER_PASS = 1024  # small passes leave a large GPU waiting

    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.tokenizer)
    classes = sound_classes(args.sounds)
    model = starting_model(args.vision, args.gguf, len(classes))
    if args.resume is not None:
        resume(model, args.resume)
    model.to(args.device)
    packs = {s: (Pictures.load(args.pictures, s), Sounds.load(args.sounds, s)) for s in ("train", "test")}
    started = time.perf_counter()
    if args.chats is not None:
        text = [(q, a) for q, a in json.loads(args.chats.read_text(encoding="utf-8"))]
    else:
        text = distil(model.eval(), tokenizer, most=args.most_chats)
    (args.out / "chat.json").write_text(json.dumps(text, indent=0), encoding="utf-8")
    logger.info("%d text-only samples in %.0f s; e.g. %s", len(text), time.perf_counter() - started, text[:2])

    def data(phase: Phase, split: str, length: int, **options: Any) -> ComposedBatches:
        pictures, sounds = packs[split]
        return ComposedBatches(
            model.config,
            tokenizer,
            pictures,
            sounds,
            phase.mixture,
            args.batch or phase.batch,
            length,
            text=text,
            **options,
        )

    learned: set[str] = set() if args.resume is None else set(NEW_PARTS)
    log = (args.out / "log.jsonl").open("a", encoding="utf-8")
    recipe = RECIPE
    if args.only is not None:
        named = {phase.name: phase for _, phase in RECIPE}
        recipe = tuple((float(share), named[name]) for name, _, share in (o.partition(":") for o in args.only))
    whole = sum(share for share, _ in recipe)
    for number, (share, phase) in enumerate(recipe):
        if "language_model" in phase.learns and not any("lora_" in n for n, _ in model.named_parameters()):
            logger.info("%d adapters", add_adapters(model.model.language_model, LORA_RANK, LORA_ALPHA))
        if phase.name in ("video_align", "audio_align") and args.resume is None:
            _scale_to_tokens(model, phase, next(device_batches(data(phase, "train", 1), SIDE, model.device)))
        pretraining = phase is SOUND_CLASSES
        options: dict[str, Any] = {"sound_classes": classes} if pretraining else {}
        train_phase(
            model,
            phase,
            data(
                phase,
                "train",
                args.most_steps,
                seed=args.seed + number,
                asks=1 if pretraining else args.asks,
                **options,
            ),
            steps=args.most_steps,
            seconds=args.minutes * 60 * share / whole,
            side=SIDE,
            workers=args.workers,
            seed=args.seed + number,
            loss_of=sound_class_loss if pretraining else None,
            report=lambda step, name=phase.name: print(json.dumps({"phase": name, **vars(step)}), file=log, flush=True),
        )
        learned |= set(phase.learns) & NEW_PARTS
        save_parts(model, learned, args.out / "parts.safetensors")
        if not pretraining:
            for kind in [k for k in phase.mixture if k != "text"]:
                only = phase.but(mixture={kind: 1.0})
                found = measure(
                    model, data(only, "test", 4, seed=999, compose_options={"stamps": 0.0}), min(4, args.workers)
                )
                shown = ", ".join(f"{k} {right}/{n}" for k, (right, n) in found.items())
                logger.info("%s: held-out %s: %s", phase.name, kind, shown)
                print(json.dumps({"phase": phase.name, "held_out": kind, "counts": found}), file=log, flush=True)
    logger.info("done in %.1f minutes", (time.perf_counter() - started) / 60)


@torch.no_grad()
def resume(model: Any, path: Path) -> None:
    """Put an earlier run's parts into a starting model."""
    parts = load_file(path)
    add_adapters(model.model.language_model, LORA_RANK, LORA_ALPHA)
    scale = LORA_ALPHA / LORA_RANK  # a file holds B with the scale in it
    state = {k: v.float() / scale if k.endswith("lora_B") else v.float() for k, v in parts.items()}
    _, unexpected = model.load_state_dict(state, strict=False)
    if unexpected:
        raise SystemExit(f"{path} holds tensors that the model does not have: {unexpected[:5]}")


@torch.no_grad()
def _scale_to_tokens(model: Any, phase: Phase, batch: dict[str, Any]) -> None:
    inner = model.model
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
        if phase.name == "video_align":
            videos = batch.get("pixel_values_videos")
            tokens = (
                inner.get_image_features(batch["pixel_values"]) if videos is None else inner.get_video_features(videos)
            )
            last = inner.connector.readout[-1]
        else:
            tokens, last = inner.get_audio_features(batch["input_features"]), inner.audio_projector[-1]
    match_scale(last, torch.cat(list(tokens)))


if __name__ == "__main__":
    main()
