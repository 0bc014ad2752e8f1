"""The parts of nano's recipe that decide what its figures mean."""

import importlib.util
import json
import sys
from argparse import Namespace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from adapters import add_adapters
from questions import normalise
from safetensors.torch import load_file

from videollama2.data.composed import PicturePack, SoundPack, compose, sound_of
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.phases import PHASES

from ..train.small import SIDE, packs, small_config, small_model
from .small import tokenizer

RECIPE = Path(__file__).parents[2] / "recipes" / "nano"


def script(name: str) -> ModuleType:
    """A script of the recipe, which is no package."""
    spec = importlib.util.spec_from_file_location(f"nano_{name}", RECIPE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def evaluate() -> ModuleType:
    return script("evaluate")


def test_intervals_are_wilson_s(evaluate: ModuleType) -> None:
    assert evaluate.wilson(147, 200) == pytest.approx((0.6699, 0.7913), abs=2e-4)
    low, high = evaluate.wilson(0, 200)
    assert low == pytest.approx(0, abs=1e-9) and 0.015 < high < 0.025


def test_the_verdict_of_a_match_counts_and_other_answers_count_whole(evaluate: ModuleType) -> None:
    expected = "I see a dog and hear birds, so no."
    assert evaluate.right("match", "I see a cat and hear drums, so no.", expected)
    assert not evaluate.right("match", "I see a dog and hear birds, so yes.", expected)
    assert not evaluate.right("match", "", expected) and not evaluate.right("object", "A dog, then a cat.", "A dog.")
    assert evaluate.right("object", "the DOG", "A dog.")


def test_every_answer_of_a_set_is_equally_often_right(evaluate: ModuleType, tmp_path: Path) -> None:
    pictures, sounds = evaluation_packs(evaluate)
    evaluate.SIDE, evaluate.FRAMES_PER_SECOND = 32, 2
    evaluate.make(tmp_path, pictures, sounds, 12)
    truth = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert len(truth) == 12 * len(evaluate.SETS) == len(list(tmp_path.glob("*.mp4")))
    of: dict[str, list[dict[str, Any]]] = {s: [t["scene"] for t in truth if t["set"] == s] for s in evaluate.SETS}
    assert sorted(s["things"][0]["count"] for s in of["count"]) == [1] * 4 + [2] * 4 + [3] * 4
    matching = [sound_of(s["things"][0]["name"]) == s["sounds"][0]["name"] for s in of["match"]]
    assert sum(matching) == 6
    directions = [s["things"][0]["direction"] for s in of["ten"]]
    assert all(directions.count(d) <= 3 for d in ("left", "right", "up", "down"))
    for item in truth:
        assert set(item["asks"]) == set(evaluate.ASKED[item["set"]])
        assert all(normalise(a["answer"]) for a in item["asks"].values())


def test_clips_are_degraded_in_the_way_that_is_named() -> None:
    degrade = script("degrade")
    clip = degrade.Clip(np.full((12, 40, 40, 3), 90, np.uint8), Fraction(6), np.full(32_000, 0.1, np.float32))
    shapes = {name: how(clip).frames.shape for name, how in degrade.DEGRADATIONS.items()}
    assert shapes["crop80"] == (12, 32, 32, 3) and shapes["scale112"] == (12, 112, 112, 3)
    assert shapes["rate3"][0] == 6 and shapes["rate25"][0] == 50 and shapes["crf40"] == clip.frames.shape
    noise = degrade.DEGRADATIONS["noise20"](clip).wave - clip.wave
    assert float(np.sqrt((noise**2).mean())) == pytest.approx(0.01, rel=0.05)


def evaluation_packs(evaluate: ModuleType) -> tuple[PicturePack, SoundPack]:
    """Small packs with the ten classes of sound that the evaluation wants, and a few drawings."""
    pictures, _ = packs()
    drawings = np.repeat(pictures.stamps, 6, axis=0)
    names = ("a violin", "a drum", "a key", "a cow", "a lion", "a rose")
    wave = np.random.default_rng(0).integers(-9000, 9000, 16_000).astype(np.int16)
    index = [(label, 0, wave.size) for label in (*evaluate.TEN_SOUNDS, "a cow", "a lion", "a horse")]
    plain = pictures.photos, pictures.photo_labels, pictures.stamps, pictures.stamp_names
    made = PicturePack(*plain, drawings, names)
    assert compose(0, made, None, drawings=1.0, stamps=0, shapes=0).things[0].name in names
    return made, SoundPack.of(wave, index)


def test_text_alone_pulls_the_adapters_back_to_the_base_model() -> None:
    kl_to_base = script("kl_to_base")
    model = small_model()
    add_adapters(model.model.language_model, rank=2, alpha=4.0)
    whole = kl_to_base.KLToBase(model)
    assert [n for n, _ in whole.named_parameters()] == [n for n, _ in model.named_parameters()]
    ids = torch.tensor([[1, 5, 9, 7, 3]])
    inputs = {"input_ids": ids, "labels": ids, "num_items_in_batch": 4}
    assert float(whole(**inputs).loss.detach()) == pytest.approx(0, abs=1e-6)  # adapters begin by changing nothing
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    before = whole(**inputs).loss
    assert float(before.detach()) > 1e-3
    PHASES["video_tune"].apply(whole)
    before = whole(**inputs).loss
    before.backward()
    with torch.no_grad():
        for parameter in whole.parameters():
            if parameter.grad is not None:
                parameter -= 0.05 * parameter.grad
    assert 0 < float(whole(**inputs).loss.detach()) < float(before.detach())
    seen = {"input_ids": ids, "labels": ids, "num_items_in_batch": 4, "input_features": None}
    assert float(whole(**seen).loss.detach()) < float(model.train()(**inputs).loss.detach())


def test_text_is_distilled_from_a_model_whose_layers_are_in_bfloat16() -> None:
    model, tokens = small_model(), tokenizer()
    for module in model.model.language_model.modules():  # as read_names.py has them, under its autocast
        if isinstance(module, torch.nn.Linear):
            module.weight.data = module.weight.data.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        pairs = script("chat").distil(model, tokens, asked=["What is heard?"], new_tokens=4, sampled=False)
    assert all(question == "What is heard?" and answer for question, answer in pairs)


def test_sounds_are_added_at_the_means_of_what_the_model_hands_over() -> None:
    audio_only = script("audio_only")
    config = small_config()
    config.audio_config.finetuned_model, config.audio_config.predictor_class = True, 3
    torch.manual_seed(0)
    model = VideoLlama2ForConditionalGeneration(config)
    features = torch.randn(6, 64, 128)
    with torch.no_grad():
        classifier = audio_only.SoundClassifier(model)
        model.model.audio_encoder.predictor.bias -= classifier.classify(features)[1].mean((0, 1))  # each class is heard
        tokens, logits = classifier.classify(features)
        handed = torch.stack(model.model.get_audio_features(features).pooler_output)
    targets = logits.argmax(-1)
    targets[0, 0] = (targets[0, 0] + 1) % 3  # one that is not recognised, and does not count
    clips = [{"input_features": features, "sound_targets": targets}]
    assert torch.allclose(model.model.audio_projector(tokens), handed, atol=1e-6)
    with pytest.raises(SystemExit, match="never recognised"):
        audio_only.SoundPrototypes.of(model, clips, 4)
    network = audio_only.SoundPrototypes.of(model, clips, 3)
    right = targets == logits.argmax(-1)
    for c in range(3):
        assert torch.allclose(network.prototypes[c], handed[right & (targets == c)].mean(0), atol=1e-6)
    assert [n for n, _ in network.named_parameters()] == [
        n for n, _ in model.named_parameters() if not n.startswith("lm_head")
    ]
    assert "prototypes" not in network.state_dict()
    network.prototypes = torch.randn(3, 32)
    optimizer = torch.optim.Adam(network.model.audio_projector.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = network(**clips[0]).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]


def test_a_stage_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = script("train")
    monkeypatch.setattr(train, "SIDE", SIDE)
    monkeypatch.setattr(train, "SAVE_EVERY", {"cpu": 1})
    stage = next(s for s in train.STAGES if s.name == "av_joint")

    def trained(out: Path) -> dict[str, torch.Tensor]:
        trainer = object.__new__(train.Trainer)
        trainer.args = Namespace(out=out, size="cpu", steps=3, batch=2, seed=1, workers=0, measure=0)
        trainer.out, trainer.model, trainer.tokenizer = out, small_model(), tokenizer()
        trainer.packs = dict.fromkeys(("train", "test"), packs())
        trainer.text = [("What do you see?", "I see nothing and hear nothing.")]
        torch.manual_seed(0)  # of the adapters
        return load_file(trainer.stage(5, stage, None))

    straight = trained(tmp_path / "straight")
    optimise = train.optimise

    def stopped(*args: Any, **kwargs: Any) -> Any:
        for report in optimise(*args, **kwargs):
            yield report
            if report.step == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(train, "optimise", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped")
    monkeypatch.setattr(train, "optimise", optimise)
    resumed = trained(tmp_path / "stopped")
    assert straight.keys() == resumed.keys() and all(torch.equal(v, resumed[k]) for k, v in straight.items())
