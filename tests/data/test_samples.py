"""A record gives the model what answering would, or an error or a skip that names it."""

from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from videollama2.data.collate import Sample, Skipped, collate_samples
from videollama2.data.labels import IGNORE
from videollama2.data.samples import Samples
from videollama2.errors import DataError, UsageError
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.processing import VideoLlama2Processor
from videollama2.protocols import FULL

from .conftest import MakeRecord

KINDS = ("av", "video", "audio", "image", "text")


def samples_of(records: list, processor: VideoLlama2Processor, **options: Any) -> Samples:
    settings: dict[str, Any] = {"protocol": "full", "frames": None, "style": "chat", "max_length": 512, **options}
    return Samples(records, processor, **settings)


def sample_of(record: Any, processor: VideoLlama2Processor, **options: Any) -> Sample:
    found = samples_of([record], processor, **options)[0]
    assert isinstance(found, Sample)
    return found


def test_each_kind_gives_its_media(record: MakeRecord, processor: VideoLlama2Processor) -> None:
    made = {kind: sample_of(record(kind), processor) for kind in KINDS}
    assert {k: s.pixels is not None for k, s in made.items()} == {
        "av": True, "video": True, "audio": False, "image": True, "text": False,
    }  # fmt: skip
    assert {k for k, s in made.items() if s.fbank is not None} == {"av", "audio"}
    assert {k for k, s in made.items() if s.still} == {"image"}
    assert made["video"].pixels is not None and made["video"].pixels.shape == (4, 3, 56, 56)
    ids = processor.config.placeholder_ids
    _, receipt = processor.media_inputs(record("av").media, FULL)
    for modality in ("video", "audio"):
        assert made["av"].example.ids.count(ids[modality]) == receipt.tokens[modality]
    assert ids["audio"] not in made["video"].example.ids
    learned = [label for label in made["text"].example.labels if label != IGNORE]
    assert processor.tokenizer.decode(learned) == "a red kite<|im_end|>\n"
    assert all(label == IGNORE for i, label in zip(made["av"].example.ids, made["av"].example.labels, strict=True)
               if i in ids.values())  # fmt: skip


def test_the_phases_frames_override_the_models(record: MakeRecord, processor: VideoLlama2Processor) -> None:
    sample = sample_of(record("video"), processor, frames=8)
    assert sample.pixels is not None and len(sample.pixels) == 8
    video = processor.config.placeholder_ids["video"]
    assert sample.example.ids.count(video) == processor.video_tokens(8)


def test_captions(record: MakeRecord, processor: VideoLlama2Processor) -> None:
    joined = sample_of(record("video"), processor, style="joined").example
    text = processor.tokenizer.decode([i for i in joined.labels if i != IGNORE])
    assert text == "\nwhat is there? a red kite"
    templated = sample_of(record("video"), processor, style="templated").example
    assert processor.tokenizer.decode([i for i in templated.labels if i != IGNORE]) == "a red kite<|im_end|>\n"
    with pytest.raises(DataError, match=r"train.jsonl:text: it is text alone"):
        sample_of(record("text"), processor, style="joined")


def test_all_kinds_in_one_batch_reach_the_model(
    record: MakeRecord, processor: VideoLlama2Processor, model: VideoLlama2ForConditionalGeneration
) -> None:
    made = [sample_of(record(kind), processor) for kind in (*KINDS, "av")]
    batch = collate_samples(made, pad_token_id=0)
    assert len(batch["pixel_values"]) == 1 and batch["pixel_values_videos"].shape[:2] == (3, 4)
    assert len(batch["input_features"]) == 3
    with torch.no_grad():
        together = float(model(**batch).loss)
        total = count = 0.0
        for sample in made:
            loss, n = float(model(**collate_samples([sample], 0)).loss), sum(i != IGNORE for i in sample.example.labels)
            total, count = total + loss * n, count + n
    assert together == pytest.approx(total / count, abs=1e-4)


def test_videos_of_different_length_in_one_batch(record: MakeRecord, processor: VideoLlama2Processor) -> None:
    made = [sample_of(record("video", num_frames=n), processor) for n in (4, 6)]
    videos = collate_samples(made, 0)["pixel_values_videos"]
    assert [len(v) for v in videos] == [4, 6]


