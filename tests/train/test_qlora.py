"""QLoRA: adapters over a language model in 4 or 8 bits. Runs where bitsandbytes is installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from videollama2.phases import part_of
from videollama2.weights import stages
from videollama2.weights.quantise import BLOCK, quantisation_config

from .. import tiny
from . import runs
from .test_adapters import LORA, in_memory, logits

pytestmark = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.mark.parametrize("bits", [4, 8])
def test_adapters_over_a_quantised_language_model(tmp_path: Path, bits: int) -> None:
    sources = runs.make(tmp_path)
    text = tiny.config().text_config.to_dict()  # rows of whole blocks, which 4 bits need on a CPU
    tiny.save(tmp_path / "model", text_config={**text, "hidden_size": BLOCK, "intermediate_size": 2 * BLOCK})
    settings: dict[str, Any] = {**LORA, "quantise": bits}
    runs.run(sources, tmp_path / "run", **settings)
    assert runs.losses(tmp_path / "run")[0] > 0
    trained = in_memory(sources, tmp_path / "run", "av_joint", **settings)
    kinds = {
        (part_of(f"{name}."), type(module).__name__)
        for name, module in trained.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name
    }
    quantised = "Linear4bit" if bits == 4 else "Linear8bitLt"
    parts = ("vision_encoder", "connector", "audio_encoder", "audio_projector", "lm_head")
    assert kinds == {("language_model", quantised), *((part, "Linear") for part in parts)}
    if bits == 4:
        assert {
            m.compute_dtype for m in trained.modules() if isinstance(m, nn.Linear) and hasattr(m, "compute_dtype")
        } == {torch.float32}

    # the adapters are float32 and belong to the weights as they are; over the whole ones they are off by the rounding
    expected, whole = logits(trained), logits(stages.load(tmp_path / "run", dtype=torch.float32))
    rounding = logits(stages.load(sources.model, dtype=torch.float32)) - logits(
        stages.load(sources.model, dtype=torch.float32, quantization_config=quantisation_config(bits, torch.float32))
    )
    assert 0 < (whole - expected).abs().mean() < 3 * rounding.abs().mean()
