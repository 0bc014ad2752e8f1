"""`convert --gguf`: what is in the file, and the folder that llama.cpp answers from."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file

import videollama2
from videollama2.backends.llama_cpp.convert import convert_gguf
from videollama2.backends.llama_cpp.header import read_gguf
from videollama2.backends.llama_cpp.quantise import TYPES, quantise, tensor_kind
from videollama2.cli import main
from videollama2.errors import StorageError, UsageError

from ... import tiny
from .models import checkpoint, gguf_of

Q = "what do you see and hear?"


def needs_wheel() -> None:
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")


def test_a_folder_that_needs_nothing_else(tmp_path: Path) -> None:
    """It has the encoders unchanged, no tensor of the language model, and answers by itself."""
    needs_wheel()
    source, target = checkpoint(tmp_path / "source"), tmp_path / "target"
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    result = convert_gguf(source, target, "f32")
    assert result.converted == {str(source): "language_model.F32.gguf"} and not result.already_done
    kept, whole = load_file(target / "model.safetensors"), load_file(source / "model.safetensors")
    assert kept and all((kept[name] == whole[name]).all() for name in kept)
    assert not any("language_model" in name or "lm_head" in name for name in kept)
    engine = videollama2.load(target, dtype="float32")  # the engine that the folder is for
    expected = videollama2.load(source, dtype="float32").answer(clip, Q, max_new_tokens=12)
    answer = engine.answer(clip, Q, max_new_tokens=12)
    assert answer.text == expected.text and answer.receipt.engine == "llama.cpp"
    assert answer.receipt.video == expected.receipt.video and answer.receipt.audio == expected.receipt.audio
    with pytest.raises(UsageError, match=r"as GGUF only; use --engine llama\.cpp"):
        videollama2.load(target, engine="torch")
    assert convert_gguf(source, target, "F32").already_done
    assert not convert_gguf(source, target, "F16").already_done


def test_the_language_model_is_never_in_torch(tmp_path: Path) -> None:
    needs_wheel()
    source = checkpoint(tmp_path / "source")
    gguf_of(source)
    engine = videollama2.load(source, engine="llama.cpp", dtype="float32")
    names = [name for name, _ in engine.model.named_parameters()]
    assert names and not any("language_model" in name or "lm_head" in name for name in names)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    needs_wheel()
    source, target = checkpoint(tmp_path / "source"), tmp_path / "target"
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))

    def run(*argv: str) -> str:
        monkeypatch.setattr(sys, "argv", ["videollama2", *argv])
        assert main(list(argv)) == 0
        return capsys.readouterr().out

    assert "language_model.Q8_0.gguf" in run("convert", str(source), str(target), "--gguf", "Q8_0")
    told = json.loads(run("ask", clip, Q, "--model", str(target), "--max-new-tokens", "4", "--json"))
    receipt = told["receipt"]
    assert (receipt["engine"], receipt["arithmetic"]) == ("llama.cpp", "Q8_0")
    assert receipt["weights"] == "language_model.Q8_0.gguf" and receipt["audio"]["state"] == "used"


def test_a_file_alone(tmp_path: Path) -> None:
    source, target = checkpoint(tmp_path / "source"), tmp_path / "made" / "lm.gguf"
    convert_gguf(source, target, "F16")
    assert read_gguf(target).type_name == "F16"
    assert sorted(p.name for p in target.parent.iterdir()) == ["lm.gguf"]
    with pytest.raises(UsageError, match="exists; delete it"):
        convert_gguf(source, target, "F16")
    with pytest.raises(UsageError, match="never written to"):
        convert_gguf(source, source / "inside", "F16")


def test_what_other_programs_read(tmp_path: Path) -> None:
    """By the gguf package's own reader: sizes, tokens, special ids and the chat template."""
    path = gguf_of(checkpoint(tmp_path / "source"))
    fields = gguf.GGUFReader(path).fields
    words = tiny.tokenizer()
    assert fields["qwen2.block_count"].contents() == 2 and fields["qwen2.attention.head_count_kv"].contents() == 2
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert [tokens[i] for i in range(len(words))] == words.convert_ids_to_tokens(list(range(len(words))))
    assert len(tokens) == 320 and fields["tokenizer.ggml.eos_token_id"].contents() == words.eos_token_id
    assert fields["tokenizer.chat_template"].contents() == words.chat_template


