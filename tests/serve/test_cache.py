"""Encoded media: the same answer from the cache, within its limits, also after a restart."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from videollama2.engine import Engine
from videollama2.processing import Prepared
from videollama2.protocols import FULL, RELEASED, Protocol
from videollama2.receipt import VideoReceipt
from videollama2.serve.cache import EncodedMedia, Kept, kept, key_of, renamed
from videollama2.text.conversations import Media


def some(kib: int = 4, source: str = "the medium") -> Kept:
    video = VideoReceipt(
        source=source, kind="video", range_seconds=(0.0, 1.5), frames_total=20, frames_used=2,
        times_seconds=(0.5, 1.0), tokens=kib, notes=("odd",),
    )  # fmt: skip
    prepared = Prepared(
        pixels=torch.ones(2, 3, 4, 4), still=False, fbank=None, video=video, audio=None, losses=(f"{source}: no sound",)
    )
    return kept(prepared, {"video": torch.randn(kib, 256)})


def test_a_key_is_content_and_what_is_used_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"abc")
    (tmp_path / "b.mp4").write_bytes(b"abc")

    def key(protocol: Protocol = FULL, model: str = "nano", **media: Any) -> str:
        return key_of(Media(**{"source": b"abc", **media}), protocol, model)

    same = {key(), key(source=tmp_path / "a.mp4"), key(source=tmp_path / "b.mp4")}
    assert len(same) == 1
    others = [
        key(source=b"abd"), key(start=1.0), key(end=1.0), key(audio=False), key(video=False), key(num_frames=4),
        key(RELEASED), key(model="other"),
    ]  # fmt: skip
    assert len({*same, *others}) == 1 + len(others)


def test_what_is_kept_holds_no_pixels_and_can_be_renamed() -> None:
    value = some()
    assert value.prepared.modality == "video" and value.prepared.counts == {"video": 4}
    assert value.prepared.pixels is not None and value.prepared.pixels.numel() == 0
    named = renamed(value.prepared, "file-1")
    assert named.video is not None and named.video.source == "file-1" and named.losses == ("file-1: no sound",)


def test_memory_has_a_limit_and_the_longest_unused_goes() -> None:
    cache = EncodedMedia(3 * 4096)
    for name in "abc":
        cache.put(name, some(4))
    cache.get("a")
    cache.put("d", some(4))
    assert cache.bytes <= 3 * 4096 and cache.get("a") and cache.get("d") and cache.get("b") is None
    cache.put("huge", some(100))
    assert cache.get("huge") is None and cache.get("a")
    nothing = EncodedMedia(0)
    nothing.put("a", some())
    assert nothing.get("a") is None and nothing.bytes == 0


def test_the_folder_outlives_the_server_and_has_a_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = EncodedMedia(0, tmp_path, 11_000)
    one = some(4)
    cache.put("a", one)
    found = EncodedMedia(0, tmp_path, 11_000).get("a")
    assert found is not None and torch.equal(found.features["video"], one.features["video"])
    assert found.prepared.video == one.prepared.video and found.prepared.losses == one.prepared.losses
    assert found.prepared.counts == one.prepared.counts
    cache.put("b", some(4))
    cache.put("c", some(4))
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "c.safetensors").write_bytes(b"damaged")
    assert cache.get("c") is None and cache.get("nothing") is None
    assert "not used" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"video": [1]}, {"video": None}, {"pixels": [-1, 3]}, {"pixels": [2**62]}, {"pixels": "x"}, {"audio": {}}],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, change: dict[str, Any]) -> None:
    """Its clip is encoded again: else every question about it would fail for as long as the folder is there."""
    cache = EncodedMedia(0, tmp_path, 11_000)
    one = some()
    cache.put("a", one)
    path = tmp_path / "a.safetensors"
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["prepared"])
    save_file(one.features, path, {"prepared": json.dumps(told | change)})
    assert cache.get("a") is None
    save_file({"video": one.features["video"][1:]}, path, {"prepared": json.dumps(told)})
    assert cache.get("a") is None
    save_file(one.features, path, {"prepared": json.dumps(told)})
    assert cache.get("a") is not None


def test_features_from_the_cache_give_the_same_answer(engine: Engine, media: Path) -> None:
    medium = Media(source=media / "clip.mp4")
    prepared = engine.processor.prepare(medium)
    value = kept(prepared, engine.encode(prepared))
    assert all(torch.equal(value.features[k], v) for k, v in engine.encode(prepared).items())
    assert value.prepared.counts == prepared.counts and value.prepared.video == prepared.video
