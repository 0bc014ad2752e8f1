"""Cached features are the encoders' own, are found again only for the same thing, and can't be spoiled."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests import tiny
from videollama2.data.collate import Sample, collate_samples
from videollama2.data.features import FeatureCache
from videollama2.data.samples import Samples
from videollama2.errors import DataError, UsageError
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.processing import VideoLlama2Processor

from ..close import same_numbers
from .conftest import MakeRecord

Model = VideoLlama2ForConditionalGeneration


def opened(folder: Path, model: Model, processor: VideoLlama2Processor, **options: Any) -> FeatureCache:
    return FeatureCache(folder, model, options.pop("protocol", "full"), processor.pixels, **options)


def made(records: list, processor: VideoLlama2Processor, cache: FeatureCache | None, **options: Any) -> list[Sample]:
    settings: dict[str, Any] = {"protocol": "full", "frames": None, "style": "chat", "max_length": 512, **options}
    samples = Samples(records, processor, cache=cache, **settings)
    found = [samples[i] for i in range(len(records))]
    assert all(isinstance(s, Sample) for s in found)
    return found  # type: ignore[return-value]


def decoded(samples: list[Sample]) -> list[bool]:
    return [s.pixels is not None or s.fbank is not None for s in samples]


def test_cached_features_are_not_decoded_again_and_give_the_same_loss(
    tmp_path: Path, record: MakeRecord, model: Model, processor: VideoLlama2Processor
) -> None:
    records = [record(kind) for kind in ("av", "video", "audio", "image", "text")]
    cache = opened(tmp_path, model, processor)
    plain = made(records, processor, None)
    encoded = cache.encode(model, made(records, processor, cache))
    again = made(records, processor, opened(tmp_path, model, processor))
    assert decoded(again) == [False] * 5
    for first, second in zip(encoded, again, strict=True):
        assert first.example == second.example and first.still == second.still and first.fbank is None
        for name in ("vision_features", "audio_features"):
            one, two = getattr(first, name), getattr(second, name)
            assert (one is None) == (two is None) and (one is None or torch.equal(one, two))
    with torch.no_grad():
        for a, b in zip(plain, again, strict=True):  # one by one: the encoders' own batch is the same then
            same_numbers(model(**collate_samples([a], 0)).logits, model(**collate_samples([b], 0)).logits)
        together = [float(model(**collate_samples(s, 0)).loss) for s in (plain, again)]
    assert together[0] == pytest.approx(together[1], abs=1e-5)
    # the video's pictures are kept once for both records of the clip
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4


def test_the_key_holds_all_that_changes_the_features(
    tmp_path: Path, record: MakeRecord, model: Model, processor: VideoLlama2Processor, media: Path
) -> None:
    cache = opened(tmp_path, model, processor)
    keys = [cache.keys(record("av", **options).media) for options in (
        {}, {"start": 0.5}, {"end": 1.5}, {"num_frames": 2}, {"file": "long.mp4"},
    )]  # fmt: skip
    keys.append(opened(tmp_path, model, processor, protocol="released").keys(record("av").media))
    keys.append(opened(tmp_path, model, processor, dtype=torch.bfloat16).keys(record("av").media))
    other = tiny.model()
    other.requires_grad_(False)
    other.model.vision_encoder.embeddings.class_embedding[0] += 1
    other.model.audio_encoder.layer_norm.weight[0] += 1
    keys.append(opened(tmp_path, other, processor).keys(record("av").media))
    assert len({k.vision for k in keys}) == len(keys) and len({k.audio for k in keys}) == len(keys) - 1  # num_frames
    assert cache.keys(record("av", num_frames=4).media) == keys[0]  # the model's own number
    copied = tmp_path / "copy.mp4"
    copied.write_bytes((media / "clip.mp4").read_bytes())
    assert cache.keys(record("av", file=str(copied)).media) == keys[0]  # by content, not by name
    copied.write_bytes((media / "long.mp4").read_bytes())
    assert cache.keys(record("av", file=str(copied)).media) == keys[4]
    frames = (str(media / "still.png"),)
    assert cache.keys(record("video", file="gone.mp4").media).vision is None
    assert cache.keys(type(record("video").media)(source=frames, audio=False)).vision is not None
    assert opened(tmp_path, model, tiny.processor(model.config))._pixels == cache._pixels


def test_an_audio_encoder_that_learns_is_not_cached(
    tmp_path: Path, record: MakeRecord, processor: VideoLlama2Processor
) -> None:
    learning = tiny.model()
    learning.model.vision_encoder.requires_grad_(False)
    cache = opened(tmp_path, learning, processor)
    cache.encode(learning, made([record("av")], processor, cache))
    (plain,) = made([record("av")], processor, None)
    (half,) = made([record("av")], processor, cache)
    assert half.pixels is None and half.vision_features is not None and half.audio_features is None
    assert half.fbank is not None and plain.fbank is not None and torch.equal(half.fbank, plain.fbank)
    assert half.example == plain.example
    learning.model.vision_encoder.requires_grad_(True)
    with pytest.raises(UsageError, match="vision_encoder learns now"):
        cache.encode(learning, [half])


def test_a_cached_video_is_still_not_an_image(
    tmp_path: Path, media: Path, record: MakeRecord, model: Model, processor: VideoLlama2Processor
) -> None:
    """A record that is wrong about its medium is an error whatever other records have left in the cache."""
    frames = [Image.new("RGB", (64, 48), (60 * i, 0, 0)) for i in range(4)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(tmp_path / "still.webp")
    cache = opened(tmp_path / "cache", model, processor)
    film, still = str(tmp_path / "film.gif"), str(tmp_path / "still.webp")
    cache.encode(model, made([record("video", file=film), record("image", file=still)], processor, cache))
    for wrong in (record("image", file=film), record("video", file=still)):
        with pytest.raises(DataError, match="but the record says"):
            made([wrong], processor, cache)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:-1] + bytes([b[-1] ^ 4]), lambda b: b""])
def test_a_damaged_file_is_computed_again(
    damage: Any, tmp_path: Path, record: MakeRecord, model: Model, processor: VideoLlama2Processor,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    cache = opened(tmp_path, model, processor)
    (first,) = cache.encode(model, made([record("image")], processor, cache))
    (path,) = tmp_path.rglob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING, logger="videollama2"):
        (again,) = made([record("image")], processor, cache)
    assert decoded([again]) == [True] and "damaged" in caplog.text
    (mended,) = cache.encode(model, [again])
    (found,) = made([record("image")], processor, cache)
    for restored in (mended, found):
        assert restored.vision_features is not None and torch.equal(restored.vision_features, first.vision_features)


def test_a_full_cache_stops_growing_and_training_continues(
    tmp_path: Path, record: MakeRecord, model: Model, processor: VideoLlama2Processor, caplog: pytest.LogCaptureFixture
) -> None:
    cache = opened(tmp_path, model, processor, max_bytes=6000)
    records = [record("image"), record("video"), record("video", num_frames=3), record("audio")]
    with caplog.at_level(logging.WARNING, logger="videollama2"):
        encoded = cache.encode(model, made(records, processor, cache))
    assert all(s.pixels is None and s.fbank is None for s in encoded)
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) <= 6000
    assert caplog.text.count("is at its limit") == 1
    assert decoded(made(records, processor, cache)) == [False, False, True, True]


def test_a_read_only_folder(
    tmp_path: Path, record: MakeRecord, model: Model, processor: VideoLlama2Processor, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't make a feature cache"):
        opened(tmp_path / "file", model, processor)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    cache = opened(tmp_path / "cache", model, processor)
    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING, logger="videollama2"):
        (encoded,) = cache.encode(model, made([record("image")], processor, cache))
    assert encoded.vision_features is not None and "No space left on device" in caplog.text


def test_features_are_stored_in_the_requested_dtype(
    tmp_path: Path, record: MakeRecord, model: Model, processor: VideoLlama2Processor
) -> None:
    cache = opened(tmp_path, model, processor, dtype=torch.bfloat16)
    (encoded,) = cache.encode(model, made([record("image")], processor, cache))
    assert encoded.vision_features is not None and encoded.vision_features.dtype == torch.bfloat16
    (again,) = made([record("image")], processor, cache)
    assert again.vision_features is not None and torch.equal(encoded.vision_features, again.vision_features)


def test_several_processes_may_fill_one_folder(
    tmp_path: Path, record: MakeRecord, model: Model, processor: VideoLlama2Processor, caplog: pytest.LogCaptureFixture
) -> None:
    caches = [opened(tmp_path, model, processor) for _ in range(2)]
    (sample,) = made([record("image")], processor, caches[0])
    assert sample.keys is not None
    key = sample.keys.vision
    (first,) = caches[0].encode(model, [sample])
    with ThreadPoolExecutor(2) as pool, caplog.at_level(logging.WARNING, logger="videollama2"):
        writing = [pool.submit(cache.encode, model, [sample] * 20) for cache in caches]
        while not all(w.done() for w in writing):
            found = caches[0].look_up(key)
            assert found is not None and first.vision_features is not None and torch.equal(found, first.vision_features)
    assert all(len(w.result()) == 20 for w in writing) and not caplog.text
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1
