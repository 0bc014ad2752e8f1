"""Train nano's last adapters: the language model learns to read names among the media tokens, and forgets nothing.

    python recipes/nano/read_names.py START --encoded OUT/encoded --out OUT/run [--steps 900]

START stands for the five inputs of start.py: --gguf, --parts, --classifier, --yamnet, --names.

A step has four sequences: pictures, clips and audio with names (named.py, heard.py), and composed clips as in train.py,
each with several questions that don't see each other (shared_clips.py); some are text alone, at the base model's
distribution. Tokens come from encoded.py. Resumes from its last checkpoint, to the same weights.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapters import adapter_state_dict
from batches import QUESTIONS, encode_sample
from encoded import scene_of
from heard import UNNAMED, Sounds, said_of
from heard import asks as sound_asks
from kl_to_base import adapters_off
from named import Named, asks, lettered
from names import class_names, group_names, memberships
from questions import NUMBERS, Ask, ask, follow_up, kinds_for
from safetensors.torch import save_file
from shared_clips import Sequenced, segment_mask, shared
from start import load_adapters, precision, starting_model
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from videollama2.data.composed import COLOURS, DIRECTIONS, PHOTO_CLASSES
from videollama2.data.labels import IGNORE
from videollama2.weights.nano import LANGUAGE_PREFIX

RATE, WARMUP, SEQUENCES = 1e-3, 10, 4
SHARES = {"made up": 0.23, "photograph": 0.2, "clip": 0.41, "made-up sound": 0.16}  # besides text
NAMED_KINDS = {"object": 5.0, "both": 2.0, "describe": 2.5, "is_seen": 2.0, "sound": 0.5, "kind_of": 0.7, "or": 0.7,
               "lettered": 3.0, "first_seen": 1.0, "last_seen": 1.0, "colour": 2.5}  # fmt: skip
NAMED_ASKS, CLIP_ASKS, SOUND_ASKS = 6, 8, 8
FILMS, QUIET = 0.4, 0.12  # shares: of films among pictures, of silence and faint noise in audio
READ_SOUNDS = 0.7  # share of sounds beside pictures that are called by names, not by the truth
DRAWN = 0.25  # of clips, chosen among those with drawings, which are forgotten first
CLIP_WEIGHTS = {"object": 1.5, "match": 2.0}  # of questions about clips, besides those of batches.py
GREEDY = 351  # text-only questions whose likeliest answer is kept; of the others, a sampled one
STILL_TOKENS = 36  # of a group of frames; a still's 144 tokens are four equal groups
TEXT = (
    "Tell me about the sea.", "Why is the sky blue?", "What is a good breakfast?", "Explain gravity to a child.",
    "Name three animals.", "How do I learn to swim?", "What is the capital of Spain?", "Write a sentence about music.",
    "What is a computer?", "How are you today?", "Who are you?", "What can you do?", "Give me a tip for a long trip.",
    "Why do leaves fall?", "What is history good for?", "Write a poem about winter.", "How does a bicycle work?",
    "What is seven plus five?", "Tell me a short story about a fox.", "Why do we sleep?", "What makes a good friend?",
)  # fmt: skip


def fewer(row: Sequenced, media: Tensor, kept: list[int], vocabulary: int) -> tuple[Sequenced, Tensor]:
    """A still without those of its four equal groups of tokens that are not kept; positions stay as they are."""
    places = [i for i, token in enumerate(row.ids) if token >= vocabulary][: 4 * STILL_TOKENS]
    dropped = {place for j, place in enumerate(places) if j // STILL_TOKENS not in kept}
    keep = [i for i in range(len(row.ids)) if i not in dropped]
    take = [j for j in range(len(media)) if j >= 4 * STILL_TOKENS or j // STILL_TOKENS in kept]
    fields = (row.ids, row.labels, row.positions, row.segments)
    return Sequenced(*([values[i] for i in keep] for values in fields)), media[take]


class Trainer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.model = starting_model(args.parts, args.classifier, args.yamnet, args.gguf, args.names).to(self.device)
        if args.start is not None:
            load_adapters(self.model, args.start)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(args.parts)
        settings = self.model.model.connector.settings
        encoder = self.model.model.vision_encoder.blocks[0].classes
        self.named = Named.of(
            class_names(args.names), group_names(settings.groups), memberships(settings.classes, settings.groups),
            encoder.classifier.weight.detach().cpu(),
        )  # fmt: skip
        self.sounds = Sounds()
        self.items: dict[str, list[dict[str, Any]]] = {"clips": [], "photographs": [], "films": [], "quiet": []}
        self.precision = precision(self.device)
        self.read: set[Path] = set()
        self.texts: list[tuple[str, str]] = []
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.learned = {n: p for n, p in self.model.named_parameters() if "lora_" in n}
        for parameter in self.learned.values():
            parameter.requires_grad_(True)
        for module in self.model.model.language_model.modules():  # frozen: converted once, not in every pass
            if isinstance(module, torch.nn.Linear):
                module.weight.data = module.weight.data.to(self.precision)
        self.head = self.model.lm_head.weight.detach().to(self.precision)

    def refresh(self) -> None:
        """Read files of tokens that have appeared."""
        for path in sorted(self.args.encoded.glob("*.pt")):
            if path not in self.read:
                self.items[path.stem.partition("-")[0]] += torch.load(path)
                self.read.add(path)

    # ── sequences ──────────────────────────────────────────────────────────────────────────────────────────────

    def sequence(self, rng: np.random.Generator) -> dict[str, Any]:
        kind = "text" if rng.random() < self.args.text else str(rng.choice(list(SHARES), p=list(SHARES.values())))
        if kind == "text":
            question, answer = self.texts[int(rng.integers(len(self.texts)))]
            return {"kind": kind, "row": shared([encode_sample(self.tokenizer, question, answer)])}
        if kind == "clip":
            return self._clip(rng)
        return self._made_up_sound(rng) if kind == "made-up sound" else self._named(kind, rng)

    def _audio_of_clip(self, rng: np.random.Generator) -> dict[str, Any]:
        """A composed clip that has audio."""
        while (item := self.items["clips"][int(rng.integers(len(self.items["clips"])))])["heard"] is None:
            pass
        return item

    def _made_up_sound(self, rng: np.random.Generator) -> dict[str, Any]:
        """Audio whose names are read."""
        audio = self._audio_with_names(rng)
        found = sound_asks(self.sounds, list(audio["sounds"]), rng, SOUND_ASKS)
        return self._row("audio", {"scores": None, **audio}, found, rng)

    def _audio_with_names(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Audio tokens of some clip with names that are made up, or quiet audio with its own."""
        if self.items["quiet"] and rng.random() < QUIET:
            item = self.items["quiet"][int(rng.integers(len(self.items["quiet"])))]
            return {"heard": item["heard"], "sounds": item["sounds"]}
        first = self.sounds.made_up(rng)
        periods = [first, self.sounds.made_up(rng) if rng.random() < 0.3 else first]
        return {"heard": self._audio_of_clip(rng)["heard"], "sounds": torch.stack(periods)}

    def _clip(self, rng: np.random.Generator) -> dict[str, Any]:
        """A composed clip with its truth."""
        clips = self.items["clips"]
        if rng.random() < DRAWN:
            drawn = [i for i in clips if any(t["picture"].startswith("drawing") for t in i["scene"]["things"])]
            clips = drawn or clips
        item = clips[int(rng.integers(len(clips)))]
        scene, kind = scene_of(item["scene"]), item["kind"]
        fit = kinds_for(scene) - {"describe", "caption"} | {"then"}  # real clips are described by what is named
        weights = {k: w * CLIP_WEIGHTS.get(k, 1.0) for k, w in QUESTIONS[kind].items() if k in fit}
        odds = np.array(list(weights.values()))
        chosen = rng.choice(len(weights), min(CLIP_ASKS, len(weights)), replace=False, p=odds / odds.sum())
        names = {"is_heard": self.sound_names, "is_seen": self.thing_names}
        found = []
        for i in chosen:
            what = list(weights)[i]
            one = follow_up(scene, rng) if what == "then" else ask(scene, what, rng, names=names.get(what, ()))
            found.append(self._with_options(one, what, rng))
        return self._row(item["kind"], item, found, rng)

    def _with_options(self, one: Ask, kind: str, rng: np.random.Generator) -> Ask:
        """Every third question that has a set of answers, with options."""
        sets = {
            "object": self.thing_names, "direction": DIRECTIONS, "sound": self.sound_names, "count": NUMBERS[1:],
            "match": ("yes", "no"), "order_both": ("the picture", "the sound"),
            "is_seen": ("yes", "no"), "is_heard": ("yes", "no"), "colour": tuple(COLOURS),
        }  # fmt: skip
        if kind in ("order_seen", "order_heard"):
            sets[kind] = tuple(one.question.partition(", ")[2].rstrip("?").split(" or "))
        if kind not in sets or rng.random() > 0.35:
            return one
        said = one.answer.rstrip(".").lower()
        values = tuple(v.rstrip(".").lower() for v in sets[kind])
        if kind == "match":
            said = said.rpartition(" ")[2]
        elif kind in ("is_seen", "is_heard"):
            said = said.partition(",")[0]
        elif kind in ("direction", "colour"):
            said = said.rpartition(" ")[2]
        if said not in values:
            return one
        others = [v for v in dict.fromkeys(values) if v != said]
        others = [others[i] for i in rng.permutation(len(others))[:3]]
        names = [said, *others]
        return lettered(one.question, said, [names[i] for i in rng.permutation(len(names))], rng)

    def _named(self, kind: str, rng: np.random.Generator) -> dict[str, Any]:
        """A picture or clip whose names are read: its own, or made-up ones."""
        pool = self.items["films" if self.items["films"] and rng.random() < FILMS else "photographs"]
        item = dict(pool[int(rng.integers(len(pool)))])
        film = item["kind"] == "video"
        periods = list(item["scores"].float())  # with colours at the end
        if kind == "made up":
            first = self.named.made_up(rng)
            two = rng.random() < 0.15
            periods = [first, self.named.made_up(rng, int(first.argmax())) if two else first]
        item["scores"] = torch.stack(periods)
        video, heard = film or periods[0] is not periods[1] or rng.random() < 0.4, []
        if video and rng.random() < 0.5:
            if rng.random() < READ_SOUNDS:
                item |= self._audio_with_names(rng)
                heard = said_of([self.sounds.heard(scores) for scores in item["sounds"]]) or [UNNAMED]
            else:
                other = self._audio_of_clip(rng)
                item |= {"heard": other["heard"], "sounds": other["sounds"]}
                heard = [s["name"] for s in other["scene"]["sounds"]]
        found = asks(self.named, periods, heard, rng, NAMED_ASKS, NAMED_KINDS)
        kept = [int(rng.integers(4))] if rng.random() < (0.3 if film else 0.75) else [0, 1, 2, 3]
        return self._row("av" if item["heard"] is not None else "video" if video else "image", item, found, rng, kept)

    def _row(
        self, kind: str, item: dict[str, Any], found: list[Ask], rng: np.random.Generator, kept: list[int] | None = None
    ) -> dict[str, Any]:
        tokens, counts = [], []
        if item["scores"] is not None:
            names = self.model.model.connector.names(item["scores"][None].float().to(self.device))[0]
            tokens += [item["seen"].float().to(self.device), names]
            counts.append(("image" if kind == "image" else "video", len(item["seen"]) + len(names)))
        if item["heard"] is not None:
            names = self.model.model.audio_projector.names(item["sounds"][None].to(self.device))[0]
            tokens += [item["heard"].float().to(self.device), names]
            counts.append(("audio", len(item["heard"]) + len(names)))
        slot = kind if kind in ("image", "audio") else "video"
        row = shared([
            encode_sample(
                self.tokenizer, a.question, a.answer, slot, tuple(counts), self.model.config, earlier=a.earlier
            )
            for a in found
        ])  # fmt: skip
        media = torch.cat(tokens)
        if kept is not None and len(kept) < 4:
            row, media = fewer(row, media, kept, self.model.config.text_config.vocab_size)
        return {"kind": kind, "row": row, "media": media}

    # ── steps ──────────────────────────────────────────────────────────────────────────────────────────────────

    def loss(self, sample: dict[str, Any]) -> Tensor:
        """Mean loss of a sequence's supervised tokens."""
        row: Sequenced = sample["row"]
        ids = torch.tensor(row.ids, device=self.device)
        vocabulary = self.model.config.text_config.vocab_size
        embeddings = self.model.get_input_embeddings()(ids.clamp(max=vocabulary - 1))
        if sample["kind"] != "text":
            embeddings = embeddings.masked_scatter((ids >= vocabulary)[:, None], sample["media"])
        labels = torch.tensor(row.labels, device=self.device)[1:]
        inputs = {
            "inputs_embeds": embeddings[None], "position_ids": torch.tensor(row.positions, device=self.device)[None],
            "attention_mask": segment_mask(torch.tensor(row.segments, device=self.device)[None]),
        }  # fmt: skip
        wanted = labels != IGNORE
        logits = self._logits(inputs, wanted)
        if sample["kind"] == "text":
            with torch.no_grad(), adapters_off(self.model):
                base = self._logits(inputs, wanted).float().log_softmax(-1)
            return F.kl_div(logits.float().log_softmax(-1), base, reduction="batchmean", log_target=True)
        return F.cross_entropy(logits.float(), labels[wanted])

    def _logits(self, inputs: dict[str, Tensor], wanted: Tensor) -> Tensor:
        hidden = self.model.model.language_model(**inputs, use_cache=False).last_hidden_state[0, :-1]
        return F.linear(hidden[wanted].to(self.precision), self.head)

    def run(self) -> None:
        args = self.args
        args.out.mkdir(parents=True, exist_ok=True)
        self._text()
        self.refresh()
        self.sound_names = tuple(sorted(json.loads((args.parts / "sound_classes.json").read_text())))
        self.thing_names = tuple(
            sorted({t["name"] for i in self.items["clips"] for t in i["scene"]["things"]} | set(PHOTO_CLASSES))
        )
        optimizer = torch.optim.AdamW(self.learned.values(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01)
        start = self._restore(optimizer)
        begun, saved, recent = time.time(), time.time(), []
        for step in range(start, args.steps):
            rng = np.random.default_rng((args.seed, step))
            rate = (
                args.rate
                * min(1, (step + 1) / WARMUP)
                * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses: dict[str, list[float]] = {}
            for _ in range(SEQUENCES):
                sample = self.sequence(rng)
                with self._autocast():
                    loss = self.loss(sample)
                (loss / SEQUENCES).backward()
                losses.setdefault(sample["kind"], []).append(float(loss.detach()))
            torch.nn.utils.clip_grad_norm_(self.learned.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            recent.append({k: sum(v) / len(v) for k, v in losses.items()})
            if step % 5 == 4:
                spent = f"{(time.time() - begun) / (step + 1 - start):.1f} s a step"
                means = {k: np.mean([r[k] for r in recent if k in r]) for k in sorted({k for r in recent for k in r})}
                print(f"step {step + 1}: {', '.join(f'{k} {v:.3f}' for k, v in means.items())}; {spent}", flush=True)
                recent = []
                self.refresh()
            if time.time() - saved > 200 or step + 1 == args.steps:
                self._save(optimizer, step + 1)
                saved = time.time()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def _text(self) -> None:
        """The base model's answers to a few questions."""
        path = self.args.out / "chat.json"
        if not path.is_file():
            from chat import distil, questions

            asked, pairs = [*TEXT, *questions()[: self.args.questions]], []
            with self._autocast(), adapters_off(self.model):
                for part, sampled in ((asked[:GREEDY], False), (asked[GREEDY:], True)):
                    pairs += distil(self.model, self.tokenizer, asked=part, new_tokens=48, batch=32, sampled=sampled)
            path.write_text(json.dumps(pairs, indent=0), encoding="utf-8")
        self.texts = [(q, a) for q, a in json.loads(path.read_text(encoding="utf-8"))]

    def _save(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        out = self.args.out
        state = {
            "step": step,
            "learned": {n: p.detach() for n, p in self.learned.items()},
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, out / "checkpoint.part")
        (out / "checkpoint.part").replace(out / "checkpoint.pt")
        tensors = {
            k.removeprefix(LANGUAGE_PREFIX).removeprefix("model.language_model."): v
            for k, v in adapter_state_dict(self.model).items()
        }
        save_file(
            {k: v.to("cpu", torch.float16).contiguous() for k, v in tensors.items()},
            out / "adapters.part",
            metadata={"format": "pt"},
        )
        (out / "adapters.part").replace(out / "adapters.safetensors")

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        path = self.args.out / "checkpoint.pt"
        if not path.is_file():
            return 0
        state = torch.load(path, map_location=self.device)
        with torch.no_grad():
            for name, parameter in self.learned.items():
                parameter.copy_(state["learned"][name])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("gguf", "parts", "classifier", "yamnet", "names", "encoded", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--rate", type=float, default=RATE, help="greatest rate of learning")
    parser.add_argument("--start", type=Path, help="adapters to start from (default: nano 1's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=300)
    parser.add_argument("--questions", type=int, default=858, help="text-only questions")
    parser.add_argument("--text", type=float, default=0.12, help="share of sequences that are text alone")
    Trainer(parser.parse_args()).run()


if __name__ == "__main__":
    main()
