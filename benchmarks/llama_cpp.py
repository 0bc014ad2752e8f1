"""A 7B model on a CPU: the shape of 2.1-7b-av with random weights, its language model in llama.cpp.

    python benchmarks/llama_cpp.py build FOLDER                  7 GB on disk: encoders, and a Q4_K_M file
    python benchmarks/llama_cpp.py answer FOLDER --json report.json [--frames 8]
    python benchmarks/llama_cpp.py rates FOLDER --json report.json

`answer` runs `videollama2 ask` on 30 s of video with audio in a process of its own, and reports its stages and peak
memory. `rates` compares our decoding with a bare llama_decode loop on the same file, in turns, so that the ratio is of
one machine at one time: with our settings, and with llama.cpp's defaults, as its own llama-bench has them. With
OMP_NUM_THREADS=1 it counts CPU time. Each adds its rows to the report, and writes report.md beside it.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: idle threads must not spin on few cores

import argparse
import ctypes
import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from measure import machine
from videollama2.backends.llama_cpp import context, library
from videollama2.backends.llama_cpp.encoders import EncodersForGeneration
from videollama2.backends.llama_cpp.families import HEAD, PREFIX, add_settings, family_of, gguf_tensors
from videollama2.backends.llama_cpp.header import read_gguf
from videollama2.backends.llama_cpp.quantise import TYPES, quantise, tensor_kind
from videollama2.backends.llama_cpp.tokens import add_tokenizer
from videollama2.data.composed.clips import SOUND_RATE_HZ, write_clip
from videollama2.media import PixelSettings
from videollama2.processing import VideoLlama2Processor
from videollama2.text.tokenization import load_tokenizer
from videollama2.weights.catalog import find
from videollama2.weights.locate import locate
from videollama2.weights.meta import ShapesOnly

MODEL, TYPE, SECONDS = "2.1-7b-av", "Q4_K_M", 30
QUESTION = "What do you see and hear in this video?"
STAGES = {
    "decode_seconds": "reading s", "encode_seconds": "encoding s", "prefill_seconds": "prompt s",
    "generate_seconds": "generating s", "total_seconds": "answer s", "tokens_per_second": "tokens/s",
}  # fmt: skip
TILE = 2048  # rows of random weights that are quantised; a matrix repeats them


class Shape:
    """A tensor of random weights."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, "F32"

    def __getitem__(self, index: Any) -> torch.Tensor:
        return torch.ones(self.shape)[index]  # norms; matrices are made by `random_blocks`


