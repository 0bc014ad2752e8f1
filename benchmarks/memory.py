"""Compare the peak memory that `videollama2 check` predicts with the measured peak, for loading and for answering.

    python benchmarks/memory.py                      random models of several shapes, in a temporary folder
    python benchmarks/memory.py --only small nano    some of them
    python benchmarks/memory.py --json report.json

Each model is loaded and asked in its own process. Measured peaks are the kernel's (VmHWM), so this needs Linux. A
positive error means that `check` predicted too much.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from videollama2.beats import BeatsConfig
from videollama2.configuration import VideoLlama2Config
from videollama2.modeling import VideoLlama2ForConditionalGeneration

MIB = 1 << 20
CLIP = {"model_type": "clip_vision_model", "patch_size": 14, "num_hidden_layers": 12, "num_attention_heads": 12}
QWEN = {"model_type": "qwen2", "max_position_embeddings": 8192}

# name → (description, configuration)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mid": (
        "493 M: CLIP-B, full BEATs, 283 M Qwen2",
        {
            "vision_config": {**CLIP, "hidden_size": 768, "intermediate_size": 3072, "image_size": 224},
            "audio_config": BeatsConfig(),
            "num_frames": 16,
            "text_config": {
                **QWEN, "vocab_size": 50_000, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 16,
                "num_attention_heads": 16, "num_key_value_heads": 4,
            },
        },
    ),
    "wide": (
        "413 M: SigLIP-B at 384 px, first-generation connector, 216 M Mistral",
        {
            "vision_config": {
                **CLIP, "model_type": "siglip_vision_model", "hidden_size": 768, "intermediate_size": 3072,
                "image_size": 384,
            },
            "connector_type": "stc_connector",
            "num_frames": 8,
            "text_config": {
                "model_type": "mistral", "vocab_size": 32_000, "hidden_size": 1536, "intermediate_size": 4096,
                "num_hidden_layers": 6, "num_attention_heads": 12, "num_key_value_heads": 4, "sliding_window": None,
            },
        },
    ),
    "small": (
        "174 M: 32 frames at 336 px and full BEATs on a 58 M Qwen2; activations outweigh weights",
        {
            "vision_config": {
                **CLIP, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8,
                "num_hidden_layers": 6, "image_size": 336,
            },
            "audio_config": BeatsConfig(),
            "num_frames": 32,
            "text_config": {
                **QWEN, "vocab_size": 32_000, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
                "num_attention_heads": 8, "num_key_value_heads": 2,
            },
        },
    ),
    "nano": (
        "179 M: DINOv2-S, small BEATs, 135 M Llama with a tied head",
        {
            "vision_config": {
                "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6,
                "image_size": 112, "patch_size": 14,
            },
            "audio_config": BeatsConfig(
                encoder_layers=6, encoder_embed_dim=384, encoder_ffn_embed_dim=1536, encoder_attention_heads=6
            ),
            "num_frames": 8,
            "tie_word_embeddings": True,
            "text_config": {
                "model_type": "llama", "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
                "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                "max_position_embeddings": 8192, "tie_word_embeddings": True,
            },
        },
    ),
}  # fmt: skip


def measure(folder: Path, dtype: str) -> dict[str, Any]:
    """Predict, load and answer in this process; predicted and measured bytes of each."""
    import videollama2.engine  # noqa: F401  what answering imports
    from videollama2.preflight.check import check_model

    made = check_model(folder, dtype=dtype, device="cpu", new_tokens=8)
    need = made.memory[0]
    _reset_peak()
    model = VideoLlama2ForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    loading = _peak()
    _reset_peak()
    _answer(model, made.tokens["text"])
    return {
        "baseline": need.baseline,
        "loading": {"predicted": need.loading, "measured": loading},
        "answering": {"predicted": need.answering, "measured": _peak()},
        "stages": need.stages,
        "prompt": made.tokens["prompt"],
    }


@torch.inference_mode()
def _answer(model: Any, text_tokens: int) -> None:
    config = model.config
    size = config.vision_config.image_size
    seen = model.model.get_video_features(torch.randn(1, config.num_frames, 3, size, size)).pooler_output
    heard = (
        [] if config.audio_config is None else model.model.get_audio_features(torch.randn(1, 2998, 128)).pooler_output
    )
    ids = [1] * text_tokens + [config.video_token_id] * len(seen[0]) + [config.audio_token_id] * sum(map(len, heard))
    row = torch.tensor([ids])
    embeds = model.model.embed_features(row, videos=seen, sounds=heard)
    model.generation_config.eos_token_id = None
    model.generate(inputs_embeds=embeds, attention_mask=torch.ones_like(row), max_new_tokens=8, do_sample=False)


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _run(name: str, stored: str, dtype: str, root: Path) -> dict[str, Any]:
    folder = root / f"{name}-{stored}"
    if not folder.is_dir():
        torch.manual_seed(0)
        made = VideoLlama2ForConditionalGeneration(VideoLlama2Config(**MODELS[name][1]))
        made.to(getattr(torch, stored)).save_pretrained(folder)
        del made
    command = [sys.executable, __file__, "--measure", str(folder), "--dtype", dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"model": name, "stored": stored, "dtype": dtype, **json.loads(done.stdout.splitlines()[-1])}


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | stored → used | loading, predicted | measured | error | answering, predicted | measured | error |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    return "\n".join([*lines, *map(_line, rows)])


def _line(row: dict[str, Any]) -> str:
    cells = [row["model"], f"{row['stored']} → {row['dtype']}"]
    for what in ("loading", "answering"):
        predicted, measured = row[what]["predicted"], row[what]["measured"]
        off = f"{100 * (predicted / measured - 1):+.1f} %"
        cells += [f"{predicted / MIB:,.0f} MiB", f"{measured / MIB:,.0f} MiB", off]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure the selected models and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(MODELS), default=list(MODELS), help="models to measure; default: all"
    )
    parser.add_argument("--stored", nargs="+", default=["float32", "bfloat16"], help="dtypes of the files")
    parser.add_argument("--dtype", default="float32", help="dtype to compute in; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.measure is not None:
        print(json.dumps(measure(args.measure, args.dtype)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for name in args.only:
            for stored in args.stored:
                rows.append(_run(name, stored, args.dtype, Path(root)))
                print(_line(rows[-1]), file=sys.stderr)
                if args.json is not None:
                    args.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(_table(rows))


if __name__ == "__main__":
    main()
