"""What a worker gives up before it sees a file, and how much memory and CPU time each task may use.

If a hostile file takes over the decoder, the process can still read files and reply until its time is up. It can't
reach the network, start, signal or slow down other processes, or write, move, delete and lock files.

This requires Linux: a seccomp filter (x86-64, ARM64; kernel ≥ 3.17), and an empty network namespace if the
kernel grants one. On other systems, only the limits on time and memory apply: serve untrusted clients from Linux, as a
user that can read nothing else.

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
from collections.abc import Iterator, Sequence
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
class _Machine:
    """One kind of machine: its name in audit.h, and its column of the tables below."""

    audit: int
    column: int


_MACHINES: Final = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}

# fmt: off
# System call → its number on x86-64 and on ARM64; None where the machine has no such call.
_Numbers = dict[str, tuple[int | None, int | None]]
_REFUSED: Final[_Numbers] = {
    # sockets: a socket pair could send to any named socket
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    # processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "kcmp": (312, 272), "setpgid": (109, 154), "setsid": (112, 157),
    # signals
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    # how other processes are scheduled, and where their memory is
    "setpriority": (141, 140), "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # files and folders
    "creat": (85, None), "truncate": (76, 45), "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None),
    "mknodat": (259, 33),
    # their modes, owners, times, attributes and locks
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "flock": (73, 32),
    # ways to open a file past the rule for open, or to hold up those who open it
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    # memory and messages shared with other processes
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # the machine
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "swapon": (167, 224), "swapoff": (168, 225), "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89),
    "vhangup": (153, 58), "syslog": (103, 116), "reboot": (169, 142), "sethostname": (170, 161),
    "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "iopl": (172, None), "ioperm": (173, None), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    # large parts of the kernel that decoding never enters
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "perf_event_open": (298, 241),
    "bpf": (321, 280), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
# A filter can't inspect the arguments of these, which are behind pointers; callers fall back to clone and openat.
_ABSENT: Final[_Numbers] = {"clone3": (435, 435), "openat2": (437, 437)}
_FIRST_UNKNOWN = 463  # calls newer than this table (after mseal) are reported as absent, too
# Only to this process: abort() signals itself.
_TO_SELF: Final[_Numbers] = {"kill": (62, 129), "tgkill": (234, 131)}
# Only on this process, which 0 also stands for: limit_resources sets its own limits.
_ON_SELF: Final[_Numbers] = {
    "prlimit64": (302, 261), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122), "sched_setattr": (314, 274),
}
_OPEN: Final[_Numbers] = {"open": (2, None), "openat": (257, 56)}  # only for reading
_CLONE: Final[_Numbers] = {"clone": (56, 220)}  # only threads
_FCNTL: Final[_Numbers] = {"fcntl": (72, 25)}  # others lock files, or name a process that input then signals
_FCNTL_COMMANDS: Final = (0, 1, 2, 3, 4, 1030, 1032)  # F_DUPFD, F_[GS]ETFD, F_[GS]ETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
_IOCTL: Final[_Numbers] = {"ioctl": (16, 29)}  # others type into the user's terminal, or set a file's attributes
_IOCTL_COMMANDS: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS (isatty), window size, FIO*
_SECCOMP: Final[_Numbers] = {"seccomp": (317, 277)}
# fmt: on


def confine() -> tuple[str, ...]:
    """Give up, irrevocably and for all threads, everything that decoding doesn't need.

    Returns:
        What is now in force: "network" (no interface, not even loopback) and "calls" (the system call filter).
    """
    if not sys.platform.startswith("linux"):
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    confinement = []
    # root stays in its user namespace: in a new one it could no longer read other users' files
    namespaces = _NEW_NET if os.geteuid() == 0 else _NEW_NET | _NEW_USER
    if _threads() == 1 and libc.unshare(ctypes.c_int(namespaces)) == 0:
        confinement.append("network")
    machine = _MACHINES.get(platform.machine())
    if machine is not None and _install_filter(libc, machine):
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
    """Bytes of address space that this process has mapped; 0 if the system doesn't report it."""
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
    """Number of threads in this process. A namespace belongs to a thread, so enter one while single-threaded."""
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    return 0


def _install_filter(libc: ctypes.CDLL, machine: _Machine) -> bool:
    program = _program(machine, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and a pointer to them
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    (seccomp,) = _numbers(_SECCOMP, machine)
    status: int = libc.syscall(ctypes.c_long(seccomp), _SET_FILTER, _ALL_THREADS, header)
    return status == 0


def _numbers(calls: _Numbers, machine: _Machine) -> list[int]:
    """The calls' numbers on a machine."""
    return [number for pair in calls.values() if (number := pair[machine.column]) is not None]


def _program(machine: _Machine, process: int) -> bytes:
    """The filter. Each rule either ends the program or falls through to the next."""
    out = [_step(_LOAD, _MACHINE), _step(_EQUAL, machine.audit, 1, 0), _step(_RETURN, _KILL)]
    out += [_step(_LOAD, _NUMBER), _step(_AT_LEAST, _OTHER_TABLE, 0, 1), _refuse()]
    out += [_step(_AT_LEAST, _FIRST_UNKNOWN, 0, 1), _refuse(_NO_SUCH_CALL)]
    for number in _numbers(_REFUSED, machine):
        out += [_step(_EQUAL, number, 0, 1), _refuse()]
    for number in _numbers(_ABSENT, machine):
        out += [_step(_EQUAL, number, 0, 1), _refuse(_NO_SUCH_CALL)]
    for number in _numbers(_CLONE, machine):
        out += [_step(_EQUAL, number, 0, 4), _argument(0), _step(_ANY_BIT, _THREAD, 0, 1), _allow(), _refuse()]
    for number in _numbers(_OPEN, machine):
        flags = 2 if number == _OPEN["openat"][machine.column] else 1
        out += [_step(_EQUAL, number, 0, 4), _argument(flags), _step(_ANY_BIT, _WRITING, 0, 1), _refuse(), _allow()]
    for calls, argument, allowed in (
        (_TO_SELF, 0, (process,)),
        (_ON_SELF, 0, (0, process)),
        (_FCNTL, 1, _FCNTL_COMMANDS),
        (_IOCTL, 1, _IOCTL_COMMANDS),
    ):
        for number in _numbers(calls, machine):
            out += _allow_values(number, argument, allowed)
    return b"".join([*out, _allow()])


def _allow_values(number: int, argument: int, values: Sequence[int]) -> list[bytes]:
    """A call whose argument may only have these values."""
    rule = [_argument(argument)]
    for value in values:
        rule += [_step(_EQUAL, value, 0, 1), _allow()]
    rule.append(_refuse())
    return [_step(_EQUAL, number, 0, len(rule)), *rule]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _argument(index: int) -> bytes:
    """Load the lower 32 bits of an argument (both machines are little-endian)."""
    return _step(_LOAD, _FIRST_ARGUMENT + 8 * index)


def _allow() -> bytes:
    return _step(_RETURN, _ALLOW)


def _refuse(errno: int = _NOT_PERMITTED) -> bytes:
    return _step(_RETURN, _ERROR | errno)
