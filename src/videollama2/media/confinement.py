"""What a process that opens media may no longer do once it has started: reach the network, start or signal other
processes, or write, move and delete files. A decoder that a hostile file takes over then holds a process that can
read files and answer, until its time is over.

On Linux by a seccomp filter (x86-64, ARM64; kernel ≥ 3.17) and a network namespace with nothing in it where the
kernel lets us have one. Elsewhere nothing of this holds, and limits on time and memory (children.py) are what is left:
run a server for strangers on Linux, as a user that can read nothing else.

The filter is a program of classic BPF (linux/filter.h, linux/seccomp.h); numbers of system calls are those of the
kernel's tables for each machine.
"""

import contextlib
import ctypes
import os
import platform
import struct
import sys
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
_OTHER_TABLE = 0x40000000  # calls of x86-64's x32 table


@dataclass(frozen=True)
class _Calls:
    """Numbers of system calls. `refused`: whatever the arguments; `opens`: number → index of the flags."""

    machine: int
    refused: tuple[int, ...]
    signals: tuple[int, ...]
    opens: tuple[tuple[int, int], ...]
    clone: int
    seccomp: int
    absent: tuple[int, ...] = (435, 437)  # clone3, openat2: their arguments can't be seen; callers fall back


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
    """Give up, for good and for all threads, what a process that opens media does not need.

    Returns what now holds: "network" (no interface, not even this machine's own) and "calls" (the filter).
    """
    if not sys.platform.startswith("linux"):
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    held = []
    # root keeps its own user namespace: in a new one it could no longer read other users' files
    space = _NEW_NET if os.geteuid() == 0 else _NEW_NET | _NEW_USER
    if _threads() == 1 and libc.unshare(ctypes.c_int(space)) == 0:
        held.append("network")
    calls = _CALLS.get(platform.machine())
    if calls is not None and _filter(libc, calls):
        held.append("calls")
    return tuple(held)


def _threads() -> int:
    """Of this process; a namespace is a thread's own, so it must be taken while there is one."""
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    return 0


def _filter(libc: ctypes.CDLL, calls: _Calls) -> bool:
    program = _program(calls, os.getpid())
    held = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a number of instructions and a pointer to them
    told = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(held))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    done: int = libc.syscall(ctypes.c_long(calls.seccomp), _SET_FILTER, _ALL_THREADS, told)
    return done == 0


def _program(calls: _Calls, process: int) -> bytes:
    """The filter. Each rule loads what it looks at, and ends the program or passes on."""
    out = [_step(_LOAD, _MACHINE), _step(_EQUAL, calls.machine, 1, 0), _step(_RETURN, _KILL)]
    out += [_step(_LOAD, _NUMBER), _step(_AT_LEAST, _OTHER_TABLE, 0, 1), _refuse()]
    for number in calls.refused:
        out += [_step(_EQUAL, number, 0, 1), _refuse()]
    for number in calls.absent:
        out += [_step(_EQUAL, number, 0, 1), _refuse(_NO_SUCH_CALL)]
    # a new thread is one with CLONE_THREAD; a signal goes to this process itself (abort), never to another
    out += [_step(_EQUAL, calls.clone, 0, 4), _argument(0), _step(_ANY_BIT, _THREAD, 0, 1), _allow(), _refuse()]
    for number in calls.signals:
        out += [_step(_EQUAL, number, 0, 4), _argument(0), _step(_EQUAL, process, 0, 1), _allow(), _refuse()]
    for number, flags in calls.opens:
        out += [_step(_EQUAL, number, 0, 4), _argument(flags), _step(_ANY_BIT, _WRITING, 0, 1), _refuse(), _allow()]
    return b"".join([*out, _allow()])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _argument(index: int) -> bytes:
    """Load the lower half of an argument (both machines are little-endian)."""
    return _step(_LOAD, _FIRST_ARGUMENT + 8 * index)


def _allow() -> bytes:
    return _step(_RETURN, _ALLOW)


def _refuse(errno: int = _NOT_PERMITTED) -> bytes:
    return _step(_RETURN, _ERROR | errno)
