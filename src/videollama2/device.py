"""This machine: the device and dtype, chosen once and logged with the reason, and how much memory is free.

An explicit choice is never overridden.
"""

import ctypes
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from .errors import UsageError

logger = logging.getLogger(__name__)

# glibc keeps freed blocks of up to 32 MiB for reuse and trims its heap only beyond twice that
ALLOCATOR_SLACK = 64 << 20
# CUDA's context and libraries on one GPU, allocated before the first tensor
CUDA_CONTEXT = 600 << 20

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
        raise UsageError(f"unknown device {requested!r}; expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {requested!r} was requested, but torch finds no CUDA GPU; use 'auto' or 'cpu'")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' was requested, but this machine has no Apple GPU; use 'auto' or 'cpu'")
    return device, "device as requested"


def _dtype(requested: str | torch.dtype | None, device: torch.device) -> tuple[torch.dtype, str]:
    if isinstance(requested, torch.dtype):
        return requested, "dtype as requested"
    if requested is not None and requested != "auto":
        if requested not in DTYPES:
            raise UsageError(f"unknown dtype {requested!r}; expected one of auto, {', '.join(DTYPES)}")
        return DTYPES[requested], "dtype as requested"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16 in hardware"
        return torch.float16, "a GPU without bfloat16"
    if device.type == "mps":
        return torch.float16, "float16 on Apple GPUs"
    # without these instructions bfloat16 products are about sixty times slower than float32 (docs/log.md)
    flags = _cpu_flags()
    if flags & {"avx512_bf16", "amx_bf16", "amx_tile", "bf16"}:
        return torch.bfloat16, "a CPU with bfloat16 instructions"
    return torch.float32, "a CPU without bfloat16 instructions"


def _cpu_flags() -> set[str]:
    """The CPU's feature flags, if the system lists them."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - not a user's path
            for line in file:
                if line.lower().startswith(("flags", "features")):
                    return set(line.split(":", 1)[1].split())
    except OSError:
        logger.debug("no /proc/cpuinfo; assuming no bfloat16 instructions")
    return set()


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
