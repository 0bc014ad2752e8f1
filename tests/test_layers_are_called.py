"""Every layer with weights is called as a module, so adapters, hooks and offloading work on every part."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from . import tiny


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.model()


def media(model: Any) -> dict[str, Tensor]:
    """A prompt with an image, a video and audio; the image's tokens differ from the video's."""
    config = model.config
    draw = torch.Generator().manual_seed(5)
    given = {
        "pixel_values": torch.randn(1, 3, 56, 56, generator=draw),
        "pixel_values_videos": torch.randn(1, 4, 3, 56, 56, generator=draw),
        "input_features": torch.randn(1, 32, 128, generator=draw) + 15,
    }
    ids = [5, *[config.image_token_id] * 8, 6, *[config.video_token_id] * 8, *[config.audio_token_id] * 16, 7, 8]
    return {"input_ids": torch.tensor([ids]), **given}


def logits(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**inputs).logits
    return found


pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's

LINEARS = {
    "connector": r"model\.connector\..*(fc[12]|conv[13]\.conv|readout\.[02])",
    "audio projector": r"model\.audio_projector\.[02]",
    "BEATs": r"model\.audio_encoder\..*(grep_linear|[qkv]_proj|out_proj|fc1|fc2|post_extract_proj)",
    "vision encoder": r"model\.vision_encoder\.encoder\.layers\.[01]\.self_attn\..*_proj",
}


@pytest.mark.parametrize("part", LINEARS)
def test_lora_trains_and_changes_the_outputs(model: Any, part: str) -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(r=2, target_modules=LINEARS[part]))
    inputs = media(model)
    before = logits(adapted, inputs)
    learned = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    assert learned
    adapted.train()
    optimizer = torch.optim.SGD(learned.values(), lr=50.0)
    for _ in range(2):  # B starts as zeros, so A's gradient comes with the second step
        optimizer.zero_grad()
        adapted(**inputs, labels=torch.where(inputs["input_ids"] < 320, inputs["input_ids"], -100)).loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned.values())
    adapted.eval()
    after = logits(adapted, inputs)
    assert (after - before).abs().max() > 1e-4
    torch.testing.assert_close(logits(adapted.merge_and_unload(), inputs), after, atol=1e-3, rtol=1e-3)


def test_lora_reaches_the_sampler(model: Any) -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(r=2, target_modules=["sampler.0"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter)
    inputs = media(model)
    apart = logits(adapted, inputs)
    assert (apart - logits(model, inputs)).abs().max() > 1e-4
    torch.testing.assert_close(logits(adapted.merge_and_unload(), inputs), apart, atol=1e-3, rtol=1e-3)


def test_every_layer_is_called(model: Any) -> None:
    """Except blocks after the feature layer, and heads that a checkpoint keeps but nothing runs."""
    traced = copy.deepcopy(model)
    called = set()
    layers = {name: m for name, m in traced.named_modules() if next(m.parameters(recurse=False), None) is not None}
    for name, module in layers.items():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    logits(traced, media(model))
    idle = {name for name in layers if name not in called}
    unread = ("vision_encoder.encoder.layers.2.", "vision_encoder.post_layernorm", "audio_encoder.predictor")
    assert {name for name in idle if not any(part in name for part in unread)} == set()


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_offloaded_weights_give_the_same_logits(model: Any, where: str, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    inputs = media(model)
    expected = logits(model, inputs)
    moved = copy.deepcopy(model)
    if where == "cpu":
        accelerate.cpu_offload(moved, execution_device="cpu")
    else:
        accelerate.disk_offload(moved, str(tmp_path), execution_device="cpu")
    assert all(parameter.device.type == "meta" for parameter in moved.parameters())
    torch.testing.assert_close(logits(moved, inputs), expected)
    sequence = moved.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert torch.equal(sequence, model.generate(**inputs, max_new_tokens=3, do_sample=False))
