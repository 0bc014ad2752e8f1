"""The dtype on a CPU is measured, once; requests are respected, or refused before anything is loaded."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import videollama2
from tests.tiny import save
from videollama2 import device
from videollama2.device import CpuRates, choose, cpu_rates
from videollama2.errors import UsageError
from videollama2.linear import cpu_seconds, linear, probe_operands


def rates(monkeypatch: pytest.MonkeyPatch, bfloat16: float, float16: float = 0.1) -> None:
    monkeypatch.setattr(device, "cpu_rates", lambda: CpuRates(1.0, bfloat16, float16))


@pytest.mark.parametrize(("gain", "dtype"), [(0.02, torch.float32), (2.0, torch.float32), (8.0, torch.bfloat16)])
def test_bfloat16_must_be_much_faster(gain: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDEOLLAMA2_DTYPE", raising=False)
    rates(monkeypatch, gain)
    placement = choose("cpu")
    assert placement.dtype is dtype and f"{gain:.1f} times" in placement.reason


def test_it_is_measured_once_and_quickly() -> None:
    cpu_rates.cache_clear()
    first = cpu_rates()
    assert min(first.float32, first.bfloat16, first.float16) > 0
    assert cpu_rates() is first


def test_torchs_defaults_do_not_change_the_measurement() -> None:
    under_autocast: list[bool] = []
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        x, weight = probe_operands()
        assert cpu_seconds([lambda: under_autocast.append(torch.is_autocast_enabled("cpu"))])
    assert (x.device.type, x.dtype, weight.dtype) == ("cpu", torch.float32, torch.float32)
    assert under_autocast and not any(under_autocast)


def test_waiting_for_the_processor_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if x.dtype is torch.float32:
            time.sleep(0.02)  # as if another process ran meanwhile
        return linear(x, weight)

    monkeypatch.setattr(device, "linear", interrupted)
    cpu_rates.cache_clear()
    threads = torch.get_num_threads()
    by_the_clock = 2 * 64 * 512 * 512 / 0.02
    assert cpu_rates().float32 > 2 * by_the_clock
    assert torch.get_num_threads() == threads
    cpu_rates.cache_clear()


def test_the_environment_chooses_unless_somebody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOLLAMA2_DTYPE", "bfloat16")
    assert choose("cpu").dtype is choose("cpu", "auto").dtype is torch.bfloat16
    assert "VIDEOLLAMA2_DTYPE" in choose("cpu").reason
    assert choose("cpu", "float32").dtype is torch.float32
    monkeypatch.setenv("VIDEOLLAMA2_DTYPE", "int3")
    with pytest.raises(UsageError, match="int3"):
        choose("cpu")


@pytest.mark.parametrize("requested", ["float16", "fp16", torch.float16])
def test_float16_without_kernels_is_refused_before_loading(
    requested: str | torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates(monkeypatch, 2.0, float16=0.3)
    with pytest.raises(UsageError, match="dtype float16 is slow on this CPU"):
        videollama2.load(tmp_path / "nothing", device="cpu", dtype=requested)
    rates(monkeypatch, 2.0, float16=1.5)
    assert choose("cpu", requested).dtype is torch.float16


def test_the_receipt_names_the_arithmetic(tmp_path: Path) -> None:
    save(tmp_path / "model")
    for dtype, expected in (("float32", {"oneDNN", "oneDNN and torch", "torch"}), ("bfloat16", {"torch"})):
        answer = videollama2.load(tmp_path / "model", device="cpu", dtype=dtype).answer(None, "hi", max_new_tokens=2)
        assert answer.receipt.dtype == dtype and answer.receipt.arithmetic in expected


@pytest.mark.parametrize(("bfloat16", "dtype"), [(2.0, torch.bfloat16), (0.5, torch.float32)])
def test_weights_that_do_not_fit_in_float32(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    bfloat16: float,
    dtype: torch.dtype,
) -> None:
    """They stay in 16 bits, as a measurement decides; an explicit dtype is kept."""
    folder = save(tmp_path / "tiny")
    expected = videollama2.load(folder, dtype="bfloat16")
    if dtype is torch.float32:
        expected.model.float()
    monkeypatch.setattr(device, "cpu_rates", lambda: CpuRates(1.0, bfloat16, 0.1))
    free = sum(p.numel() for p in expected.model.parameters()) * 3
    monkeypatch.setattr(device, "ram", lambda: device.Memory("RAM", 1 << 30, free))
    engine = videollama2.load(folder)
    assert "--gguf" not in caplog.text
    assert engine.model.dtype == engine.placement.dtype == dtype
    assert "do not fit into" in engine.placement.reason
    receipt = engine.answer(None, "left?", max_new_tokens=8).receipt
    assert (receipt.arithmetic == "float16 weights") == (dtype is torch.float32)
    logits = [e.model(torch.tensor([[5, 6, 7]])).logits.detach().float() for e in (engine, expected)]
    assert float((logits[0] - logits[1]).abs().max()) < 1e-3 * float(logits[1].abs().max())
    monkeypatch.setattr(device, "ram", lambda: device.Memory("RAM", 1 << 30, free // 2))
    videollama2.load(folder)
    assert "not even 16-bit weights (0.0 GiB) fit; `videollama2 convert MODEL DST --gguf Q4_K_M`" in caplog.text
    explicit = videollama2.load(folder, dtype="float32")
    assert explicit.model.dtype is torch.float32 and "do not fit" not in explicit.placement.reason


MAPPED = """
import ctypes, torch
from videollama2.device import ANSWERING, TRAINING, keep_freed_blocks

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info

def mapped(mib):
    before = libc.mallinfo2().hblks
    block = torch.empty(mib << 18)
    return libc.mallinfo2().hblks - before

first = mapped(60), mapped(800)
keep_freed_blocks(TRAINING)
kept = mapped(900)
keep_freed_blocks(ANSWERING)
print(*first, kept, mapped(1000), mapped(63))
"""
GLIBC = tuple(map(int, platform.libc_ver()[1].split(".")[:2])) if platform.libc_ver()[0] == "glibc" else (0, 0)
needs_glibc = pytest.mark.skipif(GLIBC < (2, 35), reason="glibc before 2.35 has another limit, others have none")


@needs_glibc
def test_which_blocks_come_from_the_heap() -> None:
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "0", "1", "0"]


@needs_glibc
def test_thresholds_of_the_environment_stay() -> None:
    chosen = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, check=True, env=chosen)
    assert done.stdout.split() == ["1", "1", "1", "1", "1"]
