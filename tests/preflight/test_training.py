"""The memory of a training step, predicted on the meta device."""

from typing import Any

import pytest
import torch

from videollama2.configuration import VideoLlama2Config
from videollama2.errors import UsageError
from videollama2.phases import PHASES
from videollama2.preflight.activations import activations
from videollama2.preflight.trace import on_meta
from videollama2.preflight.training import GIB, MemoryPlan, memory_plan
from videollama2.train.settings import Settings
from videollama2.weights.catalog import find

TUNE = PHASES["video_tune"].but(frames=4, max_length=128, batch=4, precision="fp32")


def config(layers: int = 6) -> VideoLlama2Config:
    vision = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "image_size": 56}
    text = {"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 500}
    return VideoLlama2Config(
        vision_config={**vision, "patch_size": 14, "num_hidden_layers": 2, "num_attention_heads": 2},
        text_config={**text, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2},
    )


def test_what_learns_is_counted_with_its_optimiser() -> None:
    network = on_meta(config(), torch.float32)
    TUNE.apply(network)
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    plan = memory_plan(config(), TUNE, gpus=(1, 4))
    one, four = plan.on(1), plan.on(4)
    assert (one.frozen, one.learning, one.gradients, one.moments) == (
        4 * frozen,
        4 * learning,
        4 * learning,
        8 * learning,
    )
    assert one.gathered == 0 and four.gathered > 0
    assert four.frozen == one.frozen, "a frozen encoder is whole on every process"
    assert abs(four.moments * 4 - one.moments) < 16
    assert plan.media == 2 * 2 * 2 and plan.supervised == 120
    assert plan.accumulation == {1: 4, 4: 1}
    assert one.total == one.frozen + one.learning + one.gradients + one.moments + one.activations
    assert "video_tune: 1 × 128 positions (8 of media, 120 supervised) in float32" in plan.table()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_many_layers_are_drawn_out_of_few(checkpointing: bool) -> None:
    settings = Settings(gradient_checkpointing=checkpointing, micro_batch=2)

    def trace(layers: int, monkeypatch: pytest.MonkeyPatch | None = None) -> Any:
        def build(short: VideoLlama2Config) -> Any:
            network = on_meta(short, torch.float32)
            TUNE.apply(network)
            return network

        return activations(build, config(layers), TUNE, settings, 128, 100)

    drawn = trace(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("videollama2.preflight.activations.SHORT", (6, 7))
        assert trace(6) == drawn
    if checkpointing:
        assert drawn.most < trace(3).most * 2


def test_settings_move_the_numbers_the_right_way() -> None:
    def of(**values: Any) -> MemoryPlan:
        return memory_plan(config(), TUNE, Settings(**values), gpus=(1,))

    plain = of()
    assert of(gradient_checkpointing=True).on(1).activations < plain.on(1).activations
    assert of(micro_batch=2).on(1).activations > 1.8 * plain.on(1).activations
    lora, qlora = of(lora_rank=2), of(lora_rank=2, quantise=4)
    assert lora.on(1).moments < plain.on(1).moments / 2 and lora.on(1).frozen > plain.on(1).frozen
    assert qlora.on(1).frozen < lora.on(1).frozen
    assert 0 < lora.parts["language_model"][0] < lora.parts["language_model"][1] / 4


def test_records_of_text_alone_have_no_media() -> None:
    plan = memory_plan(config(), TUNE, length=7, supervised=3, kinds=["text"])
    assert plan.media == 0 and plan.supervised == 3
    assert memory_plan(config(), TUNE, length=9, kinds=["text", "av"]).media == 8


def test_media_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="media of a sample take 8 positions and max_length is 8; raise it"):
        memory_plan(config(), TUNE.but(max_length=8))


@pytest.mark.parametrize(("name", "billions", "share"), [("72b", 74.9, (187, 65)), ("8x7b", 47.5, (111, 34))])
def test_the_largest_models_build(name: str, billions: float, share: tuple[int, int]) -> None:
    plan = memory_plan(
        find(name).config(), PHASES["video_tune"].but(max_length=4096), Settings(gradient_checkpointing=True)
    )
    assert sum(n for _, n in plan.parts.values()) / 1e9 == pytest.approx(billions, abs=0.1)
    assert tuple(round(plan.on(n).total / GIB) for n in (8, 64)) == share
    assert plan.on(8).fits is None or plan.on(8).fits == 141
    assert len(plan.table().splitlines()) == 12
