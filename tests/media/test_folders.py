"""Folders of frames: which files, in which order, at which times."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videollama2.media import Clip, open_clip
from videollama2.media.folders import natural_order
from videollama2.protocols import FULL, RELEASED

from .make import flat, grey


def folder_of(folder: Path, names: list[str]) -> Path:
    """A folder whose k-th name is picture k."""
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(flat(i)).save(folder / name)
    return folder


def order(clip: Clip) -> list[int]:
    """Which pictures the frames are."""
    levels = [grey(i) for i in range(30)]
    return [min(range(30), key=lambda i: abs(levels[i] - float(frame.mean()))) for frame in clip.frames]


@pytest.mark.parametrize(
    "pattern",
    ["{}.png", "frame{}.png", "Shot-2_{}.PNG", "v1 {} final.png"],
    ids=["%d", "word", "two numbers", "middle"],
)
def test_natural_order(pattern: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", [pattern.format(i) for i in range(1, 13)])
    full = open_clip(folder, num_frames=12, protocol="full")
    assert order(full) == list(range(12))
    assert any("sorted by number" in note and pattern.format(2) in note for note in full.notes) and not full.losses
    released = open_clip(folder, num_frames=12)
    assert order(released) == [0, 9, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8]
    assert any("like the public implementation" in note for note in released.notes)


def test_padded_names_need_no_note(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", [f"{i:04d}.png" for i in range(12)])
    for protocol in ("full", "released"):
        clip = open_clip(folder, num_frames=12, protocol=protocol)
        assert order(clip) == list(range(12)) and not any("order" in note for note in clip.notes)


def test_keys_can_be_compared() -> None:
    names = ["a", "1", "1a", "a1", "10", "2", "A2", "", "01", "é1", "1.5", "1.10"]
    assert sorted(names, key=natural_order) == ["", "01", "1", "1.5", "1.10", "1a", "2", "10", "a", "a1", "A2", "é1"]


def test_companions_are_counted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", ["1.png", "2.png", "3.png"])
    for name in ("._1.png", "._2.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    (folder / "notes.txt").write_text("x")
    clip = open_clip(folder, num_frames=3, protocol="full")
    assert clip.frames_total == 3 and order(clip) == [0, 1, 2]
    assert any(note.startswith("5 files created by macOS or Windows") for note in clip.notes)
    assert any(note.startswith("1 non-image entry in the folder") for note in clip.notes) and not clip.losses


def test_holes_in_a_sequence(tmp_path: Path) -> None:
    numbers = [1, 2, 3, 5, 6, 7, 10, 11]
    folder = folder_of(tmp_path / "f", [f"{n}.png" for n in numbers])
    clip = open_clip(folder, num_frames=8, protocol=replace(FULL, folder_fps=10))
    np.testing.assert_allclose(clip.times, (np.array(numbers) - 1) / 10)
    assert any(n.startswith("3 numbers are missing from the sequence, 4, 8 to 9") for n in clip.notes)
    assert not clip.losses
    late = open_clip(folder, num_frames=2, protocol=replace(FULL, folder_fps=10), start=0.4, end=0.6)
    assert order(late) == [3, 4]
    released = open_clip(folder, num_frames=8, protocol=replace(RELEASED, folder_fps=10))
    np.testing.assert_allclose(released.times, np.arange(8) / 10)
    assert any("the other frames close the gaps" in note for note in released.notes)


@pytest.mark.parametrize("numbers", [[0, 10, 20, 30, 40], [13, 57, 101, 430, 431], [7, 9]], ids=["tens", "ms", "two"])
def test_numbers_without_holes(numbers: list[int], tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", [f"{n}.png" for n in numbers])
    clip = open_clip(folder, num_frames=len(numbers), protocol="full")
    np.testing.assert_allclose(clip.times, np.arange(len(numbers)) / 3)
    assert not any("missing" in note for note in clip.notes)


def test_the_frame_rate_is_stated(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", ["1.png", "2.png"])
    assert "the folder has no frame rate: it is read at 3 frames per second" in open_clip(folder, num_frames=2).notes
    clip = open_clip(folder, num_frames=2, protocol=replace(FULL, folder_fps=30))
    assert clip.times[1] == pytest.approx(1 / 30) and any("at 30 frames per second" in note for note in clip.notes)
