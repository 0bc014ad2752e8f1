"""Adapters and parts: however they are saved, merged, exported, read by PEFT or trained further, the same model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

import videollama2
from videollama2.configuration import read_json
from videollama2.device import choose
from videollama2.phases import part_of
from videollama2.train import checkpoint
from videollama2.train.build import Sources, build_network
from videollama2.train.settings import resolve
from videollama2.train.strategy import SingleProcess
from videollama2.weights import stages
from videollama2.weights.original.export import export_original

from .. import tiny
from . import runs

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "mistral": {
        "text_config": {
            "model_type": "mistral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "head_dim": 8,
            "max_position_embeddings": 4096, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None,
        }
    },
    "mixtral": {
        "text_config": {
            "model_type": "mixtral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "num_local_experts": 4,
            "max_position_embeddings": 4096, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None,
        }
    },
}  # fmt: skip
SHORT = {"steps": 2, "save_every": 1, "learning_rate": 0.01}
LORA = {**SHORT, "lora_rank": 2, "lora_alpha": 8.0}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return runs.make(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def heard(sources: Sources) -> Sources:
    """Only the records that have a sound."""
    data = Path(sources.data[0])
    lines = [line for line in data.read_text().splitlines(keepends=True) if '"sound": true' in line]
    data.with_name("heard.jsonl").write_text("".join(lines))
    return replace(sources, data=(str(data.with_name("heard.jsonl")),))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """For a picture, a sound and a few words: [1, n, vocabulary], float32."""
    given = torch.Generator().manual_seed(3)
    pixels, sound = torch.randn(4, 3, 56, 56, generator=given), torch.randn(1, 64, 128, generator=given)
    inner, config = model.eval().model, model.config
    pictures = len(inner.get_video_features([pixels]).pooler_output[0])
    sounds = len(inner.get_audio_features(sound).pooler_output[0]) if config.audio_config is not None else 0
    ids = [5, *[config.video_token_id] * pictures, 9, *[config.audio_token_id] * sounds, 11, 12]
    heard = {"input_features": sound} if sounds else {}
    return model(torch.tensor([ids]), pixel_values_videos=[pixels], **heard).logits.float()


def in_memory(sources: Sources, run: Path, phase: str, **settings: Any) -> Any:
    """The model as it was when training ended, from the last checkpoint: adapters beside the weights."""
    recipe = resolve(phase, runs.SMALL, settings)
    alone = SingleProcess.on(choose("cpu").device)
    network = build_network(sources, *recipe, alone)
    optimizer = torch.optim.AdamW([p for group in network.learning.values() for p in group])
    checkpoint.restore(checkpoint.checkpoints(run)[-1], network.model, optimizer, alone)
    return network.model


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks transformers
@pytest.mark.parametrize(
    ("family", "parts"),
    [
        ("qwen2", ("language_model", "audio_encoder")),
        ("mistral", ("language_model",)),
        ("mixtral", ("language_model",)),
    ],
)
def test_what_was_trained_is_what_is_loaded(sources: Sources, tmp_path: Path, family: str, parts: Any) -> None:
    if family != "qwen2":
        tiny.save(tmp_path / "model", **FAMILIES[family])
        sources = replace(sources, model=str(tmp_path / "model"))
    run, settings = tmp_path / "run", {**LORA, "lora_parts": parts}
    runs.run(sources, run, **{**settings, "steps": 1})
    runs.run(sources, run, resume=True, **settings)
    trained = in_memory(sources, run, "av_joint", **settings)
    expected = logits(trained)
    untrained = logits(stages.load(sources.model, dtype=torch.float32))
    assert (expected - untrained).abs().max() > 1e-2
    adapted = {part_of(name) for name, _ in trained.named_parameters() if "lora_" in name}
    assert adapted == set(parts)

    def same(model: Any) -> None:
        torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)

    loaded = stages.load(run, dtype=torch.float32)
    same(loaded)
    same(stages.load(stages.merge(run, tmp_path / "merged"), dtype=torch.float32))
    same(stages.load(export_original(loaded, tmp_path / "original"), dtype=torch.float32))
    same(read_by_peft(sources, run))
    if family != "qwen2":
        return
    # trained further, from the adapters and from the merged folder: the same first loss
    runs.run(replace(sources, model=str(run)), tmp_path / "from-run", **{**LORA, "steps": 1})
    runs.run(replace(sources, model=str(tmp_path / "merged")), tmp_path / "from-merged", **{**LORA, "steps": 1})
    assert runs.losses(tmp_path / "from-run") == pytest.approx(runs.losses(tmp_path / "from-merged"), abs=1e-5)
    assert isinstance(stages.load(tmp_path / "from-run"), nn.Module)  # a stage on a stage on a model


def read_by_peft(sources: Sources, run: Path) -> Any:
    """PEFT reads the adapter on our model; what learned besides is put in place by hand."""
    base = stages.load(sources.model, dtype=torch.float32)
    others = load_file(run / "non_lora_trainables.safetensors")
    absent = base.load_state_dict(others, strict=False)
    assert not absent.unexpected_keys and others
    return PeftModel.from_pretrained(base, str(run)).merge_and_unload()


def test_parts_are_saved_alone_and_trained_further(heard: Sources, tmp_path: Path) -> None:
    """BEATs joins a model that can't hear; its projector is aligned; both are tuned, from the folder of the first."""
    whole = stages.load(heard.model, dtype=torch.float32)
    prefix = "model.audio_encoder."
    beats = {f"model.audio_tower.{n.removeprefix(prefix)}": t for n, t in whole.state_dict().items() if prefix in n}
    (tmp_path / "beats").mkdir()
    save_file({n: t.clone() for n, t in beats.items()}, tmp_path / "beats" / "audio_tower.safetensors")
    (tmp_path / "beats" / "beats_config.json").write_text(whole.config.audio_config.to_json_string())
    tiny.save(tmp_path / "deaf", audio_config=None)
    deaf = replace(heard, model=str(tmp_path / "deaf"), audio=str(tmp_path / "beats"))

    aligned = tmp_path / "aligned"
    parts = {**SHORT, "save": "parts"}
    runs.run(deaf, aligned, "audio_align", **parts)
    assert {f.name for f in aligned.glob("*.safetensors")} == {"mm_projector_a.safetensors"}
    expected = logits(in_memory(deaf, aligned, "audio_align", **parts))
    hearing = stages.load(aligned, audio=deaf.audio, dtype=torch.float32)
    torch.testing.assert_close(logits(hearing), expected, atol=1e-5, rtol=1e-5)
    assert videollama2.load(aligned, audio=deaf.audio, device="cpu", dtype="float32").model is not None

    stage, tuned = replace(deaf, model=str(aligned)), tmp_path / "tuned"
    runs.run(stage, tuned, "audio_tune", **parts)
    expected = logits(in_memory(stage, tuned, "audio_tune", **parts))
    torch.testing.assert_close(logits(stages.load(tuned, dtype=torch.float32)), expected, atol=1e-5, rtol=1e-5)
    assert read_json(aligned / "config.json")["_name_or_path"] == str((tmp_path / "deaf").resolve())


