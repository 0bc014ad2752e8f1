"""4 bits on a CPU: the numbers are those of the format, whatever instructions the CPU has."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights import stages
from videollama2.weights.quantise import BLOCK, quantisation_config

from . import tiny

pytestmark = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def text(width: int, inner: int) -> dict[str, Any]:
    return {
        "model_type": "qwen2", "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 90,
    }  # fmt: skip


def saved(folder: Path, width: int, inner: int) -> Path:
    config = tiny.model().config
    values = config.to_dict() | {"text_config": text(width, inner), "image_token_id": None, "video_token_id": None}
    torch.manual_seed(0)
    VideoLlama2ForConditionalGeneration(type(config)(**values | {"audio_token_id": None})).save_pretrained(folder)
    return folder


def linears(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and "language_model" in n}


@torch.no_grad()
def test_each_quantised_matrix_is_as_close_as_four_bits_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved(tmp_path / "model", width=BLOCK, inner=BLOCK + 32)
    whole = linears(stages.load(folder, dtype=torch.float32))
    found = linears(stages.load(folder, dtype=torch.float32, quantization_config=quantisation_config(4, torch.float32)))
    kinds = {name.rsplit(".", 1)[-1]: type(module).__name__ for name, module in found.items()}
    assert kinds.pop("down_proj") == "Linear"  # its rows are a block and a half
    assert set(kinds.values()) == {"Linear4bit"}
    assert f"2 of 14 linear layers stay unquantised: on a CPU, 4 bits need rows of whole blocks of {BLOCK}" in (
        caplog.text
    )
    for name, module in found.items():
        x = torch.eye(module.in_features)
        expected, got = whole[name].weight.T, module(x) - (0 if module.bias is None else module.bias)
        error = (got - expected).abs().mean() / expected.abs().mean()
        assert error < 0.12, f"{name} is off by {error:.0%}"  # NF4's own is about a tenth


def test_an_answer_computes_in_the_dtype_of_training_and_leaves_training_its_gradients(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", width=BLOCK, inner=2 * BLOCK)
    model = stages.load(folder, dtype=torch.float32, quantization_config=quantisation_config(4, torch.float32))
    layer = linears(model)["model.language_model.layers.0.mlp.gate_proj"]
    assert type(layer).__name__ == "Linear4bit"
    x = torch.randn(3, BLOCK)
    learned = layer.train()(x)
    with torch.no_grad():
        answered = layer.eval()(x)
    torch.testing.assert_close(answered, learned, atol=1e-5, rtol=1e-5)
    again = x.clone().requires_grad_()
    layer.train()(again).sum().backward()
    assert again.grad is not None and bool(again.grad.any())
