"""Linear layers held in 16 bits: the same numbers, half the memory, and never where it would change them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import videollama2
from videollama2 import device, loading
from videollama2.errors import UsageError
from videollama2.generation import fp16_linear
from videollama2.generation.batch import generate
from videollama2.generation.fp16_linear import Fp16Linear, convert_linears
from videollama2.generation.sampling import GenerateOptions
from videollama2.modeling import VideoLlama2ForConditionalGeneration

from ..tiny import model, save

pytestmark = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="this torch has no FBGEMM"
)


def sixteen_bit(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    return module


@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (1, 1, 24)])
def test_same_numbers(shape: tuple[int, ...]) -> None:
    plain = sixteen_bit(nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 24, bias=False)))
    converted = copy.deepcopy(plain)
    assert convert_linears(converted) == 2
    assert isinstance(converted[0], Fp16Linear)
    x = torch.randn(shape)
    torch.testing.assert_close(converted(x), plain(x), rtol=1e-5, atol=1e-6)


def test_the_weights_can_be_read_back() -> None:
    plain = sixteen_bit(nn.Sequential(nn.Linear(24, 40)))
    converted = copy.deepcopy(plain)
    convert_linears(converted)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(converted.state_dict()[name], tensor, rtol=0, atol=2.0**-25)


def test_weights_of_more_than_16_bits_stay() -> None:
    layers = nn.Sequential(nn.Linear(24, 40), sixteen_bit(nn.Linear(40, 40)))
    assert convert_linears(layers) == 1
    assert type(layers[0]) is nn.Linear


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_dtypes_stay(dtype: torch.dtype) -> None:
    assert convert_linears(nn.Sequential(nn.Linear(8, 8)).to(dtype)) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights of 16 bits."""
    path = save(tmp_path_factory.mktemp("fp16") / "model")
    sixteen_bit(VideoLlama2ForConditionalGeneration.from_pretrained(path)).save_pretrained(path)
    return path


def count_converted(network: nn.Module) -> int:
    return sum(isinstance(layer, Fp16Linear) for layer in network.modules())


def test_a_cpu_with_bfloat16_still_stores_float16(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cpu_rates", lambda: device.CpuRates(1.0, 8.0, 0.1))
    plain = videollama2.load(folder, device="cpu")
    assert plain.placement.dtype is torch.bfloat16
    engine = videollama2.load(folder, device="cpu", fp16_weights=True)
    assert engine.placement.dtype is torch.float32 and count_converted(engine.model) > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "fp16", torch.bfloat16])
def test_a_dtype_that_contradicts_is_an_error(folder: Path, dtype: Any) -> None:
    with pytest.raises(UsageError, match="fp16_weights computes in float32, but dtype is"):
        videollama2.load(folder, device="cpu", dtype=dtype, fp16_weights=True)


def test_where_it_has_no_effect_a_warning_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fp16_linear, "convert_linears", lambda network, widen: 0)
    videollama2.load(folder, device="cpu", fp16_weights=True)
    monkeypatch.setattr(fp16_linear, "available", lambda: False)
    videollama2.load(folder, device="cpu", fp16_weights=True)
    assert loading._fp16_weights("meta", "bfloat16") == (False, "bfloat16")
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [line for line in told if line.startswith("fp16_weights has no effect")] == told and len(told) == 3


def test_overflow_stays() -> None:
    layer = nn.Linear(8, 8)
    nn.init.constant_(layer.weight, 1e5)
    assert convert_linears(nn.Sequential(layer)) == 0


def test_a_whole_model_says_the_same() -> None:
    plain = sixteen_bit(model())
    converted = copy.deepcopy(plain)
    assert convert_linears(converted) > 0
    embeds = 0.3 * torch.randn(2, 9, plain.config.text_config.hidden_size)
    options = GenerateOptions(max_new_tokens=6).with_defaults(None)
    assert generate(plain, embeds, options, []) == generate(converted, embeds, options, [])


def test_load_converts_on_request(tmp_path: Path) -> None:
    save(tmp_path / "model")
    made = VideoLlama2ForConditionalGeneration.from_pretrained(tmp_path / "model")
    sixteen_bit(made).save_pretrained(tmp_path / "model")
    plain, converted = (
        videollama2.load(tmp_path / "model", device="cpu", dtype="float32", fp16_weights=wanted)
        for wanted in (False, True)
    )
    assert not any(isinstance(m, Fp16Linear) for m in plain.model.modules())
    assert isinstance(converted.model.lm_head, Fp16Linear)
    assert converted.answer(None, "hi", max_new_tokens=5).text == plain.answer(None, "hi", max_new_tokens=5).text
    with pytest.warns(DeprecationWarning, match="fp16_weights"):
        renamed = videollama2.load(tmp_path / "model", device="cpu", dtype="float32", pack=True)
    assert isinstance(renamed.model.lm_head, Fp16Linear)
