"""A video whose audio is a separate file: it is decoded as the video's own, and the receipt names it."""

from pathlib import Path

import pytest
import torch

from videollama2.engine import Engine
from videollama2.media.worker import WorkerPool
from videollama2.media_cache import EncodedMediaCache
from videollama2.protocols import PROTOCOLS, protocol
from videollama2.text.media_parts import Media

from . import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip with its sound, and the same as a silent clip and two audio files."""
    place = tmp_path_factory.mktemp("pair")
    sound = tiny.tone(4.0, 660.0)
    tiny.write_clip(place / "both.mp4", frames=40, sound=sound)
    tiny.write_clip(place / "mute.mp4", frames=40, sound=sound[:0])
    tiny.write_wave(place / "sound.wav", sound)
    tiny.write_wave(place / "other.wav", tiny.tone(4.0, 110.0))
    return place


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
@pytest.mark.parametrize("bounds", [(None, None), (1.0, 3.0)])
def test_it_is_prepared_as_the_video_s_own(
    engine: Engine, folder: Path, name: str, bounds: tuple[float | None, float | None]
) -> None:
    start, end = bounds
    chosen = protocol(name)
    own, receipt = engine.processor.media_inputs(Media(source=folder / "both.mp4", start=start, end=end), chosen)
    pair = Media(source=folder / "mute.mp4", audio_source=folder / "sound.wav", start=start, end=end)
    separate, given = engine.processor.media_inputs(pair, chosen)
    other, _ = engine.processor.media_inputs(
        Media(source=folder / "mute.mp4", audio_source=folder / "other.wav", start=start, end=end), chosen
    )
    assert own.fbank is not None and separate.fbank is not None and other.fbank is not None
    rows = min(len(own.fbank), len(separate.fbank))
    assert abs(len(own.fbank) - len(separate.fbank)) <= 8  # AAC rounds a clip's audio up to whole frames
    difference = (own.fbank[:rows].float() - separate.fbank[:rows].float()).abs().mean()
    assert difference < 0.25 * (own.fbank[:rows].float() - other.fbank[:rows].float()).abs().mean()
    assert torch.equal(own.pixels, separate.pixels)  # type: ignore[arg-type]
    assert given.audio is not None and receipt.audio is not None and given.video is not None
    assert given.audio.state == "used" and given.audio.source.endswith("sound.wav")
    assert given.audio.used_seconds == pytest.approx(receipt.audio.used_seconds, abs=0.1)
    assert given.video.source.endswith("mute.mp4") and given.modality == "video"
    assert [loss.kind for loss in given.losses] == [loss.kind for loss in receipt.losses]


def test_only_what_is_requested_is_opened(engine: Engine, folder: Path) -> None:
    media = Media(source=folder / "mute.mp4", audio_source=folder / "missing.wav", audio=False)
    receipt = engine.answer([media], "What?", max_new_tokens=1).receipt
    assert receipt.audio is not None and receipt.audio.state == "not_requested"


def test_a_worker_opens_both(engine: Engine, folder: Path) -> None:
    media = Media(source=folder / "mute.mp4", audio_source=folder / "sound.wav")
    with WorkerPool(workers=1) as workers:
        inputs, _ = engine.processor.media_inputs(media, protocol("full"), workers.open_clip)
    here, _ = engine.processor.media_inputs(media, protocol("full"))
    assert inputs.fbank is not None and here.fbank is not None and torch.equal(inputs.fbank, here.fbank)


def test_the_cache_tells_audio_files_apart(folder: Path) -> None:
    cache = EncodedMediaCache(1 << 20)
    keys = {
        cache.key(Media(source=folder / "mute.mp4", audio_source=source), protocol("full"))
        for source in (None, folder / "sound.wav", folder / "other.wav")
    }
    assert len(keys) == 3 and None not in keys
    missing = Media(source=folder / "mute.mp4", audio_source=folder / "missing.wav")
    assert cache.key(missing, protocol("full")) is None