@pytest.mark.parametrize("type_name", TYPES)
def test_rows_of_the_embedding(tmp_path: Path, type_name: str) -> None:
    """Those that a prompt needs are read and dequantised alone."""
    if type_name in ("Q4_K_M", "Q5_K_M"):
        needs_wheel()
    source = checkpoint(tmp_path / "source", hidden_size=256)
    file = read_gguf(gguf_of(source, type_name))
    whole = load_file(source / "model.safetensors")["model.language_model.embed_tokens.weight"].numpy()
    found = file.rows("token_embd.weight", np.array([3, 319, 3]))
    error = np.abs(found - whole[[3, 319, 3]]).max() / np.abs(whole).max()
    assert error <= {"F32": 0, "F16": 1e-3, "Q8_0": 0.01, "Q5_K_M": 0.04, "Q4_K_M": 0.08}[type_name]


def test_the_mixtures_are_llama_cpps() -> None:
    """Of 28 layers, those with six bits in Q4_K_M, as llama.cpp's llama_tensor_get_type chooses them."""
    sizes = {"layers": 28, "experts": 0, "tied": False}
    kinds = [tensor_kind(f"blk.{i}.ffn_down.weight", (3584, 18944), "Q4_K_M", **sizes) for i in range(28)]
    more = [i for i, kind in enumerate(kinds) if kind is Kind.Q6_K]
    assert more == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]
    assert tensor_kind("output.weight", (152064, 3584), "Q4_K_M", **sizes) is Kind.Q6_K
    assert tensor_kind("token_embd.weight", (152064, 3584), "Q4_K_M", **sizes) is Kind.Q4_K
    assert tensor_kind("token_embd.weight", (49152, 576), "Q4_K_M", **(sizes | {"tied": True})) is Kind.Q8_0
    assert tensor_kind("blk.5.attn_q.weight", (576, 576), "Q4_K_M", **sizes) is Kind.Q5_0
    assert tensor_kind("blk.5.attn_q.weight", (40, 40), "Q8_0", **sizes) is Kind.F16
    assert tensor_kind("blk.0.attn_norm.weight", (64,), "F16", **sizes) is Kind.F32


def test_threads_convert_as_one_call_does() -> None:
    needs_wheel()
    values = np.random.default_rng(0).standard_normal((5000, 1024), np.float32)
    parts = np.concatenate([quantise(values[i : i + 1000], Kind.Q4_K) for i in range(0, 5000, 1000)])
    assert np.array_equal(quantise(values, Kind.Q4_K), parts)


_SLOW_CONVERT = """
import sys, time
from videollama2.backends.llama_cpp import write
real = write.quantise
def slow(*args):
    print("writing", flush=True)
    time.sleep(0.5)
    return real(*args)
write.quantise = slow
from videollama2.cli import main
main(["convert", *sys.argv[1:], "--gguf", "F16"])
"""


@pytest.mark.parametrize("target", ["file.gguf", "folder"])
def test_killed_in_the_middle(tmp_path: Path, target: str) -> None:
    """No file of that name; the next conversion removes what was written of it."""
    pytest.importorskip("fcntl", reason="Windows has no flock")
    source, place = checkpoint(tmp_path / "source"), tmp_path / "out" / target
    command = [sys.executable, "-c", _SLOW_CONVERT, source, place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "writing" not in (line := process.stdout.readline()):
            assert line or process.poll() is None
        process.kill()
    assert not place.exists() and len([*place.parent.iterdir()]) == 1
    convert_gguf(source, place, "F16")
    assert [*place.parent.iterdir()] == [place]


@pytest.mark.parametrize("target", ["file.gguf", "folder"])
def test_a_full_disk(tmp_path: Path, target: str) -> None:
    """Simulated by a limit on the size of files."""
    pytest.importorskip("resource", reason="Windows has no such limit")
    source, place = checkpoint(tmp_path / "source"), tmp_path / "out" / target
    code = (
        "import resource, sys; from videollama2.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "convert", source, place, "--gguf", "F32"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "can't be written" in done.stderr and "Free some space" in done.stderr
    assert "Traceback" not in done.stderr and not [*place.parent.iterdir()]


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noticed before anything is written."""
    source = checkpoint(tmp_path / "source")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(StorageError, match=r"takes 0\.\d GB, but .* has 0\.0 GB free"):
        convert_gguf(source, tmp_path / "small.gguf", "F32")
    assert [*tmp_path.iterdir()] == [source]
