"""Clips opened in workers: the same clip and errors as in this process, whatever a file does to its worker."""

import gc
import inspect
import io
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import videollama2
from videollama2.errors import (
    MediaNotFound,
    MediaTooLarge,
    NoAudioStream,
    UnreadableMedia,
    UsageError,
    VideoLlama2Error,
    WorkerError,
)
from videollama2.media import DEFAULT_LIMITS, Clip, Limits, open_clip
from videollama2.media.worker import WorkerLimits, WorkerPool, pool
from videollama2.media.worker import process as worker_process
from videollama2.media.worker.messages import (
    BadMessage,
    clip_from_message,
    clip_to_message,
    read_message,
    write_message,
)
from videollama2.protocols import PROTOCOLS

# A worker whose decoder misbehaves on files with these names, as real decoders do.
MISBEHAVING = """
import os, time
from videollama2.media.worker import decode, loop

def open_clip(medium, **asked):
    name = str(medium)
    if "hang" in name:
        time.sleep(600)
    if "spin" in name:
        while True:
            pass
    if "bomb" in name:
        bytearray(8 << 30)
    if "crash" in name:
        print(f"an assertion about {os.path.basename(name)} failed", flush=True)
        os.abort()
    if "raise" in name:
        raise ZeroDivisionError("0")
    return real(medium, **asked)

real, decode.open_clip = decode.open_clip, open_clip
to_message = decode.clip_to_message
def lie(clip):
    body, blobs = to_message(clip)
    return ({**body, "shapes": [[9, 9, 9]]}, blobs) if "lie" in os.environ.get("LIE", "") else (body, blobs)
decode.clip_to_message = lie
loop.run_worker(decode.handle)
"""
LIMITS = WorkerLimits(seconds=60, cpu_seconds=60, memory_mb=2048)


@pytest.fixture(scope="module")
def clips() -> Iterator[WorkerPool]:
    with WorkerPool(workers=1, worker_limits=LIMITS) as opened:
        yield opened


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, "-c", MISBEHAVING))
    with WorkerPool(workers=1, worker_limits=LIMITS) as opened:
        yield opened


def same(one: Clip, other: Clip) -> None:
    for field in fields(Clip):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "frames":
            assert len(mine) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
        elif field.name == "times":
            assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs)
        elif field.name == "wave" and mine is not None:
            assert mine.samples.dtype == theirs.samples.dtype and np.array_equal(mine.samples, theirs.samples)
            assert {**vars(mine), "samples": 0} == {**vars(theirs), "samples": 0}
        else:
            assert mine == theirs and type(mine) is type(theirs), field.name


def test_a_task_does_not_search_what_imports_made() -> None:
    """The worker collects garbage after each task: 80 ms over all that torch's import made, 0.1 without."""
    code = (
        "import gc, torch\nfrom videollama2.media.worker import loop\n"
        "loop.run_worker(lambda task, blobs: (len(gc.get_objects()), ()))"
    )
    worker = worker_process.Worker((sys.executable, "-c", code), LIMITS)
    try:
        assert worker.call({})[0] < 20_000
    finally:
        worker.shut_down()


# ── the same as in this process ────────────────────────────────────────────────────────────────────────────────────


def test_signature_equals_open_clips() -> None:
    ours = inspect.signature(WorkerPool.open_clip).parameters
    theirs = inspect.signature(open_clip).parameters
    assert {name: (p.kind, p.default) for name, p in ours.items() if name not in ("self", "worker_limits")} == {
        name: (p.kind, p.default) for name, p in theirs.items()
    }


@pytest.mark.parametrize("protocol", ["released", "full"])
@pytest.mark.parametrize("name", ["clip.mp4", "mute.mp4", "tone.wav", "still.png"])
def test_the_same_clip(clips: WorkerPool, media: Path, name: str, protocol: str) -> None:
    same(clips.open_clip(media / name, protocol=protocol), open_clip(media / name, protocol=protocol))
    raw = (media / name).read_bytes()
    same(clips.open_clip(raw, protocol=PROTOCOLS[protocol]), open_clip(raw, protocol=protocol))


