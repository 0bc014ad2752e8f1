"""Clips that are opened once for several questions."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from videollama2.errors import MediaNotFound, UnreadableMedia, UsageError
from videollama2.media import Clip, open_clip
from videollama2.media.remembered import Remembered
from videollama2.protocols import FULL


class Counting:
    """open_clip, which counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, medium: Any, **asked: Any) -> Clip:
        self.calls += 1
        self.gate.wait(10)
        return open_clip(medium, **asked)


def test_the_same_is_opened_once(media: Path, tmp_path: Path) -> None:
    inner = Counting()
    opener = Remembered(inner, keep=2)
    path = tmp_path / "a.png"
    path.write_bytes((media / "still.png").read_bytes())
    wish = {"num_frames": 4, "protocol": FULL, "want_audio": True}
    assert opener(path, **wish) is opener(str(path), **wish) and inner.calls == 1
    assert opener(path, **{**wish, "want_audio": False}).audio_state == "not_requested" and inner.calls == 2
    os.utime(path, ns=(1, 1))
    opener(path, **wish)
    assert inner.calls == 3, "it may have changed"
    opener(path, **{**wish, "want_audio": False})
    opener(path, **wish)
    assert inner.calls == 4, "two are kept"
    raw = path.read_bytes()
    assert opener(raw, **wish) is not opener(raw, **wish)


def test_errors_are_not_remembered(tmp_path: Path) -> None:
    inner = Counting()
    opener = Remembered(inner)
    path = tmp_path / "bad.mp4"
    path.write_bytes(b"no film")
    for calls in (1, 2):
        with pytest.raises(UnreadableMedia):
            opener(path)
        assert inner.calls == calls
    with pytest.raises(MediaNotFound):
        opener(tmp_path / "gone.mp4")
    with pytest.raises(UsageError):
        Remembered(inner, keep=0)


def test_who_asks_meanwhile_waits(media: Path) -> None:
    inner = Counting()
    inner.gate.clear()
    opener = Remembered(inner)
    found: list[Clip] = []
    threads = [threading.Thread(target=lambda: found.append(opener(media / "still.png"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    inner.gate.set()
    for thread in threads:
        thread.join()
    assert inner.calls == 1 and all(clip is found[0] for clip in found)
