"""The loop learns; what it saves is what it trained; questions that share a clip do not see each other."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from videollama2.data.composed import IGNORED
from videollama2.data.rendering import augment_frames, augment_sound, fbank_batch, to_inputs
from videollama2.errors import NumericsError
from videollama2.media.fbank import fbank
from videollama2.phases import PHASES
from videollama2.train.loop import fit, schedule
from videollama2.train.lora import add_adapters
from videollama2.train.run import exact_match, save_parts, train_phase
from videollama2.weights.nano import merge_adapters

from .small import SIDE, batch_of, small_batches, small_model

EVERYTHING = {"connector", "audio_projector", "audio_encoder", "language_model"}


def test_four_clips_can_be_learned_by_heart() -> None:
    model = small_model()
    batch = batch_of(model, "av", batch=4, seconds=(0.5, 0.5), compose_options={"stamps": 0.0})
    phase = PHASES["av_joint"].but(learns=EVERYTHING, learning_rate=6e-3, warmup=0.1)
    assert not exact_match(model.eval(), batch).any()
    last = fit(model, phase, [batch] * 100, steps=100, every=100)
    assert last.step == 99 and last.loss < 2.5  # the mean over all steps; random guessing is 5.5
    assert exact_match(model.eval(), batch).sum() >= 3  # two of the four differ in nothing but a colour


def test_train_phase_runs_on_composed_clips_and_reports() -> None:
    model, seen = small_model(), []
    data = small_batches("video", model.config, asks=2)
    last = train_phase(model, PHASES["video_align"], data, steps=3, side=SIDE, report=seen.append, every=1)
    assert [s.step for s in seen] == [0, 1, 2] and last is seen[-1]


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    model = small_model()
    with torch.no_grad():
        model.model.connector.readout[-1].weight.fill_(float("nan"))
    with pytest.raises(NumericsError, match="video_align"):
        fit(model, PHASES["video_align"], [batch_of(model, "video")], steps=1)


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
            total += float(loss.detach()) * int((labels != IGNORED).sum())
            count += int((labels != IGNORED).sum())
    assert together == pytest.approx(total / count, abs=1e-5)


def test_saved_adapters_merge_to_the_trained_model(tmp_path: Path) -> None:
    model = small_model()
    language = {k: v.clone() for k, v in model.model.language_model.state_dict().items()}
    add_adapters(model.model.language_model, rank=4, alpha=8.0)
    batch = batch_of(model, "video")
    phase = PHASES["video_tune"].but(learns={"connector", "language_model"}, learning_rate=1e-2)
    fit(model, phase, [batch] * 3, steps=3)
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
    fresh = small_model().eval()(**inputs).logits
    assert not torch.allclose(trained, fresh, atol=2e-1)


def test_schedule_rises_then_falls_to_zero() -> None:
    rates = [schedule(s, 100, 0.1) for s in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[100] == pytest.approx(0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


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
