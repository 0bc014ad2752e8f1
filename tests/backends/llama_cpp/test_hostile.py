"""Damaged and foreign files, missing packages, interruptions, no memory: an error that says so, and no crash."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import videollama2
from videollama2.backends.llama_cpp import context, library, origin
from videollama2.backends.llama_cpp.convert import convert_gguf
from videollama2.backends.llama_cpp.header import read_gguf
from videollama2.errors import (
    CheckpointNotFound,
    ContextOverflow,
    MissingExtra,
    OutOfMemory,
    TensorMismatch,
    UsageError,
    VideoLlama2Error,
    WeightsError,
)

from .models import checkpoint, gguf_of

Q = "what do you see and hear?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = checkpoint(tmp_path_factory.mktemp("models") / "qwen2")
    gguf_of(made)
    return made


def load(folder: Path, **kwargs: Any) -> Any:
    return videollama2.load(folder, engine="llama.cpp", **{"dtype": "float32", **kwargs})


@pytest.mark.parametrize("kept", [0, 3, 30, 0.02, 0.5, 0.999])
def test_a_truncated_file(folder: Path, tmp_path: Path, kept: float) -> None:
    whole = (folder / "language_model.F32.gguf").read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(WeightsError, match=r"truncated|not a complete GGUF"):
        load(folder, gguf=broken)


def test_a_damaged_header_is_an_error_or_harmless(folder: Path, tmp_path: Path) -> None:
    whole = bytearray((folder / "language_model.F32.gguf").read_bytes())
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, 400, 3):
            damaged[place] = int(rng.integers(256))
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(damaged)
        try:
            read_gguf(broken)
        except VideoLlama2Error:
            failed += 1
    assert failed > 30


def test_no_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"nope\.gguf not found"):
        load(folder, gguf=tmp_path / "nope.gguf")
    with pytest.raises(CheckpointNotFound, match="convert MODEL DST --gguf Q8_0"):
        load(folder, gguf="q8_0")
    with pytest.raises(UsageError, match="unknown GGUF type 'Q4_K_X'"):
        load(folder, gguf="Q4_K_X")


def test_several_files(folder: Path, tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "two")
    gguf_of(made), gguf_of(made, "F16")
    with pytest.raises(UsageError, match="choose one with --gguf"):
        load(made)
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    assert load(made, gguf="f16").runner.decoder.arithmetic == "F16"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 32}, "embedding_length 32, expected 64"),
        ({"vocab_size": 330}, "vocabulary 330, expected 320"),
        ({"num_hidden_layers": 3}, "block_count 3, expected 2"),
        ({"family": "llama"}, "architecture llama, expected qwen2"),
    ],
)
def test_another_models_file(folder: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    other = gguf_of(checkpoint(tmp_path / "other", **changes))
    with pytest.raises(TensorMismatch, match=said):
        load(folder, gguf=other)


def test_a_file_of_the_same_shape(folder: Path, tmp_path: Path) -> None:
    """Recognised by the final norm, which every type stores unquantised."""
    other = checkpoint(tmp_path / "other")
    engine = videollama2.load(other, dtype="float32")
    with torch.no_grad():
        engine.model.model.language_model.norm.weight.mul_(1.5)
    engine.model.save_pretrained(other)
    with pytest.raises(TensorMismatch, match="other weights"):
        load(folder, gguf=gguf_of(other))


def change_one_matrix(folder: Path) -> None:
    """As a merged adapter does: the norms stay."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "model.language_model.layers.1.self_attn.v_proj.weight"
    tensors[name] = tensors[name] + 0.02 * torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(1))
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("type_name", ["F32", "Q8_0"])
def test_a_file_of_another_revision(tmp_path: Path, type_name: str) -> None:
    """A model that was trained on after its file was written, with adapters that leave the norms alone."""
    trained = checkpoint(tmp_path / "trained")
    file = gguf_of(trained, type_name)
    change_one_matrix(trained)
    with pytest.raises(
        TensorMismatch, match=r"written from other weights \(layers\.1\.self_attn\.v_proj\.weight differs"
    ):
        load(trained)
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    file.unlink()
    gguf_of(trained, type_name)
    assert load(trained).answer(None, Q, max_new_tokens=2).text


def test_another_revisions_file_beside_encoders_alone(tmp_path: Path) -> None:
    """The converted folder has no weights to compare with, but knows which they were."""
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    source = checkpoint(tmp_path / "source")
    convert_gguf(source, tmp_path / "small", "F32")
    change_one_matrix(source)
    with pytest.raises(TensorMismatch, match="written from other weights"):
        load(tmp_path / "small", gguf=gguf_of(source))
    assert load(tmp_path / "small").answer(None, Q, max_new_tokens=2).text


