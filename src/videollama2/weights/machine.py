"""What this machine has: memory that is free, and what this process uses already."""

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

# glibc keeps freed blocks of up to 32 MiB for reuse and gives the top of its heap back only beyond twice that
ALLOCATOR_SLACK = 64 << 20
# CUDA's context and libraries on one GPU; they are there before the first tensor
CUDA_CONTEXT = 600 << 20


@dataclass(frozen=True)
class Memory:
    """Bytes of one memory.

    Attributes:
        name: `RAM`, or the GPU's.
        total: that could be used at most.
        available: that can be used now without pushing anything out.
    """

    name: str
    total: int
    available: int


def ram() -> Memory:
    """This machine's memory, within the limit that a container may set."""
    total, available = _meminfo()
    limit, used = _container_limit()
    if limit is not None:
        total, available = min(total, limit), min(available, max(limit - used, 0))
    return Memory("RAM", total, available)


def gpu() -> Memory | None:
    """The current CUDA device's memory; None where there is none."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return Memory(torch.cuda.get_device_name(), total, free)


def resident_bytes() -> int:
    """Memory that this process occupies now (its resident set); on macOS the most that it ever was, on Windows 0."""
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
    """Limit and use of the control group, in either of its two versions; file pages that can go don't count as use."""
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