BAD = [
    ({"file": "nothing.mp4"}, "neither a file"),
    ({"file": "mute.mp4"}, r"mute.mp4 has none. Set 'sound': false"),
    ({"file": "tone.wav"}, "it is audio without pictures, but the record says video"),
    ({"file": "still.png"}, "it is an image, but the record says video"),
    ({"start": 99.0}, "train.jsonl:av"),
]


@pytest.mark.parametrize(("options", "words"), BAD, ids=[b[1][:20] for b in BAD])
@pytest.mark.parametrize("protocol", ["full", "released"])
def test_an_unusable_media_item_is_an_error_or_a_skip_never_another_sample(
    options: dict, words: str, protocol: str, record: MakeRecord, processor: VideoLlama2Processor
) -> None:
    bad = record("av", **options)
    with pytest.raises(DataError, match=words) as error:
        samples_of([bad], processor, protocol=protocol)[0]
    assert "record train.jsonl:av:" in str(error.value) and "--on-unreadable skip" in str(error.value)
    skipped = samples_of([bad], processor, protocol=protocol, on_unreadable="skip")[0]
    assert isinstance(skipped, Skipped) and skipped.record == "train.jsonl:av"


def test_silent_video_is_accepted_if_its_audio_is_not_used(record: MakeRecord, processor: VideoLlama2Processor) -> None:
    assert sample_of(record("video", file="mute.mp4"), processor, protocol="released").fbank is None
    with pytest.raises(DataError, match=r"train.jsonl:audio"):
        sample_of(record("audio", file="mute.mp4"), processor)


def test_a_record_without_anything_to_learn_is_an_error_even_if_media_are_skipped(
    record: MakeRecord, processor: VideoLlama2Processor
) -> None:
    for kind in ("video", "text"):
        with pytest.raises(DataError, match=rf"train.jsonl:{kind}: it takes \d+ positions"):
            samples_of([record(kind)], processor, max_length=12, on_unreadable="skip")[0]
    changing = tiny.processor(processor.config)
    changing.tokenizer.chat_template = "{{ messages | length }} " + tiny.CHATML
    with pytest.raises(DataError, match=r"train.jsonl:text: this chat template"):
        sample_of(record("text"), changing)


def test_a_long_answer_is_an_error_not_truncated(record: MakeRecord, processor: VideoLlama2Processor) -> None:
    with pytest.raises(DataError, match=r"train.jsonl:text: it takes \d+ positions, more than the 64 allowed"):
        sample_of(record("text", "the fox " * 50), processor, max_length=64)


def test_too_long_for_the_model_with_its_media_item(record: MakeRecord, processor: VideoLlama2Processor) -> None:
    small = tiny.processor(tiny.config())
    small.config.text_config.max_position_embeddings = 20
    with pytest.raises(DataError, match=r"train.jsonl:video: .*more than the 20 allowed"):
        sample_of(record("video"), small)


def test_a_model_without_audio_encoder_learns_from_video_and_rejects_audio(record: MakeRecord, media: Path) -> None:
    deaf = tiny.processor(tiny.config(audio_config=None))
    assert sample_of(record("av", file="mute.mp4"), deaf).fbank is None
    with pytest.raises(DataError, match=r"train.jsonl:audio: .*no audio encoder"):
        sample_of(record("audio"), deaf)


def test_settings_are_checked(processor: VideoLlama2Processor) -> None:
    for wrong in ({"style": "plain"}, {"on_unreadable": "swap"}, {"max_length": 0}, {"protocol": "ful"}):
        with pytest.raises(UsageError):
            samples_of([], processor, **wrong)


def test_an_unexpected_error_names_the_record(
    record: MakeRecord, processor: VideoLlama2Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("somewhere deep")

    monkeypatch.setattr(processor, "media_inputs", fail)
    with pytest.raises(ZeroDivisionError) as error:
        sample_of(record("video"), processor)
    assert error.value.__notes__ == ["while preparing record train.jsonl:video"]


def test_samples_can_be_pickled_for_spawned_workers(record: MakeRecord, processor: VideoLlama2Processor) -> None:
    samples = samples_of([record("av")], processor)
    again = ForkingPickler.loads(ForkingPickler.dumps(samples))[0]
    first = samples[0]
    assert isinstance(first, Sample) and first.example == again.example and torch.equal(first.fbank, again.fbank)
