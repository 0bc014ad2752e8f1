"""Composed clips train the model, what is saved is what was trained, questions that share a clip stay apart."""

from pathlib import Path

import pytest
import torch
from adapters import add_adapters, load_parts, save_parts
from batches import ComposedSteps
from rendering import augment_frames, augment_sound, fbank_batch, to_inputs
from safetensors.torch import load_file
from shared_clips import exact_match

from videollama2.data.labels import IGNORE
from videollama2.errors import NumericsError, TensorMismatch
from videollama2.media.fbank import fbank
from videollama2.phases import PHASES
from videollama2.weights.nano import merge_adapters

from ..train.small import SIDE, small_model
from .small import Again, batch_of, small_batches, train

EVERYTHING = {"connector", "audio_projector", "audio_encoder", "language_model"}


def test_four_clips_can_be_learned_by_heart() -> None:
    model = small_model()
    batch = batch_of(model, "av", batch=4, seconds=(0.5, 0.5), compose_options={"stamps": 0.0})
    phase = PHASES["av_joint"].but(learns=EVERYTHING, learning_rate=6e-3, warmup=0.1)
    assert not any(exact_match(model.eval(), batch))
    reports = train(model, phase, Again(batch), 100)
    assert reports[-1].step == 99 and reports[-1].loss < 0.6 < 4 < reports[0].loss
    assert sum(exact_match(model.eval(), batch)) >= 3  # two of the four differ in nothing but a colour


def test_composed_steps_are_the_same_whenever_they_are_asked_for() -> None:
    model = small_model()
    data = small_batches("video", model.config, asks=2)
    source = ComposedSteps(data, SIDE, torch.device("cpu"), seed=3)
    whole, part = list(source.steps(0, 4)), list(source.steps(2, 4))
    assert [b.step for b in part] == [2, 3]
    for late, early in zip(whole[2:], part, strict=True):
        ours, theirs = late.micro[0], early.micro[0]
        assert ours is not None and theirs is not None and ours.inputs.keys() == theirs.inputs.keys()
        assert all(torch.equal(ours.inputs[k], theirs.inputs[k]) for k in ours.inputs)
        assert 0 < ours.supervised < ours.positions
    reports = train(model, PHASES["video_align"], source, 3)
    assert [r.step for r in reports] == [0, 1, 2]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips() -> None:
    model = small_model()
    with torch.no_grad():
        model.model.connector.readout[-1].weight.fill_(float("nan"))
    source = ComposedSteps(small_batches("video", model.config), SIDE, torch.device("cpu"))
    with pytest.raises(NumericsError, match="video clips of seed 0, step 0"):
        train(model, PHASES["video_align"], source, 1)


def test_questions_in_one_row_are_counted_one_by_one() -> None:
    model = small_model().eval()
    batch = small_batches("av", model.config, asks=3, batch=2)[0]
    inputs = to_inputs(batch, SIDE, torch.device("cpu"))
    assert exact_match(model, inputs, batch["segments"]) == [False] * 6
    silent = {**inputs, "labels": torch.where(batch["segments"] == 2, inputs["labels"], IGNORE)}
    found = exact_match(model, silent, batch["segments"])
    assert found == [True, False, True] * 2  # a question without labels can't be answered wrongly


def test_questions_about_one_clip_train_as_if_alone() -> None:
    model = small_model().train()
    batch = small_batches("av", model.config, asks=3, batch=2)[0]
    inputs = to_inputs(batch, SIDE, torch.device("cpu"))
    together = float(model(**inputs).loss.detach())
    total, count = 0.0, 0
    for row in range(2):
        for question in range(1, 4):
            segments = batch["segments"][row]
            kept = (segments == 0) | (segments == question)
            alone = {k: inputs[k][row : row + 1] for k in ("pixel_values_videos", "input_features")}
            labels = inputs["labels"][row][kept][None]
            loss = model(input_ids=inputs["input_ids"][row][kept][None], labels=labels, **alone).loss
            total += float(loss.detach()) * int((labels != IGNORE).sum())
            count += int((labels != IGNORE).sum())
    assert together == pytest.approx(total / count, abs=1e-5)


def test_saved_adapters_merge_to_the_trained_model(tmp_path: Path) -> None:
    model = small_model()
    language = {k: v.clone() for k, v in model.model.language_model.state_dict().items()}
    add_adapters(model.model.language_model, rank=4, alpha=8.0)
    batch = batch_of(model, "video")
    phase = PHASES["video_tune"].but(learns={"connector", "language_model"}, learning_rate=1e-2)
    train(model, phase, Again(batch), 3)
    save_parts(model, {"connector"}, tmp_path / "parts.safetensors")
    parts = load_file(tmp_path / "parts.safetensors")
    assert {k.split(".")[1] for k in parts} == {"connector", "language_model"}

    plain = small_model()
    adapters = {k.removeprefix("model.language_model."): v for k, v in parts.items() if "lora_" in k}
    plain.model.language_model.load_state_dict(merge_adapters(language, adapters))
    connector = {k.removeprefix("model.connector."): v.float() for k, v in parts.items() if "connector" in k}
    plain.model.connector.load_state_dict(connector)
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    trained, merged = model.eval()(**inputs).logits, plain.eval()(**inputs).logits
    assert torch.allclose(trained, merged, atol=2e-2)  # parts are float16
    again = small_model()
    add_adapters(again.model.language_model, rank=4, alpha=8.0)
    load_parts(again, tmp_path / "parts.safetensors")
    assert torch.allclose(trained, again.eval()(**inputs).logits, atol=2e-2)
    with pytest.raises(TensorMismatch, match="lora_A"):
        load_parts(small_model(), tmp_path / "parts.safetensors")
    fresh = small_model().eval()(**inputs).logits
    assert not torch.allclose(trained, fresh, atol=2e-1)


def test_batched_filterbank_is_the_exact_one() -> None:
    waves = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    for row, wave in zip(fbank_batch(waves), waves, strict=True):
        assert torch.allclose(row, fbank(wave), atol=2e-3)


def test_augmentation_follows_its_generator() -> None:
    frames, waves = torch.full((2, 3, 3, 32, 32), 100.0), torch.randn(2, 9000) * 0.1
    for change, x in ((augment_frames, frames), (augment_sound, waves)):
        first, again = (change(x, torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(first, again) and first.shape == x.shape and not torch.allclose(first, x)
        assert not torch.equal(first, change(x, torch.Generator().manual_seed(4)))
