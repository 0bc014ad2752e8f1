"""A 7B model on a CPU: the shape of 2.1-7b-av with random weights, its language model in llama.cpp.

    python benchmarks/llama_cpp.py build FOLDER                  7 GB on disk: encoders, and a Q4_K_M file
    python benchmarks/llama_cpp.py measure FOLDER --json report.json [--frames 8]

`measure` answers about 30 s of video with audio in a process of its own, as `videollama2 ask` does, and reports its
stages and peak memory; then it decodes from the same file with a bare llama_decode loop, interleaved with our own
decoding, so that the ratio of their rates is of one machine at one time.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: idle threads must not spin on few cores

import argparse
import ctypes
import functools
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

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


def answer(folder: Path, clip: Path, frames: int | None, tokens: int) -> dict[str, Any]:
    """One answer by the command line, in a process of its own."""
    command = [sys.executable, "-m", "videollama2", "ask", clip, QUESTION, "--model", folder, "--json"]
    command += ["--max-new-tokens", tokens] + ([] if frames is None else ["--frames", frames])
    code = (
        "import resource, subprocess, sys\n"
        "made = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)\n"
        "print(made.stdout.decode()); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(made.returncode)"
    )
    started = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code, *map(str, command)], stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - started
    *text, peak = out.stdout.decode().strip().splitlines()
    found = json.loads("\n".join(text))
    return {
        "seconds": round(seconds, 1), "peak_gib": round(int(peak) / 2**20, 2),
        "frames": found["receipt"]["video"]["frames_used"], "prompt_tokens": found["receipt"]["prompt_tokens"],
        "generated_tokens": found["receipt"]["generated_tokens"], "dtype": found["receipt"]["dtype"],
        "tokens": {"video": found["receipt"]["video"]["tokens"], "audio": found["receipt"]["audio"]["tokens"]},
        **{name: round(value, 2) for name, value in found["timings"].items()},
    }  # fmt: skip


def rates(folder: Path, positions: int, rounds: int = 4, tokens: int = 8) -> dict[str, float]:
    """Tokens per second of our decoding and of a bare loop, after as many positions, in turns."""
    weights = context.Weights(read_gguf(gguf_of(folder)))
    cells = context.Cells(weights, torch.get_num_threads())
    slot, bare = cells.slot(), Bare(weights, positions + 2 * rounds * tokens + 64)
    ids = np.arange(positions, dtype=np.int32) % 1000
    embeds = weights.file.rows("token_embd.weight", ids.astype(np.int64))
    cells.prefill([(slot, embeds)])
    bare.decode(ids)
    ours, theirs = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        for token in range(tokens):
            cells.step([(slot, token)]).argmax()
        ours.append(tokens / (time.perf_counter() - started))
        started = time.perf_counter()
        for token in range(tokens):
            bare.decode(np.array([token], np.int32))
        theirs.append(tokens / (time.perf_counter() - started))
    found = {"positions": positions, "ours": statistics.median(ours), "bare": statistics.median(theirs)}
    return {name: round(value, 2) for name, value in (found | {"ratio": found["ours"] / found["bare"]}).items()}


class Bare:
    """llama_decode and nothing else: one sequence, tokens in, greedy out, default parameters."""

    def __init__(self, weights: context.Weights, positions: int) -> None:
        self._library, self._at = weights.library, 0
        params = self._library.llama_context_default_params()
        params.n_ctx = positions
        params.n_threads = params.n_threads_batch = torch.get_num_threads()
        self._context, self._vocab = self._library.llama_init_from_model(weights.pointer, params), weights.vocab_size
        self._weights = weights

    def decode(self, ids: np.ndarray) -> int:
        """Compute tokens; returns the most likely next one."""
        for first in range(0, len(ids), 512):
            part = np.ascontiguousarray(ids[first : first + 512])
            pointer = part.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            made = self._library.llama_decode(self._context, library.BatchStruct(len(part), pointer))
            assert made == 0
        logits = np.ctypeslib.as_array(self._library.llama_get_logits_ith(self._context, -1), (self._vocab,))
        return int(logits.argmax())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The report."""
    clip = write_media(args.folder / "clip.mp4")
    report: dict[str, Any] = {
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "model": MODEL, "type": TYPE, "gguf_gib": round(gguf_of(args.folder).stat().st_size / 2**30, 2),
    }  # fmt: skip
    if not args.only_rates:
        report["answer"] = answer(args.folder, clip, args.frames, args.tokens)
    if not args.only_answer:
        report["decoding"] = rates(args.folder, args.positions)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("build", "measure"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, help="of the video; default: the model's 16")
    parser.add_argument("--tokens", type=int, default=32, help="of the answer")
    parser.add_argument("--positions", type=int, default=256, help="before decoding is compared with a bare loop")
    parser.add_argument("--only-answer", action="store_true")
    parser.add_argument("--only-rates", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.action == "build":
        build(args.folder)
        return
    report = measure(args)
    print(json.dumps(report, indent=1))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