@functools.cache
def random_blocks(rows: int, channels: int, kind: Any) -> np.ndarray:
    """Quantised random weights."""
    values = np.random.default_rng(rows + channels).standard_normal((min(rows, TILE), channels), np.float32)
    tile = quantise(values * 0.02, kind)
    return np.ascontiguousarray(np.tile(tile, (-(-rows // TILE), 1))[:rows])


def build(folder: Path) -> None:
    """Write the folder that `convert 2.1-7b-av FOLDER --gguf Q4_K_M` would write, of random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = find(MODEL).config()
    nano, _ = locate("nano")
    tokenizer = load_tokenizer(nano)
    pixels = PixelSettings.from_dict(
        {
            "image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384},
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        }
    )  # fmt: skip
    config.save_pretrained(folder)
    VideoLlama2Processor(tokenizer, config, pixels).save_pretrained(folder)
    torch.manual_seed(0)
    encoders = EncodersForGeneration(config).to(torch.bfloat16)
    save_file({k: v.contiguous().clone() for k, v in encoders.state_dict().items()}, folder / "model.safetensors")
    del encoders
    write_random_gguf(config.text_config, tokenizer, gguf_of(folder))


def write_random_gguf(text: Any, tokenizer: Any, path: Path) -> None:
    """The language model's file."""
    from transformers import AutoModelForCausalLM

    with ShapesOnly(), torch.device("meta"):
        state = AutoModelForCausalLM.from_config(text).state_dict()
    names = {n: n if n == HEAD else PREFIX + n.removeprefix("model.") for n in state}
    tensors = gguf_tensors(text, {names[n]: Shape(tuple(t.shape)) for n, t in state.items()})
    kinds = [tensor_kind(t.name, t.shape, TYPE, layers=text.num_hidden_layers, experts=0, tied=False) for t in tensors]
    writer = gguf.GGUFWriter(path, family_of(text).architecture)
    writer.add_file_type(TYPES[TYPE][0])
    add_settings(writer, text)
    add_tokenizer(writer, tokenizer, text.vocab_size)
    for tensor, kind in zip(tensors, kinds, strict=True):
        size = int(np.prod(gguf.quant_shape_to_byte_shape(tensor.shape, kind)))
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, kind in zip(tensors, kinds, strict=True):
        values = tensor.read() if len(tensor.shape) == 1 else random_blocks(*tensor.shape, kind)
        writer.write_tensor_data(values)
    writer.close()


def gguf_of(folder: Path) -> Path:
    """The language model's file."""
    return folder / f"language_model.{TYPE}.gguf"


def write_media(path: Path) -> Path:
    """30 s of video with audio."""
    rng = np.random.default_rng(3)
    scenes = rng.integers(0, 255, (4, 180, 320, 3), np.uint8)
    sound = np.sin(np.arange(SECONDS * SOUND_RATE_HZ) * 0.1).astype(np.float32) * 0.3
    write_clip(path, np.stack([scenes[i // 25 % 4] for i in range(SECONDS * 10)]), sound, seconds=SECONDS)
    return path


def answer(args: argparse.Namespace) -> dict[str, Any]:
    """One answer by the command line, in a process of its own."""
    clip = write_media(args.folder / "clip.mp4")
    command = [sys.executable, "-m", "videollama2", "ask", clip, QUESTION, "--model", args.folder, "--json"]
    command += ["--protocol", args.protocol, "--max-new-tokens", args.tokens]
    command += [] if args.frames is None else ["--frames", args.frames]
    code = (
        "import resource, subprocess, sys\n"
        "made = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(made.stdout.decode()); print(used.ru_maxrss, used.ru_utime + used.ru_stime)\n"
        "sys.exit(made.returncode)"
    )
    started = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code, *map(str, command)], stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - started
    *text, used = out.stdout.decode().strip().splitlines()
    peak, cpu = used.split()
    found = json.loads("\n".join(text))
    receipt = found["receipt"]
    return {
        "protocol": receipt["protocol"], "frames": receipt["video"]["frames_used"],
        "video tokens": receipt["video"]["tokens"], "audio tokens": receipt["audio"]["tokens"],
        "prompt": receipt["prompt_tokens"], "generated": receipt["generated_tokens"], "encoders": receipt["dtype"],
        "seconds": round(seconds, 1), "CPU s": round(float(cpu), 1), "peak GiB": round(int(peak) / 2**20, 2),
        **{STAGES[name]: round(value, 2) for name, value in found["timings"].items()},
    }  # fmt: skip


def rates(folder: Path, positions: int, rounds: int = 4, tokens: int = 8) -> list[dict[str, Any]]:
    """Tokens per second of our decoding and of bare loops, after as many positions, in turns."""
    ids = np.arange(positions, dtype=np.int32) % 1000
    weights = context.Weights(read_gguf(gguf_of(folder)))
    room = positions + rounds * tokens + 64
    loops = {"ours": Ours(weights), "bare": Bare(weights, weights.pointer, room)}
    loops["defaults"] = Bare(weights, with_defaults(weights), room)
    prompt, decoding = ({name: [] for name in loops} for _ in range(2))
    for name, loop in loops.items():
        prompt[name].append(positions / seconds_of(lambda: loop.decode(ids)))  # noqa: B023
    for _ in range(rounds):
        for name, loop in loops.items():
            decoding[name].append(tokens / seconds_of(lambda: [loop.decode(ids[i : i + 1]) for i in range(tokens)]))  # noqa: B023
    return [
        {"what": what, "positions": positions, **{name: round(statistics.median(r), 2) for name, r in found.items()}}
        for what, found in (("prompt", prompt), ("decoding", decoding))
    ]


def seconds_of(work: Callable[[], Any]) -> float:
    """By the wall clock; of one thread, which llama.cpp shares with us, CPU time, which other processes hardly move."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    work()
    return clock() - started


def with_defaults(weights: context.Weights) -> Any:
    """The same file as llama.cpp loads it by default: matrices repacked, in a second copy."""
    params = weights.library.llama_model_default_params()
    params.n_gpu_layers = 0
    return weights.library.llama_model_load_from_file(str(weights.file.path).encode(), params)


class Ours:
    """One sequence in our memory of keys and values, as an answer computes it."""

    def __init__(self, weights: context.Weights) -> None:
        self._weights, self._cells = weights, context.Cells(weights, torch.get_num_threads())
        self._slot = self._cells.slot()

    def decode(self, ids: np.ndarray) -> int:
        """Compute a prompt's embeddings, or one token; returns the most likely next one."""
        if len(ids) == 1:
            return int(self._cells.step([(self._slot, int(ids[0]))]).argmax())
        rows = self._weights.file.rows("token_embd.weight", ids.astype(np.int64))
        return int(self._cells.prefill([(self._slot, rows)]).argmax())


class Bare:
    """llama_decode and nothing else: one sequence, tokens in, greedy out, default parameters."""

    def __init__(self, weights: context.Weights, model: Any, positions: int) -> None:
        self._library, self._vocab = weights.library, weights.vocab_size
        params = self._library.llama_context_default_params()
        params.n_ctx = positions
        params.n_threads = params.n_threads_batch = torch.get_num_threads()
        self._context, self._weights = self._library.llama_init_from_model(model, params), weights

    def decode(self, ids: np.ndarray) -> int:
        """Compute tokens; returns the most likely next one."""
        for first in range(0, len(ids), 512):
            part = np.ascontiguousarray(ids[first : first + 512])
            pointer = part.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            made = self._library.llama_decode(self._context, library.BatchStruct(len(part), pointer))
            assert made == 0
        logits = np.ctypeslib.as_array(self._library.llama_get_logits_ith(self._context, -1), (self._vocab,))
        return int(logits.argmax())


def add(report: Path | None, new: dict[str, Any]) -> None:
    """Print rows and add them to the report, whose table is written again."""
    print(json.dumps(new, indent=1))
    if report is None:
        return
    found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    for name, rows in new.items():
        found[name] = found.get(name, []) + rows
    report.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    report.with_suffix(".md").write_text(markdown(found), encoding="utf-8")


def markdown(report: dict[str, list[dict[str, Any]]]) -> str:
    """The report as a page."""
    facts = report["machine"][0]
    lines = [f"# {MODEL} ({TYPE}) on a CPU, {facts['date']}", ""]
    lines += [f"    {run['command']}" for run in report["machine"]]
    loads = ", ".join(str(run["load_at_start"]) for run in report["machine"])
    lines += ["", f"{facts['processor']}, {facts['threads']} threads, {facts['capability']}, torch {facts['torch']}."]
    lines += [f"Load at the start of each run: {loads}. Random weights; {SECONDS} s of video with audio."]
    if answers := report.get("answers"):
        lines += ["", "## One answer, the whole process", "", *table(answers)]
    if measured := report.get("rates"):
        rows = [row | {f"ours / {n}": f"{row['ours'] / row[n]:.2f}" for n in ("bare", "defaults")} for row in measured]
        lines += ["", "## Tokens per second", "", *table(rows), ""]
        lines += ["bare: llama_decode alone, same weights. defaults: the same, repacked as llama.cpp does by default."]
    return "\n".join(lines) + "\n"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A Markdown table with a column for each key."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[str(row.get(name, "")) for name in names] for row in rows]
    return [f"| {' | '.join(line)} |" for line in [names, ["---"] * len(names), *cells]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("build", "answer", "rates"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, help="of the video; default: the model's 16")
    parser.add_argument("--protocol", default="released")
    parser.add_argument("--tokens", type=int, default=32, help="of the answer")
    parser.add_argument("--positions", type=int, default=256, help="before decoding is compared with a bare loop")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    facts = machine(torch.device("cpu"))
    if args.action == "build":
        build(args.folder)
    elif args.action == "answer":
        add(args.json, {"answers": [answer(args)], "machine": [facts]})
    else:
        add(args.json, {"rates": rates(args.folder, args.positions), "machine": [facts]})


if __name__ == "__main__":
    main()
