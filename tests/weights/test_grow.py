"""A model grown from a language model and encoders: theirs to the bit, and fresh parts only between them."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, CLIPConfig, CLIPModel, Qwen2Config

from videollama2.errors import CheckpointNotFound, ConfigError, UsageError
from videollama2.weights.grow import grow, grown_config

from . import tiny


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A language model, a CLIP of both halves, and a BEATs as `convert` writes it."""
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(Qwen2Config(**tiny.LANGUAGE)).save_pretrained(tmp_path / "llm")
    halves = CLIPConfig(
        vision_config=tiny.VISION,
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8},
    )
    CLIPModel(halves).save_pretrained(tmp_path / "clip")
    beats = {
        name.removeprefix("model."): tensor
        for name, tensor in tiny.original_tensors(tiny.model()).items()
        if name.startswith("model.audio_tower.")
    }
    tiny.write(tmp_path / "beats", {"mm_audio_tower": ""}, audio_tower=beats)
    return {name: tmp_path / name for name in ("llm", "clip", "beats")}


def test_a_language_model_learns_to_see_and_to_hear(folders: dict[str, Path], tmp_path: Path) -> None:
    seeing = grow(folders["llm"], vision=folders["clip"], num_frames=4)
    whole = AutoModelForCausalLM.from_pretrained(folders["llm"]).state_dict()
    tower = CLIPModel.from_pretrained(folders["clip"]).vision_model.state_dict()
    made = seeing.state_dict()
    assert all(torch.equal(made[f"model.language_model.{n.removeprefix('model.')}"], t)
               for n, t in whole.items() if n.startswith("model."))  # fmt: skip
    assert all(torch.equal(made[f"model.vision_encoder.{n}"], t) for n, t in tower.items() if "position_ids" not in n)
    assert seeing.config.num_frames == 4 and seeing.config.audio_config is None
    assert tiny.logits(seeing).isfinite().all()

    seeing.save_pretrained(tmp_path / "seeing")
    hearing = grow(tmp_path / "seeing", audio=folders["beats"])
    ours = hearing.state_dict()
    assert all(torch.equal(ours[n], t) for n, t in seeing.state_dict().items())
    fresh = {n.split(".")[1] for n in ours.keys() - made.keys()}
    assert fresh == {"audio_encoder", "audio_projector"}
    expected = tiny.model().model.audio_encoder.state_dict()
    assert all(torch.equal(ours[f"model.audio_encoder.{n}"], t) for n, t in expected.items())
    assert tiny.logits(hearing).isfinite().all()


def test_the_seed_decides_the_fresh_parts(folders: dict[str, Path]) -> None:
    first, again, other = (grow(folders["llm"], vision=folders["clip"], seed=s).state_dict() for s in (0, 0, 1))
    name = "model.connector.readout.0.weight"
    assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])


def test_what_does_not_fit_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    assert grown_config(folders["llm"], vision=folders["clip"]).vision_config.hidden_size == 16
    with pytest.raises(UsageError, match="nothing to add"):
        grow(folders["llm"])
    with pytest.raises(CheckpointNotFound):
        grow(folders["llm"], vision=tmp_path / "none")
    with pytest.raises(ConfigError, match="expected a causal language model"):
        grow(folders["clip"], vision=folders["clip"])
    grow(folders["llm"], vision=folders["clip"]).save_pretrained(tmp_path / "seeing")
    with pytest.raises(UsageError, match="already has a vision encoder"):
        grow(tmp_path / "seeing", vision=folders["clip"])
