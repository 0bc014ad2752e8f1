"""A worker gives up everything that decoding doesn't need, and still decodes."""

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from videollama2.media.worker import WorkerLimits, confinement
from videollama2.media.worker.confinement import confine
from videollama2.media.worker.process import Worker, _environment

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seccomp filters exist on Linux only")
TRIES = """
import ctypes, fcntl, json, os, platform, resource, socket, subprocess, sys, threading
from videollama2.media import open_clip
from videollama2.media.worker import confinement
from videollama2.media.worker.confinement import confine

libc = ctypes.CDLL(None, use_errno=True)
machine = confinement._MACHINES.get(platform.machine())
other, clip = int(sys.argv[2]), sys.argv[1] + "/clip.mp4"
(reader, writer), opened = os.pipe(), os.open(clip, os.O_RDONLY)
given_up = confine()

def call(name, *arguments):
    # as a hijacked decoder does it: by number, with no library in between
    number = known[name][machine.column]
    if number is not None and libc.syscall(*map(ctypes.c_long, (number, *arguments))) < 0:
        raise OSError(ctypes.get_errno(), name)
    if number is None:
        raise PermissionError(name)

known = {**confinement._REFUSED, **confinement._TO_SELF, **confinement._ON_SELF}
siginfo = ctypes.addressof(buffer := (ctypes.c_int * 32)(9, 0, -1))
group = (ctypes.c_int * 2)(1, other)  # F_OWNER_PID
tries = {
    "socket": lambda: socket.socket(),
    "network": lambda: socket.create_connection(("127.0.0.1", 9)),
    "execute": lambda: subprocess.run(["true"]),
    "fork": os.fork,
    "signal the parent": lambda: os.kill(os.getppid(), 0),
    "write": lambda: open(sys.argv[1] + "/new", "w"),
    "append": lambda: open(sys.argv[1] + "/clip.mp4", "ab"),
    "truncate": lambda: os.truncate(sys.argv[1] + "/clip.mp4", 0),
    "unlink": lambda: os.unlink(sys.argv[1] + "/clip.mp4"),
    "rename": lambda: os.rename(sys.argv[1] + "/clip.mp4", sys.argv[1] + "/x.mp4"),
    "make a folder": lambda: os.mkdir(sys.argv[1] + "/folder"),
    "link": lambda: os.symlink("/etc/passwd", sys.argv[1] + "/link"),
    "change a mode": lambda: os.chmod(sys.argv[1] + "/clip.mp4", 0o777),
    "kill": lambda: os.kill(other, 9),
    "kill the group": lambda: os.kill(0, 0),
    "kill all": lambda: os.kill(-1, 0),
    "queue a signal": lambda: call("rt_sigqueueinfo", other, 9, siginfo),
    "queue a signal to a thread": lambda: call("rt_tgsigqueueinfo", other, other, 9, siginfo),
    "signal a thread": lambda: call("tgkill", other, other, 9),
    "open a process": lambda: os.pidfd_open(other),
    "let input signal": lambda: fcntl.fcntl(reader, fcntl.F_SETOWN, other),
    "let input signal a thread": lambda: fcntl.fcntl(reader, 15, bytes(group)),  # F_SETOWN_EX
    "choose that signal": lambda: fcntl.fcntl(reader, fcntl.F_SETSIG, 9),
    "let a terminal's input signal": lambda: fcntl.ioctl(reader, 0x8901, bytes(4)),  # FIOSETOWN
    "type into a terminal": lambda: fcntl.ioctl(opened, 0x5412, b"x"),  # TIOCSTI
    "set file attributes": lambda: fcntl.ioctl(opened, 0x40086602, bytes(8)),  # FS_IOC_SETFLAGS
    "lock": lambda: fcntl.lockf(opened, fcntl.LOCK_SH),
    "lock a whole file": lambda: fcntl.flock(opened, fcntl.LOCK_SH),
    "limit": lambda: resource.prlimit(other, resource.RLIMIT_NOFILE, (3, 3)),
    "slow down": lambda: os.setpriority(os.PRIO_PROCESS, other, 19),
    "schedule": lambda: os.sched_setscheduler(other, os.SCHED_IDLE, os.sched_param(0)),
    "bind to a core": lambda: os.sched_setaffinity(other, {0}),
    "change times": lambda: os.utime(clip, (0, 0)),
    "change times of an open file": lambda: os.utime(opened, (0, 0)),
    "add an attribute": lambda: os.setxattr(clip, "user.x", b"x"),
    "remove an attribute": lambda: os.removexattr(clip, "user.x"),
    "pair of sockets": socket.socketpair,
    "open by handle": lambda: call("open_by_handle_at", opened, siginfo, os.O_RDWR),
    "share memory": lambda: call("shmget", 0, 4096, 0o1600),
}
if "calls" in given_up:  # otherwise some of them would do it
    tries.update({name: lambda name=name: call(name, -1, -1, -1, -1) for name in confinement._REFUSED})
could = []

def attempt(name):
    try:
        tries[name]()
    except PermissionError:
        return
    could.append(name)

for name in tries:
    attempt(name)
thread = threading.Thread(target=attempt, args=("socket",))
thread.start()
thread.join()
os.kill(os.getpid(), 0)
resource.prlimit(0, resource.RLIMIT_NOFILE)
resource.prlimit(os.getpid(), resource.RLIMIT_CORE, (0, 0))
unknown = libc.syscall(ctypes.c_long(463), 0, 0, 0, 0), ctypes.get_errno()
assert "calls" not in given_up or unknown == (-1, 38), unknown
clip = open_clip(sys.argv[1] + "/clip.mp4")
print(json.dumps({"given_up": given_up, "could": could, "frames": len(clip.frames), "sound": clip.audio_state}))
"""


