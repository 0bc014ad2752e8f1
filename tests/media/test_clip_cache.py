"""Clips are decoded once for several questions."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from videollama2.errors import MediaNotFound, UnreadableMedia, UsageError
from videollama2.media import Clip, open_clip
from videollama2.media.clip_cache import ClipCache
from videollama2.protocols import FULL


class Counting:
    """open_clip with a count of its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, medium: Any, **options: Any) -> Clip:
        self.calls += 1
        self.gate.wait(10)
        return open_clip(medium, **options)


def test_the_same_request_is_decoded_once(media: Path, tmp_path: Path) -> None:
    inner = Counting()
    opener = ClipCache(inner, max_clips=2)
    path = tmp_path / "a.png"
    path.write_bytes((media / "still.png").read_bytes())
    options = {"num_frames": 4, "protocol": FULL, "want_audio": True}
    assert opener(path, **options) is opener(str(path), **options) and inner.calls == 1
    assert opener(path, **{**options, "want_audio": False}).audio_state == "not_requested" and inner.calls == 2
    os.utime(path, ns=(1, 1))
    opener(path, **options)
    assert inner.calls == 3, "it may have changed"
    opener(path, **{**options, "want_audio": False})
    opener(path, **options)
    assert inner.calls == 4, "the cache holds two"
    raw = path.read_bytes()
    assert opener(raw, **options) is not opener(raw, **options)


def test_errors_are_not_cached(tmp_path: Path) -> None:
    inner = Counting()
    opener = ClipCache(inner)
    path = tmp_path / "bad.mp4"
    path.write_bytes(b"no film")
    for calls in (1, 2):
        with pytest.raises(UnreadableMedia):
            opener(path)
        assert inner.calls == calls
    with pytest.raises(MediaNotFound):
        opener(tmp_path / "gone.mp4")
    with pytest.raises(UsageError):
        ClipCache(inner, max_clips=0)


def test_concurrent_requests_decode_once(media: Path) -> None:
    inner = Counting()
    inner.gate.clear()
    opener = ClipCache(inner)
    found: list[Clip] = []
    threads = [threading.Thread(target=lambda: found.append(opener(media / "still.png"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    inner.gate.set()
    for thread in threads:
        thread.join()
    assert inner.calls == 1 and all(clip is found[0] for clip in found)
