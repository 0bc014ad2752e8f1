"""Clips opened in child processes: the same clip, the same errors, and nothing that a file does there reaches us."""

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
from videollama2.media import DEFAULT_LIMITS, Clip, Limits, isolated, open_clip
from videollama2.media.children import ChildLimits
from videollama2.media.framing import BadMessage, read_message, write_message
from videollama2.media.isolated import IsolatedMedia
from videollama2.media.packing import pack, unpack
from videollama2.protocols import PROTOCOLS

# A child whose decoder does, of files of these names, what decoders do.
MISBEHAVING = """
import os, time
from videollama2.media import opener, serving

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
        os.abort()
    if "raise" in name:
        raise ZeroDivisionError("0")
    return real(medium, **asked)

real, opener.open_clip = opener.open_clip, open_clip
pack = opener.pack
def lie(clip):
    told, blobs = pack(clip)
    return ({**told, "shapes": [[9, 9, 9]]}, blobs) if "lie" in os.environ.get("LIE", "") else (told, blobs)
opener.pack = lie
serving.main(opener.answer)
"""
LIMITS = ChildLimits(seconds=60, cpu_seconds=60, memory_mb=2048)


@pytest.fixture(scope="module")
def clips() -> Iterator[IsolatedMedia]:
    with IsolatedMedia(workers=1, child=LIMITS) as opened:
        yield opened


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Iterator[IsolatedMedia]:
    monkeypatch.setattr(isolated, "COMMAND", (sys.executable, "-c", MISBEHAVING))
    with IsolatedMedia(workers=1, child=LIMITS) as opened:
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


# ── the same as in this process ────────────────────────────────────────────────────────────────────────────────────


def test_it_takes_what_open_clip_takes() -> None:
    ours = inspect.signature(IsolatedMedia.open_clip).parameters
    theirs = inspect.signature(open_clip).parameters
    assert {name: (p.kind, p.default) for name, p in ours.items() if name not in ("self", "child")} == {
        name: (p.kind, p.default) for name, p in theirs.items()
    }


@pytest.mark.parametrize("protocol", ["released", "full"])
@pytest.mark.parametrize("name", ["clip.mp4", "mute.mp4", "tone.wav", "still.png"])
def test_the_same_clip(clips: IsolatedMedia, media: Path, name: str, protocol: str) -> None:
    same(clips.open_clip(media / name, protocol=protocol), open_clip(media / name, protocol=protocol))
    raw = (media / name).read_bytes()
    same(clips.open_clip(raw, protocol=PROTOCOLS[protocol]), open_clip(raw, protocol=protocol))


