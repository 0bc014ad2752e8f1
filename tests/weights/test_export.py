"""Export under the original's names, and back: the same tensors and the same logits, for every family."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from videollama2.errors import ConfigError
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights.original.configuration import LANGUAGE_MODELS
from videollama2.weights.original.export import export_original

from .. import tiny
from ..close import same_numbers, same_tensors
from ..test_language_models import original_folder


def names(folder: Path) -> set[str]:
    found: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            found |= set(opened.keys())
    return found


@pytest.mark.parametrize("model_type", LANGUAGE_MODELS)
def test_exported_names_are_those_that_were_loaded(model_type: str, tmp_path: Path) -> None:
    original_folder(model_type, tmp_path / "original")
    model = VideoLlama2ForConditionalGeneration.from_pretrained(tmp_path / "original", dtype=torch.float32)
    export_original(model, tmp_path / "exported", max_shard_size="40KB")
    assert names(tmp_path / "exported") == names(tmp_path / "original")
    again = VideoLlama2ForConditionalGeneration.from_pretrained(tmp_path / "exported", dtype=torch.float32)
    same_tensors(again.state_dict(), model.state_dict())


def test_sound_survives_and_its_bias_is_written_per_layer(tmp_path: Path) -> None:
    model = tiny.model()
    export_original(model, tmp_path)
    copies = [n for n in names(tmp_path) if n.endswith("relative_attention_bias.weight")]
    assert len(copies) == model.config.audio_config.encoder_layers
    assert {"model.audio_tower.encoder.pos_conv.0.weight_g", "model.audio_tower.encoder.pos_conv.0.weight_v"} <= names(
        tmp_path
    )
    again = VideoLlama2ForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    sound = torch.randn(1, 64, 128)
    ids = torch.tensor([[5, *[model.config.audio_token_id] * 32, 6]])
    with torch.no_grad():
        same_numbers(again(ids, input_features=sound).logits, model(ids, input_features=sound).logits)


def test_what_the_original_can_not_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="audio_pool"):
        export_original(tiny.model(audio_pool=(2, 8)), tmp_path)
