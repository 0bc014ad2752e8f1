"""Measure time and memory of a training step, next to a plain training loop.

    python benchmarks/training.py                              the small shape: about two minutes on two cores
    python benchmarks/training.py --shape 05b --repeat 2       Qwen2-0.5B and CLIP-L: several minutes
    python benchmarks/training.py --rows connector --json report.json

Rows: `connector` (the phase video_align) and `lora` (connector, and adapters of rank 16 in the language model), each
from pixels and from `cached` features of the frozen encoder. The plain loop uses the same weights, loss and AdamW (not
fused, as the public implementation runs it), but encodes the frames in every step with eager attention, keeps every
layer's output, convolves with channels first, and computes float32 logits of every position. Each loop runs in its own
process; they alternate (A B A B).

How to read it: "speed-up" is plain time over our time. "peak" is the memory of a step beyond the loaded model,
including gradients and optimiser state; "predicted" is what `--dry-run` would say about it.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: idle threads must not spin on few cores

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import measure
import plain
from measure import Case, say
from rows_model import QWEN2_05B
from rows_parts import CLIP_L, as_torch, random_model, with_attention
from videollama2.configuration import VideoLlama2Config
from videollama2.device import TRAINING, keep_freed_blocks
from videollama2.linear import use_onednn
from videollama2.phases import PHASES
from videollama2.preflight.training import memory_plan
from videollama2.recompute import keep_less
from videollama2.train.adapters import add_lora
from videollama2.train.settings import Settings

TEXT, SUPERVISED, RANK = 124, 60, 16
SMALL_TEXT = {**QWEN2_05B, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
              "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 64000}  # fmt: skip
SMALL_VISION = {**CLIP_L, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
                "num_attention_heads": 8, "image_size": 224}  # fmt: skip
SHAPES = {"small": (SMALL_VISION, SMALL_TEXT), "05b": (CLIP_L, QWEN2_05B)}
ROWS = ("connector", "connector_cached", "lora", "lora_cached")
GOALS = {"connector": 1.6, "connector_cached": 5.0}  # intended speed-ups over the plain loop


class Step:
    """One micro-batch, and both loops' step on it, from the same weights."""

    def __init__(self, shape: str, lora: bool) -> None:
        vision, text = SHAPES[shape]
        torch.manual_seed(4)
        config = VideoLlama2Config(vision_config=vision, text_config=text, connector_type="stc_connector_v35")
        self.model = random_model(config)
        self.settings = Settings(lora_rank=RANK if lora else 0)
        self.phase = PHASES["video_tune" if lora else "video_align"].but(
            learns={"connector", "language_model"} if lora else {"connector"}, frames=8, precision="fp32", batch=1
        )
        if lora:
            add_lora(self.model, self.settings)
        use_onednn(self.model)  # as training does, the next line too
        keep_less(self.model.model.language_model)
        self.phase.apply(self.model)
        self.model.train()
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        # a full step that leaves the weights unchanged; fused, as `train.loop.build_optimizer` does
        self.optimizer = torch.optim.AdamW(self.learning, lr=0.0, fused=True)
        inner = self.model.model
        self.encoder = with_attention(inner.vision_encoder, "eager")  # as the public implementation runs it
        self.language_model, self.head = as_torch(inner.language_model), as_torch(self.model.lm_head)
        self.connector = plain.Connector(vision["hidden_size"], text["hidden_size"], 0)
        self.connector.load_state_dict(inner.connector.state_dict(), assign=True)
        self.plain_learning = [*self.connector.parameters(), *(p for p in self.learning if _adapter(p, self.model))]
        self.plain_optimizer = torch.optim.AdamW(self.plain_learning, lr=0.0)
        self.pixels = torch.randn(1, 8, 3, vision["image_size"], vision["image_size"])
        with torch.no_grad():
            tokens = inner.get_video_features(self.pixels).pooler_output[0].shape[0]
        self.ids = torch.randint(0, text["vocab_size"], (1, tokens + TEXT))
        self.ids[:, :tokens] = config.video_token_id
        self.labels = self.ids.clone()
        self.labels[:, :-SUPERVISED] = -100
        self.length = self.ids.shape[1]
        with torch.no_grad():
            self.features = [inner.encode_frames(self.pixels[0])]

    def ours(self) -> list[Tensor]:
        """Our step, from pixels."""
        keep_freed_blocks(TRAINING)  # as `train` does
        loss = self.model(
            input_ids=self.ids, pixel_values_videos=self.pixels, labels=self.labels, skip_logits=True
        ).loss
        return self._finish(loss, self.optimizer)

    def cached(self) -> list[Tensor]:
        """Our step, from features of the frozen encoder, as the feature cache returns them."""
        keep_freed_blocks(TRAINING)
        loss = self.model(input_ids=self.ids, video_features=self.features, labels=self.labels, skip_logits=True).loss
        return self._finish(loss, self.optimizer)

    def plain(self) -> list[Tensor]:
        """The plain step, from pixels."""
        states = self.encoder(self.pixels[0], output_hidden_states=True).hidden_states
        video = self.connector(states[-2][None, :, 1:])
        inner = self.model.model
        words = inner.get_input_embeddings()(self.ids[:, -TEXT:])
        hidden = self.language_model(inputs_embeds=torch.cat([video, words], 1), use_cache=False).last_hidden_state
        logits = self.head(hidden).float()
        target = self.labels[:, 1:].reshape(-1)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), target, ignore_index=-100)
        return self._finish(loss, self.plain_optimizer)

    def _finish(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1e9)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return [loss.detach(), norm.detach()]

    def predicted(self) -> float:
        """MiB that `memory_plan` predicts beyond the loaded weights."""
        plan = memory_plan(
            self.model.config, self.phase, self.settings, length=self.length, supervised=SUPERVISED, gpus=(1,)
        )
        share = plan.on(1)
        return (share.total - share.frozen - share.learning) / 2**20