def test_ranges_folders_lists_and_images(clips: WorkerPool, media: Path, tmp_path: Path) -> None:
    for options in ({"start": 0.5, "end": 1.5}, {"want_audio": False, "num_frames": 3}, {"num_frames": None}):
        same(clips.open_clip(media / "clip.mp4", **options), open_clip(media / "clip.mp4", **options))
    for i in range(3):
        Image.new("RGB", (8 + i, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    same(clips.open_clip(tmp_path), open_clip(tmp_path))
    paths = [tmp_path / "0.png", str(tmp_path / "2.png")]
    same(clips.open_clip(paths, times=(0, 1.5)), open_clip(paths, times=(0, 1.5)))
    array = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    same(clips.open_clip(array), open_clip(array))


def test_relative_paths(clips: WorkerPool, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(media / "still.png", tmp_path / "here.png")
    monkeypatch.chdir(tmp_path)
    assert clips.open_clip("here.png").source == "here.png"


def test_the_same_errors(clips: WorkerPool, media: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    cases: list[tuple[Any, dict[str, Any]]] = [
        (tmp_path / "gone.mp4", {}), (tmp_path / "text.mp4", {}), (media / "still.png", {"want_video": False}),
        (media / "clip.mp4", {"start": 9.0, "end": 10.0}), (media / "clip.mp4", {"num_frames": 0}),
        (b"", {}), ("http://example.org/a.mp4", {}), (media / "still.png", {"limits": Limits(max_pixels=4)}),
    ]  # fmt: skip
    for medium, options in cases:
        with pytest.raises(VideoLlama2Error) as ours:
            clips.open_clip(medium, **options)
        with pytest.raises(VideoLlama2Error) as theirs:
            open_clip(medium, **options)
        assert type(ours.value) is type(theirs.value) and str(ours.value) == str(theirs.value)


def test_limits_can_only_be_lowered(media: Path) -> None:
    with WorkerPool(workers=1, limits=Limits(max_pixels=100)) as small, pytest.raises(MediaTooLarge):
        small.open_clip(media / "still.png", limits=DEFAULT_LIMITS)
    assert Limits(max_file_bytes=5).lowered(Limits(max_pixels=7)) == Limits(max_file_bytes=5, max_pixels=7)
    low = WorkerLimits(seconds=1).lowered(WorkerLimits(seconds=5, memory_mb=7))
    assert (low.seconds, low.memory_mb) == (1, 7)
    for wrong in ({"seconds": 0}, {"memory_mb": -1}):
        with pytest.raises(UsageError, match="above 0"):
            WorkerLimits(**wrong)
    with pytest.raises(UsageError):
        WorkerPool(workers=0)


# ── what misbehaves ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_kills_its_worker_costs_only_itself(bad: WorkerPool, media: Path, tmp_path: Path) -> None:
    def error_of(name: str, kind: type[VideoLlama2Error], **limits: Any) -> str:
        with pytest.raises(kind) as caught:
            bad.open_clip(tmp_path / name, worker_limits=WorkerLimits(**limits) if limits else None)
        assert type(caught.value) is kind and name in str(caught.value)
        same(bad.open_clip(media / "still.png"), open_clip(media / "still.png"))
        return str(caught.value)

    assert "no reply within 0.5 s; its worker was killed" in error_of("hang.mp4", UnreadableMedia, seconds=0.5)
    assert "SIGABRT" in error_of("crash.mp4", UnreadableMedia)
    with pytest.raises(UnreadableMedia) as caught:
        bad.open_clip(tmp_path / "crash2.mp4")
    assert "failed" not in str(caught.value), "what it printed is only a note, which servers don't send"
    (note,) = caught.value.__notes__
    assert note.endswith("an assertion about crash2.mp4 failed") and "crash.mp4" not in note
    assert "memory limit" in error_of("bomb.mp4", MediaTooLarge, memory_mb=512)
    assert "ZeroDivisionError" in error_of("raise.mp4", UnreadableMedia)
    assert "CPU time" in error_of("spin.mp4", UnreadableMedia, cpu_seconds=0.1)


def test_a_worker_that_lies(bad: WorkerPool, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIE", "lie")
    with pytest.raises(UnreadableMedia, match="a malformed clip"):
        bad.open_clip(media / "still.png")
    monkeypatch.delenv("LIE")
    assert bad.open_clip(media / "still.png").kind == "image", "the next file gets a new process"
    with pytest.raises(UnreadableMedia, match="limit 10"):
        bad.open_clip(media / "still.png", worker_limits=WorkerLimits(reply_bytes=10))


def test_threads_wait_for_one_worker_and_closing_ends_their_calls(bad: WorkerPool, media: Path, tmp_path: Path) -> None:
    found: list[Any] = []

    def ask(name: Path) -> None:
        try:
            found.append(bad.open_clip(name).kind)
        except VideoLlama2Error as error:
            found.append(type(error))

    threads = [threading.Thread(target=ask, args=(media / "still.png",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["image"] * 3
    hanging = threading.Thread(target=ask, args=(tmp_path / "hang.mp4",))
    hanging.start()
    time.sleep(0.3)
    bad.close()
    hanging.join(10)
    assert found[3] is WorkerError
    with pytest.raises(WorkerError, match="stopped"):
        bad.open_clip(media / "still.png")


def test_a_worker_that_was_killed_from_outside(media: Path) -> None:
    with WorkerPool(workers=1) as clips:
        clips.open_clip(media / "still.png")
        process = clips._free.queue[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert clips.open_clip(media / "still.png").kind == "image"


def test_a_worker_that_does_not_start(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command, words in (((sys.executable, "-c", "raise SystemExit('no such luck')"), "no such luck"),
                          (("/nowhere/python",), "could not start a media worker: "),
                          ((sys.executable, "-c", "print('hello, is it me?')"), "a header of")):  # fmt: skip
        monkeypatch.setattr(pool, "COMMAND", command)
        with WorkerPool() as clips, pytest.raises(WorkerError, match=words):
            clips.open_clip(media / "still.png")


def test_a_worker_that_starts_too_slowly(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(worker_process, "_START_SECONDS", 0.3)
    with WorkerPool() as clips, pytest.raises(WorkerError, match=r"not ready within 0\.3 s"):
        clips.open_clip(media / "still.png")


@pytest.mark.parametrize("form", [bytes, str, list])
def test_errors_name_the_media_item(bad: WorkerPool, tmp_path: Path, form: type) -> None:
    path = str(tmp_path / "raise.mp4")
    item: Any = {bytes: b"a raise", str: path, list: [path, path]}[form]
    with pytest.raises(UnreadableMedia, match="ZeroDivisionError") as caught:
        bad.open_clip(item)
    assert str(caught.value).startswith(("<7 bytes>" if form is bytes else path) + " can't be decoded")


def test_workers_end_with_their_pool(media: Path) -> None:
    clips = WorkerPool(workers=1)
    clips.open_clip(media / "still.png")
    process = clips._free.queue[0]._process
    assert process is not None
    del clips
    gc.collect()
    assert process.poll() is not None


# ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_messages() -> None:
    stream = io.BytesIO()
    write_message(stream, {"a": [1.5, None, "ü"]}, [b"xy", b""])
    whole = stream.getvalue()
    assert read_message(io.BytesIO(whole), 2) == ({"a": [1.5, None, "ü"]}, [b"xy", b""])
    for cut in (0, 4, 20, len(whole) - 1):
        assert read_message(io.BytesIO(whole[:cut]), 2) is None
    for wrong in (b"\xff" * 8, (2).to_bytes(8) + b"{}", (17).to_bytes(8) + b'{"blobs":[-1]   }'):
        with pytest.raises(BadMessage):
            read_message(io.BytesIO(wrong), 100)
    with pytest.raises(BadMessage, match="limit 1"):
        read_message(io.BytesIO(whole), 1)


def test_malformed_clips(media: Path) -> None:
    body, blobs = clip_to_message(open_clip(media / "clip.mp4"))
    raw = [bytearray(blob) for blob in blobs]
    same(clip_from_message(body, raw), open_clip(media / "clip.mp4"))
    for wrong in (None, {}, {**body, "shapes": None}, {**body, "notes": 3}, {**body, "wave": {"dtype": "object"}},
                  {**body, "more": 1}):  # fmt: skip
        with pytest.raises(BadMessage):
            clip_from_message(wrong, raw)
    with pytest.raises(BadMessage):
        clip_from_message(body, raw[:-1])


# ── the engine ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_engine_that_decodes_in_workers(tiny_folder: Path, media: Path, clips: WorkerPool) -> None:
    def load(**kwargs: Any) -> videollama2.Engine:
        return videollama2.load(tiny_folder, device="cpu", dtype="float32", **kwargs)

    ours, plain = load(isolate=clips), load()
    assert ours.opener == clips.open_clip and plain.opener is open_clip
    asked = (media / "clip.mp4", "what do you see and hear?")
    one, other = ours.answer(*asked, max_new_tokens=4), plain.answer(*asked, max_new_tokens=4)
    assert (one.text, one.receipt) == (other.text, other.receipt)
    with pytest.raises(MediaNotFound):
        ours.answer("nope.mp4", "what?")
    with pytest.raises(NoAudioStream):
        ours.answer(media / "still.png", "what?", video=False)
    assert load(isolate=True).opener.__self__.__class__ is WorkerPool  # type: ignore[attr-defined]
