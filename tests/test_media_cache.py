"""Encoded media: the same answer from the cache, within its limits, also after a restart."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from videollama2 import Request
from videollama2.encoded_media import EncodedMedia
from videollama2.engine import Engine
from videollama2.errors import MediaNotFound
from videollama2.media_cache import EncodedMediaCache
from videollama2.protocols import FULL, RELEASED, Protocol
from videollama2.receipt import Loss, MediaReceipt, VideoReceipt
from videollama2.text.media_parts import Media

Q = "what do you see and hear?"


def some(kib: int = 4, source: str = "the medium") -> EncodedMedia:
    video = VideoReceipt(
        source=source, kind="video", range_seconds=(0.0, 1.5), frames_total=20, frames_used=2,
        times_seconds=(0.5, 1.0), tokens=kib, notes=("odd",),
    )  # fmt: skip
    receipt = MediaReceipt(source=source, video=video, losses=(Loss("audio_absent", "no sound"),))
    return EncodedMedia(tokens={"video": torch.randn(kib, 256)}, receipt=receipt)


def test_a_key_is_content_and_what_is_used_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"abc")
    (tmp_path / "b.mp4").write_bytes(b"abc")

    def key(protocol: Protocol = FULL, model: str = "nano", **media: Any) -> str | None:
        return EncodedMediaCache(0, model=model).key(Media(**{"source": b"abc", **media}), protocol)

    same = {key(), key(source=tmp_path / "a.mp4"), key(source=str(tmp_path / "b.mp4"))}
    assert len(same) == 1 and None not in same
    others = [
        key(source=b"abd"), key(start=1.0), key(end=1.0), key(audio=False), key(video=False), key(num_frames=4),
        key(RELEASED), key(model="other"),
    ]  # fmt: skip
    assert len({*same, *others}) == 1 + len(others)
    assert key(source=[tmp_path / "a.mp4"]) is None, "not one file: not cached"
    for unreadable in (tmp_path / "gone.mp4", "nul\0.mp4", 3):
        assert key(source=unreadable) is None, "whoever opens it reports it"
    assert key(source=tmp_path) is key(source=str(tmp_path)) is None, "a folder of pictures is not one file"


def test_an_engine_with_a_cache_takes_folders_and_reports_missing_files(
    engine: Engine, media: Path, tmp_path: Path
) -> None:
    for i in range(2):
        shutil.copy(media / "still.png", tmp_path / f"{i}.png")
    cache = EncodedMediaCache(1 << 20)
    for _ in range(2):
        (item,) = engine.prepare([Media(source=tmp_path)], cache=cache).items
        assert item.receipt.video is not None and item.receipt.video.frames_total == 2 and not item.reused
    with pytest.raises(MediaNotFound, match=r"gone\.mp4") as caught:
        engine.prepare([Media(source=tmp_path / "gone.mp4")], cache=cache)
    assert "upload" not in str(caught.value), "that is the server's advice"


def test_a_receipt_can_be_renamed() -> None:
    named = some().receipt.renamed("file-1")
    assert named.video is not None and named.video.source == "file-1"
    assert named.loss_messages == ("file-1: no sound",)
    assert named.modality == "video" and named.tokens == {"video": 4}


def test_memory_has_a_limit_and_the_longest_unused_goes() -> None:
    cache = EncodedMediaCache(3 * 4096)
    for name in "abc":
        cache.put(name, some(4))
    cache.get("a")
    cache.put("d", some(4))
    assert cache.nbytes <= 3 * 4096 and cache.get("a") and cache.get("d") and cache.get("b") is None
    cache.put("huge", some(100))
    assert cache.get("huge") is None and cache.get("a")
    nothing = EncodedMediaCache(0)
    nothing.put("a", some())
    assert nothing.get("a") is None and nothing.nbytes == 0


def test_the_folder_outlives_the_process_and_has_a_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = EncodedMediaCache(0, tmp_path, 11_000)
    one = some(4)
    cache.put("a", one)
    found = EncodedMediaCache(0, tmp_path, 11_000).get("a")
    assert found is not None and torch.equal(found.tokens["video"], one.tokens["video"])
    assert found.receipt == one.receipt and found.reused and not one.reused
    cache.put("b", some(4))
    cache.put("c", some(4))
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "c.safetensors").write_bytes(b"damaged")
    assert cache.get("c") is None and cache.get("nothing") is None
    assert "ignoring unreadable cache file" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"video": [1]}, {"video": None}, {"losses": [1]}, {"losses": "x"}, {"losses": [{"kind": "x"}]}, {"audio": {}}],
)
def test_a_damaged_file_is_ignored(tmp_path: Path, change: dict[str, Any]) -> None:
    """Its clip is encoded again: else every question about it would fail for as long as the folder is there."""
    cache = EncodedMediaCache(0, tmp_path, 11_000)
    one = some()
    cache.put("a", one)
    path = tmp_path / "a.safetensors"
    with safe_open(path, "pt") as file:
        plain = json.loads(file.metadata()["media_receipt"])
    save_file(one.tokens, path, {"media_receipt": json.dumps(plain | change)})
    assert cache.get("a") is None
    save_file({"video": one.tokens["video"][1:]}, path, {"media_receipt": json.dumps(plain)})
    assert cache.get("a") is None
    save_file(one.tokens, path, {"media_receipt": json.dumps(plain)})
    assert cache.get("a") is not None


def test_a_file_of_an_older_version_is_ignored(tmp_path: Path) -> None:
    one = some()
    save_file(one.tokens, tmp_path / "a.safetensors", {"prepared": json.dumps({"pixels": [2, 3, 4, 4]})})
    assert EncodedMediaCache(0, tmp_path, 11_000).get("a") is None


def test_cached_media_give_the_same_answer(engine: Engine, media: Path) -> None:
    cache = EncodedMediaCache(1 << 20)
    request = Request(media=media / "clip.mp4", question=Q)
    first, second = (engine.prepare(request.media_items(), cache=cache) for _ in range(2))
    assert first.receipts == second.receipts
    assert [item.reused for item in (*first.items, *second.items)] == [False, True]
    assert all(torch.equal(second.items[0].tokens[k], t) for k, t in first.items[0].tokens.items())
    prompts = [engine.embed(request.conversation(m.modalities), m) for m in (first, second)]
    assert torch.equal(prompts[0].embeds, prompts[1].embeds)
    assert prompts[0].account.reused == () and prompts[1].account.reused == (str(media / "clip.mp4"),)
