"""This machine: the device and dtype, chosen once and logged with the reason, and how much memory is free.

An explicit choice is never overridden.
"""

import ctypes
import functools
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from .errors import UsageError
from .linear import MANY_ROWS, cpu_seconds, linear, onednn_leads, probe_operands

logger = logging.getLogger(__name__)

# bytes of the largest block that glibc keeps for reuse when it is freed: while a model answers, and while it trains
ANSWERING, TRAINING = 64 << 20, 1 << 30
ALLOCATOR_SLACK = 2 * ANSWERING  # free memory that it keeps at the end of the heap
_OLD_LIMIT = 32 << 20  # the largest that glibc accepts before 2.35
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
# CUDA's context and libraries on one GPU, allocated before the first tensor
CUDA_CONTEXT = 600 << 20

# bfloat16 on a CPU changes 5 % of nano's answers (docs/log.md), so it must gain more than a few seconds
BFLOAT16_GAIN = 3.0

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True)
class Placement:
    """The device and dtype that a model runs in, and the reason."""

    device: torch.device
    dtype: torch.dtype
    reason: str


def choose(device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Placement:
    """The placement on this machine; an explicit choice is never changed.

    Raises:
        UsageError: an unknown name, or a device that this machine does not have.
    """
    chosen_device, device_reason = _device(device)
    chosen_dtype, dtype_reason = _dtype(dtype, chosen_device)
    placement = Placement(chosen_device, chosen_dtype, f"{device_reason}; {dtype_reason}")
    logger.info("running on %s in %s (%s)", chosen_device, str(chosen_dtype).removeprefix("torch."), placement.reason)
    return placement


def find(device: str | torch.device | None = None) -> torch.device:
    """The device that `choose` would choose, without logging it.

    Raises:
        UsageError: an unknown name, or a device that this machine does not have.
    """
    return _device(device)[0]


def within_memory(placement: Placement, parameters: int) -> tuple[Placement, bool]:
    """A placement in which a model's weights fit into this machine's memory, and whether to store them as float16.

    Float32 on a CPU is given up only if it does not fit, and was not requested: for bfloat16 where its products are
    measured to be as fast, and for weights stored as float16 elsewhere (generation/fp16_linear.py).

    Args:
        placement: as `choose` has chosen it, without an explicit dtype.
        parameters: of the model.
    """
    needed, free = 4 * parameters, ram().available
    if placement.device.type != "cpu" or placement.dtype != torch.float32 or needed <= free:
        return placement, False
    rates = cpu_rates()
    short = f"{needed / 2**30:.1f} GiB of float32 weights do not fit into {free / 2**30:.1f} GiB of free memory"
    packed = rates.bfloat16 < rates.float32
    if packed:
        reason = f"{short}, and bfloat16 products are slower here: weights are stored as float16"
    else:
        reason = f"{short}; bfloat16 products measured at {rates.bfloat16 / rates.float32:.1f} times float32's speed"
    logger.warning("%s", reason)
    if needed > 2 * free:
        logger.warning(
            "not even 16-bit weights (%.1f GiB) fit; `videollama2 convert MODEL DST --gguf Q4_K_M` writes the language "
            "model in about a third of that, for llama.cpp", needed / 2**31,
        )  # fmt: skip
    dtype = torch.float32 if packed else torch.bfloat16
    return Placement(placement.device, dtype, f"{placement.reason}; {reason}"), packed


def dtype_is_free(dtype: str | torch.dtype | None) -> bool:
    """Whether neither the caller nor VIDEOLLAMA2_DTYPE has chosen a dtype."""
    return dtype in (None, "auto") and os.environ.get("VIDEOLLAMA2_DTYPE", "auto") == "auto"


def named_dtype(name: str | torch.dtype) -> torch.dtype:
    """The dtype of that name.

    Raises:
        UsageError: an unknown name.
    """
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; expected one of auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def own(device: torch.device) -> torch.device:
    """This process's own GPU under torchrun (LOCAL_RANK); any other device is returned unchanged."""
    return torch.device(device.type, int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else device


def _device(requested: str | torch.device | None) -> tuple[torch.device, str]:
    if requested is None or requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"{torch.cuda.get_device_name()} found"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU found"
        return torch.device("cpu"), "no GPU found"
    try:
        device = torch.device(requested)
    except RuntimeError:
        raise UsageError(f"unknown device {requested!r}; expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {requested!r} was requested, but torch finds no CUDA GPU; use 'auto' or 'cpu'.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' was requested, but this machine has no Apple GPU; use 'auto' or 'cpu'.")
    return device, "device as requested"


def _dtype(requested: str | torch.dtype | None, device: torch.device) -> tuple[torch.dtype, str]:
    reason = "dtype as requested"
    if requested in (None, "auto"):
        requested, reason = os.environ.get("VIDEOLLAMA2_DTYPE", "auto"), "dtype as in VIDEOLLAMA2_DTYPE"
    if requested != "auto":
        dtype = named_dtype(requested)
        if dtype is torch.float16 and device.type == "cpu" and not _computes_float16():
            raise UsageError("dtype float16 is slow on this CPU, which has no kernels for it; use float32 or bfloat16.")
        return dtype, reason
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16 in hardware"
        return torch.float16, "a GPU without bfloat16"
    if device.type == "mps":
        return torch.float16, "float16 on Apple GPUs"
    return _measured_dtype()


def _measured_dtype() -> tuple[torch.dtype, str]:
    """The dtype for this CPU, by a measurement of its products."""
    rates = cpu_rates()
    gain = rates.bfloat16 / rates.float32
    found = f"bfloat16 products measured at {gain:.1f} times the speed of float32"
    if gain >= BFLOAT16_GAIN:
        return torch.bfloat16, found
    return torch.float32, f"{found}; it rounds answers differently and is chosen from {BFLOAT16_GAIN:g} times on"


def _computes_float16() -> bool:
    rates = cpu_rates()
    return 2 * rates.float16 >= rates.float32


@dataclass(frozen=True)
class CpuRates:
    """Speed of a matrix product on this CPU by dtype, in operations per second."""

    float32: float
    bfloat16: float
    float16: float


@functools.cache
def cpu_rates() -> CpuRates:
    """Measure products of 64 positions, once per process: about 20 ms, and 0.1 s without bfloat16 instructions.

    Other processes hardly affect the ratios (`linear.cpu_seconds`), so a command gets the same dtype each time it runs.
    """
    x, weight = probe_operands()
    operands = [(x.to(dtype), weight.to(dtype)) for dtype in (torch.float32, torch.bfloat16, torch.float16)]
    best = cpu_seconds([functools.partial(linear, *pair) for pair in operands])
    return CpuRates(*(2 * len(x) * weight.numel() / seconds for seconds in best))


def set_up_cpu(device: torch.device) -> None:
    """On a CPU: choose how this process allocates and multiplies, before a model is loaded and other work begins."""
    if device.type == "cpu":
        keep_freed_blocks(ANSWERING)
        onednn_leads(1)
        onednn_leads(MANY_ROWS)


def keep_freed_blocks(size: int) -> None:
    """Let glibc reuse freed blocks of up to `size` bytes: ANSWERING or TRAINING; before glibc 2.35, of up to 32 MiB.

    Larger blocks are mapped and cleared anew each time; free memory at the end of the heap goes back to the system
    beyond twice that size. By itself, glibc raises its limit from 128 KiB to at most
    32 MiB as it meets larger blocks, so the same answer takes more or less time depending on what ran before
    (docs/log.md). Does nothing with another C library, or if the environment sets glibc's limits.
    """
    named = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    chosen = any(name in os.environ for name in named) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or chosen:
        return
    if not mallopt(_M_MMAP_THRESHOLD, size):
        mallopt(_M_MMAP_THRESHOLD, _OLD_LIMIT)
    mallopt(_M_TRIM_THRESHOLD, min(2 * size, (1 << 31) - 1))  # an int


@dataclass(frozen=True)
class Memory:
    """Bytes of one memory.

    Attributes:
        name: `RAM`, or the GPU's.
        total: the most that can be used.
        available: what can be used now without evicting anything.
    """

    name: str
    total: int
    available: int


def ram() -> Memory:
    """This machine's memory, within a container's limit if there is one."""
    total, available = _meminfo()
    limit, used = _container_limit()
    if limit is not None:
        total, available = min(total, limit), min(available, max(limit - used, 0))
    return Memory("RAM", total, available)


def gpu() -> Memory | None:
    """The current CUDA device's memory; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return Memory(torch.cuda.get_device_name(), total, free)


def resident_bytes() -> int:
    """This process's resident memory; on macOS its peak, on Windows 0."""
    status = _fields(Path("/proc/self/status"))
    if "VmRSS" in status:
        return status["VmRSS"]
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _meminfo() -> tuple[int, int]:
    info = _fields(Path("/proc/meminfo"))
    if "MemTotal" in info:
        return info["MemTotal"], info.get("MemAvailable", info["MemTotal"])
    if not hasattr(os, "sysconf"):
        return _windows_memory()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total, total


def _windows_memory() -> tuple[int, int]:
    class Status(ctypes.Structure):  # MEMORYSTATUSEX of sysinfoapi.h
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "available", "page_file", "page_file_available")),
            *((name, ctypes.c_uint64) for name in ("addresses", "addresses_available", "extended_available")),
        )

    status = Status(size=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return status.total, status.available


def _container_limit() -> tuple[int | None, int]:
    """Limit and usage of the control group, version 1 or 2; reclaimable file pages don't count as usage."""
    for limit, used, stat, cache in (
        ("memory.max", "memory.current", "memory.stat", "file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_cache"),
    ):
        root = Path("/sys/fs/cgroup")
        try:
            stated = (root / limit).read_text(encoding="ascii").strip()
            if stated == "max":
                return None, 0
            lines = (root / stat).read_text(encoding="ascii").splitlines()
            kept = next((int(line.split()[1]) for line in lines if line.split()[0] == cache), 0)
            return int(stated), max(int((root / used).read_text(encoding="ascii")) - kept, 0)
        except (OSError, ValueError):
            continue
    return None, 0


def _fields(path: Path) -> dict[str, int]:
    """`Name:  123 kB` lines, in bytes."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    return {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in lines)
        if value.strip().endswith("kB")
    }