def test_activations_computed_twice_change_no_loss(sources: Sources, tmp_path: Path) -> None:
    runs.run(sources, tmp_path / "plain", **SHORT)
    runs.run(sources, tmp_path / "checkpointed", gradient_checkpointing=True, **SHORT)
    assert runs.losses(tmp_path / "checkpointed") == pytest.approx(runs.losses(tmp_path / "plain"), abs=1e-6)


def test_features_kept_on_disk_change_no_loss(heard: Sources, tmp_path: Path) -> None:
    runs.run(heard, tmp_path / "plain", "audio_align", **SHORT)
    for times in ("made", "kept"):
        runs.run(heard, tmp_path / times, "audio_align", cache=tmp_path / "cache", **SHORT)
        assert any((tmp_path / "cache").rglob("*.safetensors"))
        assert runs.losses(tmp_path / times) == pytest.approx(runs.losses(tmp_path / "plain"), abs=1e-6)


def test_bfloat16_learns(sources: Sources, tmp_path: Path) -> None:
    runs.run(sources, tmp_path / "run", precision="bf16", **{**SHORT, "steps": 6, "save_every": 0})
    losses = runs.losses(tmp_path / "run")
    assert min(losses[3:]) < losses[0]
    assert stages.load(tmp_path / "run").dtype is torch.bfloat16
