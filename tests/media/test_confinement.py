"""A worker gives up everything that decoding doesn't need, and still decodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from videollama2.media.worker import WorkerLimits, confinement
from videollama2.media.worker.confinement import confine
from videollama2.media.worker.process import Worker, _environment

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seccomp filters exist on Linux only")
TRIES = """
import json, os, socket, subprocess, sys, threading
from videollama2.media import open_clip
from videollama2.media.worker.confinement import confine

given_up = confine()
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
}
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
clip = open_clip(sys.argv[1] + "/clip.mp4")
print(json.dumps({"given_up": given_up, "could": could, "frames": len(clip.frames), "sound": clip.audio_state}))
"""


@linux
def test_a_confined_process_can_only_read(media: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes((media / "clip.mp4").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", TRIES, str(tmp_path)], capture_output=True, text=True, check=True, env=_environment()
    )
    found = json.loads(done.stdout)
    if "calls" not in found["given_up"]:
        pytest.skip("this kernel allows no seccomp filter")
    assert found == {"given_up": found["given_up"], "could": [], "frames": 8, "sound": "used"}
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.mp4"]


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