@linux
def test_a_confined_process_can_only_read(media: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes((media / "clip.mp4").read_bytes())
    before = (tmp_path / "clip.mp4").stat()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIES, str(tmp_path), str(other.pid)], capture_output=True, text=True,
            check=False, env=_environment(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert other.poll() is None, "another process survives"
    finally:
        other.kill()
        other.communicate()
    found = json.loads(done.stdout)
    if "calls" not in found["given_up"]:
        pytest.skip("this kernel allows no seccomp filter")
    assert found == {"given_up": found["given_up"], "could": [], "frames": 8, "sound": "used"}
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.mp4"]
    after = (tmp_path / "clip.mp4").stat()
    assert (after.st_mode, after.st_size, after.st_mtime_ns) == (before.st_mode, before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("header", "column"),
    [("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1)],
)
def test_call_numbers_are_the_kernels(header: str, column: int) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
    kernel = {name: int(number) for name, number in defined}
    tables = [value for name, value in vars(confinement).items() if name.isupper() and isinstance(value, dict)]
    ours = {name: pair for table in tables if table is not confinement._MACHINES for name, pair in table.items()}
    assert len(ours) > 100
    newer = {"fchmodat2"}  # than the headers of older systems
    wrong = {
        name: (pair[column], kernel.get(name))
        for name, pair in ours.items()
        if pair[column] != kernel.get(name) and not (name in newer and name not in kernel)
    }
    assert not wrong
    unlisted = {name for name, number in kernel.items() if number >= confinement._FIRST_UNKNOWN}
    assert unlisted <= {"syscalls"}, "newer calls are absent"


@pytest.mark.parametrize("machine", confinement._MACHINES.values(), ids=list(confinement._MACHINES))
def test_filters_fit_into_the_kernels_limit(machine: confinement._Machine) -> None:
    program = confinement._program(machine, 4242)
    assert len(program) % 8 == 0 and len(program) // 8 <= 4096
    steps = list(struct.iter_unpack("HBBI", program))
    assert all(i + 1 + max(yes, no) < len(steps) for i, (code, yes, no, _) in enumerate(steps) if code & 7 == 5)
    assert steps[-1][0] == 0x06


@linux
def test_workers_are_confined() -> None:
    source = (
        "from videollama2.media.worker import loop\n"
        "def handle(task, blobs):\n"
        "    return open('/proc/self/status').read(), ()\n"
        "loop.run_worker(handle)\n"
    )
    worker = Worker((sys.executable, "-c", source), WorkerLimits(seconds=30))
    try:
        status, _ = worker.call({})
    finally:
        worker.shut_down()
    assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
    assert "calls" in worker.confinement, "and they report it"


def test_other_systems_promise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement.sys, "platform", "darwin")
    assert confine() == ()


def test_workers_get_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ("OPENAI_API_KEY", "VIDEOLLAMA2_API_KEYS", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD",
              "https_proxy", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS")  # fmt: skip
    for name in (*secret, "VIDEOLLAMA2_TOKENIZERS", "KEYBOARD"):
        monkeypatch.setenv(name, "x")
    given = _environment()
    assert not set(secret) & set(given) and {"VIDEOLLAMA2_TOKENIZERS", "KEYBOARD", "PATH"} <= set(given)


def test_decoders_share_two_arenas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of glibc's arenas takes 64 MiB of what a task may map, so threads failed to start on a busy machine."""
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert _environment()["MALLOC_ARENA_MAX"] == "2"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert _environment()["MALLOC_ARENA_MAX"] == "1"
