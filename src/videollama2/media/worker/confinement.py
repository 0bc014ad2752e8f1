"""What a worker gives up before it sees a file, and how much memory and CPU time each task may use.

A decoder that a hostile file takes over then runs in a process that can read files and reply, until its time is up; it
can't reach the network, start or signal other processes, or write, move and delete files.

That takes Linux: a seccomp filter (x86-64, ARM64; kernel ≥ 3.17), and an empty network namespace where the kernel
grants one. Elsewhere only the limits on time and memory hold: serve untrusted clients from Linux, as a user that can
read nothing else.

The filter is a classic BPF program (linux/filter.h, linux/seccomp.h); the system call numbers come from the kernel's
table for each machine.
"""

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NO_NEW_PRIVILEGES, _SET_FILTER, _ALL_THREADS = 38, 1, 1  # prctl.h, seccomp.h
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000  # sched.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # bpf_common.h, with W|ABS, JMP|K
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in seccomp_data
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NOT_PERMITTED, _NO_SUCH_CALL = 1, 38  # errno
_THREAD = 0x10000  # CLONE_THREAD
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OTHER_TABLE = 0x40000000  # system calls of x86-64's x32 table
_MAX_WRITTEN = 16 << 20  # bytes per file; the only one open for writing is standard error
_MAX_OPEN_FILES = 256


@dataclass(frozen=True)
class _Calls:
    """System call numbers. `refused`: with any arguments; `opens`: number → index of the flags argument."""

    machine: int
    refused: tuple[int, ...]
    signals: tuple[int, ...]
    opens: tuple[tuple[int, int], ...]
    clone: int
    seccomp: int
    absent: tuple[int, ...] = (435, 437)  # clone3, openat2: a filter can't see their arguments; callers fall back


# fmt: off
_CALLS: Final = {
    "x86_64": _Calls(
        machine=0xC000003E,
        refused=(
            41, 42, 49, 50,  # socket, connect, bind, listen
            57, 58, 59, 322,  # fork, vfork, execve, execveat
            101, 200, 310, 311, 424, 434, 438,  # ptrace, tkill, process_vm_*, pidfd_*
            85, 87, 263, 82, 264, 316, 83, 258, 84, 76, 86, 265, 88, 266,  # creat, unlink*, rename*, mkdir*, …
            90, 91, 268, 452, 92, 93, 94, 260, 133, 259, 188, 189, 190,  # chmod*, chown*, mknod*, setxattr*
            165, 166, 155, 161, 272, 308,  # mount, umount2, pivot_root, chroot, unshare, setns
            248, 249, 250, 298, 321, 323, 425, 426, 427, 175, 313,  # keys, perf, bpf, userfaultfd, io_uring, modules
        ),
        signals=(62, 234), opens=((2, 1), (257, 2)), clone=56, seccomp=317,
    ),
    "aarch64": _Calls(
        machine=0xC00000B7,
        refused=(
            198, 203, 200, 201, 221, 281, 117, 130, 270, 271, 424, 434, 438,
            35, 38, 276, 34, 45, 37, 36, 52, 53, 452, 54, 55, 33, 5, 6, 7,
            40, 39, 41, 51, 97, 268, 217, 218, 219, 241, 280, 282, 425, 426, 427, 105, 273,
        ),
        signals=(129, 131), opens=((56, 2),), clone=220, seccomp=277,
    ),
}
# fmt: on


def confine() -> tuple[str, ...]:
    """Give up, irrevocably and for all threads, everything that decoding doesn't need.

    Returns:
        What now holds: "network" (no interface, not even loopback) and "calls" (the system call filter).
    """
    if not sys.platform.startswith("linux"):
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    confinement = []
    # root keeps its user namespace: in a new one it could no longer read other users' files
    namespaces = _NEW_NET if os.geteuid() == 0 else _NEW_NET | _NEW_USER
    if _threads() == 1 and libc.unshare(ctypes.c_int(namespaces)) == 0:
        confinement.append("network")
    calls = _CALLS.get(platform.machine())
    if calls is not None and _install_filter(libc, calls):
        confinement.append("calls")
    return tuple(confinement)


@contextlib.contextmanager
def limit_resources(
    *, seconds: float, cpu_seconds: float, memory_mb: int, at_start: int, reply_bytes: int = 0
) -> Iterator[None]:
    """Within the block: the limits of a task on memory and CPU time, where the system has them (WorkerLimits).

    The parent kills a worker that is late; an alarm does so if the parent is gone.

    Args:
        at_start: bytes that this process had mapped before its first task; `memory_mb` comes on top.
        reply_bytes: the parent checks it.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _set_soft_limit(resource.RLIMIT_CORE, 0)
        _set_soft_limit(resource.RLIMIT_FSIZE, _MAX_WRITTEN)
        _set_soft_limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
        if at_start:
            _set_soft_limit(resource.RLIMIT_AS, at_start + (memory_mb << 20))
        used = resource.getrusage(resource.RUSAGE_SELF)
        _set_soft_limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + cpu_seconds) + 1)
    alarm = hasattr(signal, "setitimer")
    if alarm:
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 5)
    try:
        yield
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)


def mapped_bytes() -> int:
    """Bytes of address space that this process has mapped; 0 where the system doesn't tell."""
    try:
        import resource

        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return 0


def _set_soft_limit(what: int, soft: int) -> None:
    import resource

    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _threads() -> int:
    """Number of threads of this process. A namespace belongs to a thread, so enter it while there is one."""
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    return 0


def _install_filter(libc: ctypes.CDLL, calls: _Calls) -> bool:
    program = _program(calls, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and a pointer to them
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    status: int = libc.syscall(ctypes.c_long(calls.seccomp), _SET_FILTER, _ALL_THREADS, header)
    return status == 0


def _program(calls: _Calls, process: int) -> bytes:
    """The filter. Each rule either ends the program or falls through to the next."""
    out = [_step(_LOAD, _MACHINE), _step(_EQUAL, calls.machine, 1, 0), _step(_RETURN, _KILL)]
    out += [_step(_LOAD, _NUMBER), _step(_AT_LEAST, _OTHER_TABLE, 0, 1), _refuse()]
    for number in calls.refused:
        out += [_step(_EQUAL, number, 0, 1), _refuse()]
    for number in calls.absent:
        out += [_step(_EQUAL, number, 0, 1), _refuse(_NO_SUCH_CALL)]
    # clone may only make threads (CLONE_THREAD); a signal may only go to this process (abort)
    out += [_step(_EQUAL, calls.clone, 0, 4), _argument(0), _step(_ANY_BIT, _THREAD, 0, 1), _allow(), _refuse()]
    for number in calls.signals:
        out += [_step(_EQUAL, number, 0, 4), _argument(0), _step(_EQUAL, process, 0, 1), _allow(), _refuse()]
    for number, flags in calls.opens:
        out += [_step(_EQUAL, number, 0, 4), _argument(flags), _step(_ANY_BIT, _WRITING, 0, 1), _refuse(), _allow()]
    return b"".join([*out, _allow()])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _argument(index: int) -> bytes:
    """Load the lower 32 bits of an argument (both machines are little-endian)."""
    return _step(_LOAD, _FIRST_ARGUMENT + 8 * index)


def _allow() -> bytes:
    return _step(_RETURN, _ALLOW)


def _refuse(errno: int = _NOT_PERMITTED) -> bytes:
    return _step(_RETURN, _ERROR | errno)
