"""4 bits on a CPU: the numbers are those of the format, whatever instructions the CPU has."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BitsAndBytesConfig

from videollama2.errors import ConfigError, TensorMismatch, UsageError
from videollama2.modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model
from videollama2.weights import stages
from videollama2.weights.original.export import export_original
from videollama2.weights.original.names import original_name
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
    assert f"2 of 14 linear layers stay unquantised: on a CPU, 4-bit rows must be whole blocks of {BLOCK}" in (
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


# ── saved and loaded ──────────────────────────────────────────────────────────────────────────────────────────────

WHOLE = VideoLlama2ForConditionalGeneration
PACKED = ("Linear8bitLt", "Linear4bit")
IDS = torch.arange(3, 11)[None]


def packed(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if type(module).__name__ in PACKED}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("plain") / "model", width=BLOCK, inner=2 * BLOCK)


@pytest.mark.parametrize("cls", [WHOLE, VideoLlama2Model])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("as_dict", [False, True])
@torch.no_grad()
def test_a_default_configuration_quantises_the_language_model_alone_and_survives_a_round_trip(
    plain: Path, tmp_path: Path, cls: Any, bits: int, as_dict: bool
) -> None:
    asked = {f"load_in_{bits}bit": True}
    made = cls.from_pretrained(plain, quantization_config=asked if as_dict else BitsAndBytesConfig(**asked))
    assert packed(made) == set(linears(made)) and len(packed(made)) == 14
    made.save_pretrained(tmp_path)
    again, report = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert packed(again) == packed(made) and not any(report.values())
    assert torch.equal(again(input_ids=IDS)[0], made(input_ids=IDS)[0])
    if cls is WHOLE:
        trunk = VideoLlama2Model.from_pretrained(tmp_path)
        assert torch.equal(trunk(input_ids=IDS)[0], made.model(input_ids=IDS)[0])


def test_modules_that_the_caller_names_are_the_ones_kept(plain: Path) -> None:
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["model.language_model", "lm_head"])
    assert packed(WHOLE.from_pretrained(plain, quantization_config=config)).isdisjoint({"lm_head"})
    assert not any(
        "language_model" in name for name in packed(WHOLE.from_pretrained(plain, quantization_config=config))
    )


@pytest.mark.parametrize("bits", [8, 4])
@torch.no_grad()
def test_a_published_one_in_the_originals_layout(plain: Path, tmp_path: Path, bits: int) -> None:
    """Its config.json names modules of the original to keep; the tensors say which layers are packed."""
    made = WHOLE.from_pretrained(plain, quantization_config=BitsAndBytesConfig(**{f"load_in_{bits}bit": True}))
    made.save_pretrained(tmp_path / "ours")
    tensors = load_file(tmp_path / "ours" / "model.safetensors")
    stored = json.loads((tmp_path / "ours" / "config.json").read_text())["quantization_config"]
    stored["llm_int8_skip_modules"] = ["mm_projector", "vision_tower", "audio_tower"]
    export_original(WHOLE.from_pretrained(plain), tmp_path / "original")
    values = json.loads((tmp_path / "original" / "config.json").read_text())
    (tmp_path / "original" / "config.json").write_text(json.dumps(values | {"quantization_config": stored}))
    file = tmp_path / "original" / "model.safetensors"
    save_file({original_name(n): t for n, t in tensors.items()}, file, metadata={"format": "pt"})
    found = WHOLE.from_pretrained(tmp_path / "original")
    assert packed(found) == packed(made)
    assert torch.equal(found(input_ids=IDS).logits, made(input_ids=IDS).logits)


def settings(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy with other settings in config.json; None removes one."""
    shutil.copytree(folder, target)
    values = json.loads((folder / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    return target


def test_settings_that_training_left_behind_quantise_nothing(
    plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = {"load_in_4bit": True, "quant_method": "bitsandbytes"}
    model = WHOLE.from_pretrained(settings(plain, tmp_path / "left", quantization_config=left))
    assert not packed(model) and not hasattr(model.config, "quantization_config")
    assert "no tensor is quantised; ignored" in caplog.text


def test_quantised_tensors_without_settings_are_an_error(plain: Path, tmp_path: Path) -> None:
    WHOLE.from_pretrained(plain, quantization_config={"load_in_8bit": True}).save_pretrained(tmp_path / "made")
    with pytest.raises(ConfigError, match=r"14 layers are quantised, but config\.json has no quantization_config"):
        WHOLE.from_pretrained(settings(tmp_path / "made", tmp_path / "bare", quantization_config=None))


def test_a_missing_tensor_of_a_quantised_checkpoint_is_an_error(plain: Path, tmp_path: Path) -> None:
    WHOLE.from_pretrained(plain, quantization_config={"load_in_4bit": True}).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    gone = "model.language_model.layers.0.self_attn.q_proj"
    save_file({n: t for n, t in tensors.items() if not n.startswith(gone)}, file, metadata={"format": "pt"})
    with pytest.raises(TensorMismatch, match=r"q_proj\.weight"):
        WHOLE.from_pretrained(tmp_path)


def test_an_adapter_is_not_merged_into_quantised_weights(plain: Path, tmp_path: Path) -> None:
    WHOLE.from_pretrained(plain, quantization_config={"load_in_4bit": True}).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is quantised"):
        stages.collect(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="loads there")
def test_four_bit_rows_of_broken_blocks_are_refused_on_a_cpu(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", width=BLOCK, inner=BLOCK + 32)
    made = WHOLE.from_pretrained(folder, quantization_config={"load_in_4bit": True})
    made.save_pretrained(tmp_path / "made")
    WHOLE.from_pretrained(tmp_path / "made")  # these rows were left whole
    file = tmp_path / "made" / "model.safetensors"
    name = "model.language_model.layers.0.mlp.down_proj.weight"
    other = {f"{name}.absmax": torch.ones(1), f"{name}.quant_map": torch.ones(1)}
    save_file(load_file(file) | other, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"1 layers \(model\.language_model\.layers\.0\.mlp\.down_proj, …\)"):
        WHOLE.from_pretrained(tmp_path / "made")