def test_the_same_weights_in_16_bits(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    made = checkpoint(tmp_path / "made")
    gguf_of(made)
    tensors = load_file(made / "model.safetensors")
    save_file({n: t.bfloat16() for n, t in tensors.items()}, made / "model.safetensors", metadata={"format": "pt"})
    assert load(made).answer(None, Q, max_new_tokens=2).text


def test_a_file_that_states_nothing(folder: Path) -> None:
    """As other programs write it: recognised by its shape and its final norm alone."""
    file = read_gguf(folder / "language_model.F32.gguf")
    for stated in (None, "", "no json", "[]", '{"norm.weight": 3}', 7):
        origin.check_same(stated, str(file.settings[origin.KEY]), file.path, "again.")


@pytest.mark.parametrize("family", ["gemma2", "phi3"])
def test_an_unsupported_family_is_named(tmp_path: Path, family: str) -> None:
    made = checkpoint(tmp_path / family, family)
    with pytest.raises(UsageError, match=f"{family}, which is not supported with llama.cpp; supported: llama"):
        gguf_of(made)
    with pytest.raises(UsageError, match=f"{family}, which is not supported"):
        load(made)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": "torch", "gguf": "F32"}, "--gguf is for --engine llama.cpp"),
        ({"engine": "llama"}, "unknown engine 'llama'"),
        ({"engine": "llama.cpp", "device": "cuda"}, "runs on the CPU, but device is cuda"),
        ({"engine": "llama.cpp", "fp16_weights": True}, "fp16_weights is for --engine torch"),
        ({"engine": "llama.cpp", "device_map": "auto"}, "takes no argument 'device_map'"),
    ],
)
def test_arguments_that_contradict(folder: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        videollama2.load(folder, **given)


def test_the_wheel_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.load.cache_clear()
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtra, match=r"requires xllamacpp, which is not installed: pip install 'videollama2\[gguf\]'"
    ):
        load(folder)


class Longer(ctypes.Structure):
    """A struct of another version: one field more."""

    FUNCTION, DEFAULTS = library.ContextParams.FUNCTION, library.ContextParams.DEFAULTS
    _fields_ = (*library.ContextParams._fields_, ("another", ctypes.c_int64))


@pytest.mark.parametrize("change", ["size", "default"])
def test_a_build_with_another_layout(folder: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    library.load.cache_clear()
    if change == "size":
        monkeypatch.setattr(library, "ContextParams", Longer)
        said = "writes 168 bytes, expected 176"
    else:
        monkeypatch.setitem(library.ModelParams.DEFAULTS, "n_gpu_layers", 0)
        said = "sets n_gpu_layers to -1, expected 0"
    with pytest.raises(MissingExtra, match=said):
        load(folder)
    monkeypatch.undo()
    library.load.cache_clear()
    assert load(folder).answer(None, Q, max_new_tokens=2).receipt.engine == "llama.cpp"


@pytest.mark.parametrize("changes", [{"max_position_embeddings": 64}, {"family": "mistral", "sliding_window": 64}])
def test_a_prompt_that_is_too_long(tmp_path: Path, changes: dict[str, Any]) -> None:
    """llama.cpp computes no sliding window here, so the window is the limit."""
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    made = checkpoint(tmp_path / "short", **changes)
    gguf_of(made)
    engine = load(made)
    with pytest.raises(ContextOverflow, match="context has 64"):
        engine.answer(None, "what do you see? " * 30)
    assert engine.answer(None, "left?", max_new_tokens=200).finish_reason == "length"


def test_no_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    engine = load(folder)
    monkeypatch.setattr(context.Cells, "_new_context", lambda cells, size: None)
    with pytest.raises(OutOfMemory, match="found no memory for 2048 positions"):
        engine.answer(None, Q, max_new_tokens=2)
    monkeypatch.undo()
    assert engine.answer(None, Q, max_new_tokens=2).receipt.generated_tokens == 2


def test_no_memory_for_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is full and can't grow: that answer fails, and others are computed."""
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    monkeypatch.setattr(context, "_POSITIONS", 128)
    engine = load(folder)
    expected = engine.answer(None, Q, max_new_tokens=4).text
    monkeypatch.setattr(context.Cells, "_position_bytes", lambda cells: 1 << 50)
    with pytest.raises(OutOfMemory, match="no memory for"):
        engine.answer(None, "what do you see? " * 60, max_new_tokens=4)
    assert engine.answer(None, Q, max_new_tokens=4).text == expected


def test_control_c(folder: Path) -> None:
    """It ends a computation, not the process, and the next answer is right."""
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    engine = load(folder)
    long = "what do you see? " * 100
    expected = engine.answer(None, long, max_new_tokens=4).text
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    started = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            while time.monotonic() < started + 20:
                engine.answer(None, long, max_new_tokens=4)
        timer.join()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert engine.answer(None, long, max_new_tokens=4).text == expected


def test_an_interrupted_prompt_leaves_nothing(folder: Path) -> None:
    """llama.cpp is told to stop: the positions that it had computed are forgotten."""
    pytest.importorskip("xllamacpp", reason="pip install 'videollama2[gguf]'")
    engine = load(folder)
    cells = engine.runner.decoder.cells
    rows = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    slot = cells.slot()
    whole = cells.prefill([(slot, rows)])
    slot.cut(100)
    cells._stop.set()
    with pytest.raises(VideoLlama2Error, match=r"llama\.cpp failed"):
        cells.prefill([(slot, rows[100:])])
    cells._stop.clear()
    assert slot.length == 100
    assert torch.allclose(cells.prefill([(slot, rows[100:])]), whole, atol=1e-4)