def test_ranges_folders_lists_and_pictures(clips: IsolatedMedia, media: Path, tmp_path: Path) -> None:
    for wish in ({"start": 0.5, "end": 1.5}, {"want_audio": False, "num_frames": 3}, {"num_frames": None}):
        same(clips.open_clip(media / "clip.mp4", **wish), open_clip(media / "clip.mp4", **wish))
    for i in range(3):
        Image.new("RGB", (8 + i, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    same(clips.open_clip(tmp_path), open_clip(tmp_path))
    paths = [tmp_path / "0.png", str(tmp_path / "2.png")]
    same(clips.open_clip(paths, times=(0, 1.5)), open_clip(paths, times=(0, 1.5)))
    array = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    same(clips.open_clip(array), open_clip(array))


def test_paths_are_relative_to_where_we_are(
    clips: IsolatedMedia, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(media / "still.png", tmp_path / "here.png")
    monkeypatch.chdir(tmp_path)
    assert clips.open_clip("here.png").source == "here.png"


def test_the_same_errors(clips: IsolatedMedia, media: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    cases: list[tuple[Any, dict[str, Any]]] = [
        (tmp_path / "gone.mp4", {}), (tmp_path / "text.mp4", {}), (media / "still.png", {"want_video": False}),
        (media / "clip.mp4", {"start": 9.0, "end": 10.0}), (media / "clip.mp4", {"num_frames": 0}),
        (b"", {}), ("http://example.org/a.mp4", {}), (media / "still.png", {"limits": Limits(max_pixels=4)}),
    ]  # fmt: skip
    for medium, wish in cases:
        with pytest.raises(VideoLlama2Error) as ours:
            clips.open_clip(medium, **wish)
        with pytest.raises(VideoLlama2Error) as theirs:
            open_clip(medium, **wish)
        assert type(ours.value) is type(theirs.value) and str(ours.value) == str(theirs.value)


def test_limits_can_only_be_lowered(media: Path) -> None:
    with IsolatedMedia(workers=1, limits=Limits(max_pixels=100)) as small, pytest.raises(MediaTooLarge):
        small.open_clip(media / "still.png", limits=DEFAULT_LIMITS)
    assert Limits(max_file_bytes=5).lowered(Limits(max_pixels=7)) == Limits(max_file_bytes=5, max_pixels=7)
    low = ChildLimits(seconds=1).lowered(ChildLimits(seconds=5, memory_mb=7))
    assert (low.seconds, low.memory_mb) == (1, 7)
    for wrong in ({"seconds": 0}, {"memory_mb": -1}):
        with pytest.raises(UsageError, match="above 0"):
            ChildLimits(**wrong)
    with pytest.raises(UsageError):
        IsolatedMedia(workers=0)


# ── what misbehaves ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_file_does_to_its_decoder_costs_that_file(bad: IsolatedMedia, media: Path, tmp_path: Path) -> None:
    def told(name: str, kind: type[VideoLlama2Error], **child: Any) -> str:
        with pytest.raises(kind) as caught:
            bad.open_clip(tmp_path / name, child=ChildLimits(**child) if child else None)
        assert type(caught.value) is kind and name in str(caught.value)
        same(bad.open_clip(media / "still.png"), open_clip(media / "still.png"))
        return str(caught.value)

    assert "nothing came of it within 0.5 s" in told("hang.mp4", UnreadableMedia, seconds=0.5)
    assert "SIGABRT" in told("crash.mp4", UnreadableMedia)
    assert "more memory" in told("bomb.mp4", MediaTooLarge, memory_mb=512)
    assert "ZeroDivisionError" in told("raise.mp4", UnreadableMedia)
    assert "processor time" in told("spin.mp4", UnreadableMedia, cpu_seconds=0.1)


def test_a_child_that_lies(bad: IsolatedMedia, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIE", "lie")
    with pytest.raises(UnreadableMedia, match="a clip that is none"):
        bad.open_clip(media / "still.png")
    monkeypatch.delenv("LIE")
    assert bad.open_clip(media / "still.png").kind == "image", "the next one has a new process"
    with pytest.raises(UnreadableMedia, match="at most 10 are taken"):
        bad.open_clip(media / "still.png", child=ChildLimits(reply_bytes=10))


def test_several_wait_for_one_child_and_closing_tells_them(bad: IsolatedMedia, media: Path, tmp_path: Path) -> None:
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


def test_a_child_that_was_killed_from_outside(media: Path) -> None:
    with IsolatedMedia(workers=1) as clips:
        clips.open_clip(media / "still.png")
        process = clips._free.queue[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert clips.open_clip(media / "still.png").kind == "image"


def test_no_child_can_be_started(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command, said in (((sys.executable, "-c", "raise SystemExit('no such luck')"), "no such luck"),
                          (("/nowhere/python",), "no process can be started"),
                          ((sys.executable, "-c", "print('hello, is it me?')"), "a header of")):  # fmt: skip
        monkeypatch.setattr(isolated, "COMMAND", command)
        with IsolatedMedia() as clips, pytest.raises(WorkerError, match=said):
            clips.open_clip(media / "still.png")


def test_children_go_with_whoever_made_them(media: Path) -> None:
    clips = IsolatedMedia(workers=1)
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
    with pytest.raises(BadMessage, match="at most 1"):
        read_message(io.BytesIO(whole), 1)


def test_clips_that_are_none(media: Path) -> None:
    told, blobs = pack(open_clip(media / "clip.mp4"))
    raw = [bytearray(blob) for blob in blobs]
    same(unpack(told, raw), open_clip(media / "clip.mp4"))
    for wrong in (None, {}, {**told, "shapes": None}, {**told, "notes": 3}, {**told, "wave": {"dtype": "object"}},
                  {**told, "more": 1}):  # fmt: skip
        with pytest.raises(BadMessage):
            unpack(wrong, raw)
    with pytest.raises(BadMessage):
        unpack(told, raw[:-1])


# ── the engine ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_engine_that_decodes_in_children(tiny_folder: Path, media: Path, clips: IsolatedMedia) -> None:
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
    assert load(isolate=True).opener.__self__.__class__ is IsolatedMedia  # type: ignore[attr-defined]
