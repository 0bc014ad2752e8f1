"""A process that opens media gives up what it does not need, and still opens media."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from videollama2.media import confinement
from videollama2.media.children import Child, ChildLimits, _environment
from videollama2.media.confinement import confine

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone has such filters")
TRIES = """
import json, os, socket, subprocess, sys, threading
from videollama2.media import open_clip
from videollama2.media.confinement import confine

held = confine()
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
print(json.dumps({"held": held, "could": could, "frames": len(clip.frames), "sound": clip.audio_state}))
"""


@linux
def test_what_a_confined_process_can_no_longer_do(media: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes((media / "clip.mp4").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", TRIES, str(tmp_path)], capture_output=True, text=True, check=True, env=_environment()
    )
    found = json.loads(done.stdout)
    if "calls" not in found["held"]:
        pytest.skip("this kernel takes no filter")
    assert found == {"held": found["held"], "could": [], "frames": 8, "sound": "used"}
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.mp4"]


@linux
def test_children_are_confined() -> None:
    source = (
        "from videollama2.media import serving\n"
        "def answer(task, blobs):\n"
        "    return open('/proc/self/status').read(), ()\n"
        "serving.main(answer)\n"
    )
    child = Child((sys.executable, "-c", source), ChildLimits(seconds=30))
    try:
        status, _ = child.ask({})
    finally:
        child.end()
    assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
    assert "calls" in child.held, "and they say so"


def test_elsewhere_nothing_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement.sys, "platform", "darwin")
    assert confine() == ()


def test_no_secret_goes_to_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ("OPENAI_API_KEY", "VIDEOLLAMA2_API_KEYS", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD",
              "https_proxy", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS")  # fmt: skip
    for name in (*secret, "VIDEOLLAMA2_TOKENIZERS", "KEYBOARD"):
        monkeypatch.setenv(name, "x")
    given = _environment()
    assert not set(secret) & set(given) and {"VIDEOLLAMA2_TOKENIZERS", "KEYBOARD", "PATH"} <= set(given)
