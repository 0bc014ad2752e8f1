"""Media decoded while the model loads: the same clips and the same errors as without."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videollama2 import Engine
from videollama2.cli import ahead
from videollama2.errors import UnreadableMedia, WorkerError
from videollama2.media import open_clip
from videollama2.media.worker import WorkerPool
from videollama2.protocols import protocol
from videollama2.text.media_parts import Media


def flags(model: Path | str, **changes: Any) -> Namespace:
    return Namespace(**{"model": str(model), "base": None, "protocol": None, **changes})


def test_the_answers_clip_is_the_one_decoded_ahead(
    engine: Engine, tiny_folder: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    whole = WorkerPool.open_clip
    monkeypatch.setattr(WorkerPool, "open_clip", lambda *args, **kw: opened.append(kw) or whole(*args, **kw))
    item = Media(source=str(media / "clip.mp4"), start=0.5)
    opener = ahead.decode_ahead(flags(tiny_folder), [item])
    assert opener is not None
    inputs, receipt = engine.processor.media_inputs(item, engine.protocol, opener)
    assert len(opened) == 1, "the guess was right: the answer needs no other decoding"
    expected, account = engine.processor.media_inputs(item, engine.protocol)
    assert np.array_equal(inputs.pixels, expected.pixels) and np.array_equal(inputs.fbank, expected.fbank)
    assert receipt == account
    engine.processor.media_inputs(item, protocol("paper"), opener)
    assert len(opened) == 2, "what was opened otherwise is decoded for the answer"


def test_a_broken_file_has_the_error_that_it_has_here(tiny_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 500)
    opener = ahead.decode_ahead(flags(tiny_folder, protocol="full"), [Media(source=str(broken))])
    assert opener is not None
    with pytest.raises(UnreadableMedia) as here:
        open_clip(str(broken), protocol="full")
    with pytest.raises(UnreadableMedia) as there:
        opener(str(broken), protocol=protocol("full"))
    assert str(here.value) == str(there.value)


def test_without_workers_the_clip_is_decoded_here(
    tiny_folder: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise WorkerError("could not start a media worker")

    monkeypatch.setattr(WorkerPool, "open_clip", fail)
    path = str(media / "clip.mp4")
    opener = ahead.decode_ahead(flags(tiny_folder, protocol="full"), [Media(source=path)])
    assert opener is not None
    assert len(opener(path, num_frames=2, protocol=protocol("full")).frames) == 2


def test_nothing_is_guessed_about_what_is_not_known(tiny_folder: Path, media: Path, tmp_path: Path) -> None:
    clip = [Media(source=str(media / "clip.mp4"))]
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "videollama2_qwen2", "num_frames": 8}))
    for args in (flags(other), flags("2.1-7b-av"), flags(tmp_path), flags(tiny_folder, protocol="fulll")):
        assert ahead.decode_ahead(args, clip) is None
    assert ahead.decode_ahead(flags(tiny_folder), []) is None
    assert ahead.decode_ahead(flags(tiny_folder), [Media(source="/dev/stdin")]) is None