def _adapter(parameter: Tensor, model: Any) -> bool:
    return any(parameter is p for name, p in model.named_parameters() if "lora_" in name)


def case_of(name: str, shape: str) -> Case:
    """The case of one row; its note is the memory that is predicted for our step, in MiB."""
    kind, _, cached = name.partition("_")
    step = Step(shape, kind == "lora")
    ours: Callable[[], Any] = step.cached if cached else step.ours
    return Case(
        {"ours": ours, "plain": step.plain},
        tokens=step.length,
        goal=GOALS.get(name),
        tolerance=1e-2,
        slow=shape == "05b",
        note="" if cached else str(step.predicted()),
    )


def row(name: str, shape: str, repeat: int, rates: measure.Rates) -> dict[str, Any]:
    """Measure one row, each loop in a process of its own."""
    with measure.closing(measure.apart(partial(case_of, name, shape))) as case:
        done = measure.run_case(f"{shape}.{name}", case, repeat, measure.CPU, rates)
    return {**done.as_dict(), "rates": asdict(rates), "predicted_mib": float(done.note) if done.note else None}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    heads = ("row", "plain s", "ours s", "speed-up", "speed-up by CPU s", "goal", "tokens/s ours / plain")
    heads += ("peak MiB ours / plain", "predicted", "difference", "load")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for r in rows:
        ours, other = r["timings"]["ours"], r["timings"]["plain"]
        slower = r["tokens_per_s"] * ours["wall_median"] / other["wall_median"]
        cells = [r["name"], f"{other['wall_median']:.3g}", f"{ours['wall_median']:.3g}", f"{r['ratio']:.2f}"]
        cells += [f"{r['cpu_ratio']:.2f}", f"{r['goal'] or ''}", f"{r['tokens_per_s']:.0f} / {slower:.0f}"]
        cells += [f"{ours['peak_mib'] or 0:.0f} / {other['peak_mib'] or 0:.0f}"]
        cells += ["" if r["predicted_mib"] is None else f"{r['predicted_mib']:.0f}"]
        cells += [f"{r['difference']:.1e}", f"{r['load']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small", help="model sizes; default: %(default)s")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), help="default: all")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each variant; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the results to this file and, as Markdown, beside it")
    given = parser.parse_args()
    rows, machine = [], measure.machine(measure.CPU)
    rates = measure.machine_rates(measure.CPU, torch.float32)
    for name in given.rows:
        rows.append(row(name, given.shape, given.repeat, rates))
        say(table(rows[-1:]) if len(rows) == 1 else table(rows[-1:]).splitlines()[-1])
        if given.json is not None:
            report = {"machine": machine, "rows": rows}
            given.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            text = "\n".join([*measure.heading(machine), table(rows)])
            given.json.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
