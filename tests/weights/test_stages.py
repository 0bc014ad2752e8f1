"""Folders of the training stages become the model that their numbers make by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from videollama2.errors import CheckpointNotFound, ConfigError, TensorMismatch, UsageError
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights import stages

from ..close import same_numbers
from . import tiny

RANK, ALPHA = 4, 8
CONNECTOR, PROJECTOR, BEATS = "model.mm_projector.", "model.mm_projector_a.", "model.audio_tower."


def llm_config(family: str = "qwen2") -> dict[str, Any]:
    return {"model_type": family, **tiny.LANGUAGE, **tiny.FAMILIES[family]}


def tower_folder(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A whole CLIP, as its own repository has it: two halves, of which one is ours."""
    prefix = "model.vision_tower.vision_tower."
    vision = {n.removeprefix(prefix): t for n, t in tiny.parts(tensors, prefix).items()}
    extra = {
        "text_model.x.weight": torch.ones(2),
        "visual_projection.weight": torch.ones(2, 2),
        "logit_scale": torch.ones(1),
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    return tiny.write(folder, dict(tiny.VISION), model=vision | extra)


def test_kinds_are_told_by_files_not_by_names(tmp_path: Path) -> None:
    tensors = {"x": torch.ones(1)}
    assert stages.kind(tiny.write(tmp_path / "my-lora-base", {}, model=tensors)) == "complete"
    assert stages.kind(tiny.write(tmp_path / "a", {}, mm_projector=tensors)) == "pretrain"
    assert stages.kind(tiny.write(tmp_path / "b", {"tune_mm_mlp_adapter": True})) == "pretrain"
    assert stages.kind(tiny.write(tmp_path / "c", {"tune_mm_mlp_adapter": True}, model=tensors)) == "complete"
    lora = tiny.write(tmp_path / "d", {}, adapter_model=tensors)
    (lora / "adapter_config.json").write_text("{}")
    assert stages.kind(lora) == "lora"


@pytest.mark.parametrize("family", list(tiny.FAMILIES))
def test_a_pretrained_connector_on_a_language_model(tmp_path: Path, family: str) -> None:
    whole = tiny.model(family, audio=False)
    tensors = tiny.original_tensors(whole)
    llm = tiny.write(tmp_path / "llm", llm_config(family), model=tiny.language_only(tensors))
    tower = tower_folder(tmp_path / "tower", tensors)
    values = tiny.original_config(family, audio=False, tune_mm_mlp_adapter=True, _name_or_path=str(llm))
    stage = tiny.write(tmp_path / "stage", values, mm_projector=tiny.parts(tensors, CONNECTOR))
    loaded = stages.load(stage, vision=tower)
    tiny.same_model(loaded, whole)

    # an explicit base wins over the one in config.json, and the path in mm_vision_tower may be local
    values |= {"_name_or_path": "nowhere/at-all", "mm_vision_tower": str(tower)}
    (stage / "config.json").write_text(json.dumps(values))
    tiny.same_model(stages.load(stage, base=llm), whole)


def test_audio_stages_on_a_vision_model(tmp_path: Path) -> None:
    whole = tiny.model()
    tensors = tiny.original_tensors(whole)
    sightful = {n: t for n, t in tensors.items() if not n.startswith((PROJECTOR, BEATS))}
    base = tiny.write(tmp_path / "base", tiny.original_config(audio=False), model=sightful)
    values = tiny.original_config(_name_or_path=str(base), tune_mm_mlp_adapter_a=True)

    # stage 2: both files; the tower's under a wrapper's names
    wrapped = {f"base_model.model.{n}": t for n, t in tiny.parts(tensors, BEATS).items()}
    both = tiny.write(tmp_path / "both", values, mm_projector_a=tiny.parts(tensors, PROJECTOR), audio_tower=wrapped)
    tiny.same_model(stages.load(both), whole)

    # stage 1: the projector alone; BEATs comes from elsewhere, or not at all
    alone = tiny.write(tmp_path / "alone", values, mm_projector_a=tiny.parts(tensors, PROJECTOR))
    with pytest.raises(TensorMismatch, match=r"audio encoder's weights.*--audio"):
        stages.load(alone)
    beats = tiny.write(tmp_path / "beats", {}, audio_tower=tiny.parts(tensors, BEATS))
    tiny.same_model(stages.load(alone, audio=beats), whole)


def test_nothing_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    whole = tiny.model(audio=False)
    tensors = tiny.original_tensors(whole)
    connector = tiny.parts(tensors, CONNECTOR)
    llm = tiny.write(tmp_path / "llm", llm_config(), model=tiny.language_only(tensors))
    values = tiny.original_config(audio=False, tune_mm_mlp_adapter=True)

    stage = tiny.write(tmp_path / "stage-of-qwen2", values, mm_projector=connector)
    with pytest.raises(ConfigError, match=r"names no base.*--base"):
        stages.load(stage)
    with pytest.raises(CheckpointNotFound, match=r"vision encoder's weights are neither.*--vision"):
        stages.load(stage, base=llm)
    with pytest.raises(CheckpointNotFound, match="the base 'gone' of"):
        stages.load(stage, base="gone")
    with pytest.raises(ConfigError, match="names itself"):
        stages.load(stage, base=stage)

    tower = tower_folder(tmp_path / "tower", tensors)
    cut = tiny.write(tmp_path / "cut", values, mm_projector=dict(list(connector.items())[1:]))
    with pytest.raises(TensorMismatch, match=r"1 missing: model\.connector"):
        stages.load(cut, base=llm, vision=tower)
    more = tiny.write(tmp_path / "more", values, mm_projector=connector | {"model.mm_projector.extra": torch.ones(1)})
    with pytest.raises(TensorMismatch, match=r"1 unexpected: model\.connector\.extra"):
        stages.load(more, base=llm, vision=tower)
    name = next(iter(connector))
    wrong = tiny.write(tmp_path / "wrong", values, mm_projector=connector | {name: torch.ones(3)})
    with pytest.raises(TensorMismatch, match=r"misshapen.*found \[3\]"):
        stages.load(wrong, base=llm, vision=tower)
    with pytest.raises(ConfigError):
        stages.load(llm)


def test_pickles_are_named_with_the_command_that_converts_them(tmp_path: Path) -> None:
    stage = tiny.write(tmp_path / "stage", tiny.original_config(audio=False))
    torch.save({"model.mm_projector.x": torch.ones(1)}, stage / "mm_projector.bin")
    llm = tiny.write(tmp_path / "llm", llm_config(), model=tiny.original_tensors(tiny.model(audio=False)))
    with pytest.raises(CheckpointNotFound, match="videollama2 convert"):
        stages.load(stage, base=llm)


def lora_folder(
    folder: Path, tensors: dict[str, torch.Tensor], modules: list[str], others: dict[str, torch.Tensor], **settings: Any
) -> tuple[Path, dict[str, torch.Tensor]]:
    """An adapter on `modules` with other trained tensors, and, by hand, what base and adapter make."""
    generator = torch.Generator().manual_seed(5)
    expected, factors = dict(tensors) | others, {}
    scale = ALPHA / (RANK**0.5 if settings.get("use_rslora") else RANK)
    for module in modules:
        weight = tensors[f"{module}.weight"]
        down = torch.randn(RANK, weight.shape[1], generator=generator) * 0.3
        up = torch.randn(weight.shape[0], RANK, generator=generator) * 0.3
        factors[f"base_model.model.{module}.lora_A.weight"] = down
        factors[f"base_model.model.{module}.lora_B.weight"] = up
        expected[f"{module}.weight"] = weight + scale * (up @ down)
    trained = {f"base_model.model.{name}": tensor for name, tensor in others.items()}
    files = {"adapter_model": factors} | ({"non_lora_trainables": trained} if trained else {})
    tiny.write(folder, tiny.original_config(), **files)
    adapter = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(adapter | settings))
    return folder, expected


MODULES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.self_attn.v_proj",
    "model.layers.1.mlp.down_proj",
    "model.audio_tower.encoder.layers.0.self_attn.k_proj",
    "model.audio_tower.encoder.layers.1.fc1",
]


def expected_model(tmp_path: Path, expected: dict[str, torch.Tensor]) -> VideoLlama2ForConditionalGeneration:
    folder = tiny.write(tmp_path / "expected", tiny.original_config(), model=expected)
    model: VideoLlama2ForConditionalGeneration = VideoLlama2ForConditionalGeneration.from_pretrained(folder)
    return model


@pytest.mark.parametrize("rslora", [False, True])
def test_lora_with_trained_connectors_on_an_original_folder(tmp_path: Path, rslora: bool) -> None:
    tensors = tiny.original_tensors(tiny.model())
    values = tiny.original_config(quantization_config={"load_in_4bit": True})
    base = tiny.write(tmp_path / "base", values, model=tensors)
    others = tiny.parts(tiny.original_tensors(tiny.model(seed=1)), CONNECTOR, PROJECTOR)
    lora, expected = lora_folder(tmp_path / "run", tensors, MODULES, others, use_rslora=rslora)
    found = tiny.logits(stages.load(lora, base=base))
    same_numbers(found, tiny.logits(expected_model(tmp_path, expected)))
    assert not torch.allclose(found, tiny.logits(tiny.model()), atol=1e-2)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's
def test_lora_agrees_with_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    tensors = tiny.original_tensors(tiny.model())
    base = tiny.write(tmp_path / "base", tiny.original_config(), model=tensors)
    model = VideoLlama2ForConditionalGeneration.from_pretrained(base)
    settings = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=r".*language_model.*\.(q_proj|up_proj)",
        rank_pattern={"q_proj": 2}, alpha_pattern={"up_proj": 16}, init_lora_weights=False,
    )  # fmt: skip
    wrapped = peft.get_peft_model(model, settings)
    wrapped.save_pretrained(tmp_path / "run")
    found = stages.load(tmp_path / "run", base=base)
    merged = wrapped.merge_and_unload()
    same_numbers(tiny.logits(found), tiny.logits(merged.eval()))


def test_lora_on_a_folder_in_our_own_layout(tmp_path: Path) -> None:
    made = tiny.model()
    tensors = tiny.original_tensors(made)
    made.save_pretrained(tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    config["quantization_config"] = {"load_in_4bit": True, "quant_method": "bitsandbytes"}  # as QLoRA leaves it
    (tmp_path / "ours" / "config.json").write_text(json.dumps(config))
    lora, expected = lora_folder(tmp_path / "run", tensors, MODULES, {}, base_model_name_or_path=str(tmp_path / "ours"))
    found = tiny.logits(stages.load(lora))
    same_numbers(found, tiny.logits(expected_model(tmp_path, expected)))


def test_lora_on_the_experts_of_mixtral(tmp_path: Path) -> None:
    tensors = tiny.original_tensors(tiny.model("mixtral", audio=False))
    values = tiny.original_config("mixtral", audio=False)
    base = tiny.write(tmp_path / "base", values, model=tensors)
    modules = ["model.layers.0.block_sparse_moe.experts.1.w2", "model.layers.0.block_sparse_moe.gate"]
    lora, expected = lora_folder(tmp_path / "run", tensors, modules, {})
    (lora / "config.json").write_text(json.dumps(values))
    whole = VideoLlama2ForConditionalGeneration.from_pretrained(tiny.write(tmp_path / "whole", values, model=expected))
    same_numbers(tiny.logits(stages.load(lora, base=base)), tiny.logits(whole))


def test_lora_over_a_pretrained_stage_over_a_language_model(tmp_path: Path) -> None:
    tensors = tiny.original_tensors(tiny.model(audio=False))
    values = tiny.original_config(audio=False)
    llm = tiny.write(tmp_path / "llm", llm_config(), model=tiny.language_only(tensors))
    tower = tower_folder(tmp_path / "tower", tensors)
    connector = tiny.parts(tensors, CONNECTOR)
    stage = tiny.write(tmp_path / "stage", values | {"_name_or_path": str(llm)}, mm_projector=connector)
    lora, expected = lora_folder(tmp_path / "run", tensors, MODULES[:3], {})
    (lora / "config.json").write_text(json.dumps(values))
    whole = VideoLlama2ForConditionalGeneration.from_pretrained(tiny.write(tmp_path / "whole", values, model=expected))
    found = stages.load(lora, base=stage, vision=tower)
    same_numbers(tiny.logits(found), tiny.logits(whole))


def test_lora_in_half_precision_rounds_once(tmp_path: Path) -> None:
    tensors = {n: t.bfloat16() for n, t in tiny.original_tensors(tiny.model()).items()}
    base = tiny.write(tmp_path / "base", tiny.original_config(torch_dtype="bfloat16"), model=tensors)
    lora, expected = lora_folder(tmp_path / "run", {n: t.float() for n, t in tensors.items()}, MODULES, {})
    found = stages.load(lora, base=base, dtype=torch.bfloat16).state_dict()
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(found[name], expected["model.layers.0.self_attn.q_proj.weight"].bfloat16())


@pytest.mark.parametrize("stem", ["adapter_model", "non_lora_trainables"])
def test_a_part_of_an_adapter_that_is_a_pickle_still_is_not_overlooked(tmp_path: Path, stem: str) -> None:
    tensors = tiny.original_tensors(tiny.model())
    base = tiny.write(tmp_path / "base", tiny.original_config(), model=tensors)
    lora, _ = lora_folder(tmp_path / "run", tensors, MODULES[:1], tiny.parts(tensors, CONNECTOR))
    torch.save(load_file(lora / f"{stem}.safetensors"), lora / f"{stem}.bin")
    (lora / f"{stem}.safetensors").unlink()
    with pytest.raises(CheckpointNotFound, match=rf"{stem}\.bin.*videollama2 convert"):
        stages.load(lora, base=base)


def broken(folder: Path, change: Any) -> None:
    file = folder / "adapter_model.safetensors"
    factors = load_file(file)
    change(factors)
    save_file(factors, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop(next(n for n in f if "lora_A" in n)), "only one of lora_A and lora_B"),
        (lambda f: f.update({n: torch.ones(3, 7) for n in list(f) if "lora_B" in n}), "do not form an update"),
        (lambda f: f.update({n: t[:2].clone() for n, t in f.items() if "lora_A" in n}), "has rank 2, but"),
        (
            lambda f: f.update({n.replace("layers.0", "layers.9"): t.clone() for n, t in f.items()}),
            "module.*that the base does not have",
        ),
        (lambda f: f.clear() or f.update(x=torch.ones(1)), "no lora_A and lora_B"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    tensors = tiny.original_tensors(tiny.model())
    base = tiny.write(tmp_path / "base", tiny.original_config(), model=tensors)
    lora, _ = lora_folder(tmp_path / "run", tensors, MODULES[:1], {})
    broken(lora, change)
    with pytest.raises(TensorMismatch, match=message):
        stages.load(lora, base=base)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"peft_type": "IA3"}, {"init_lora_weights": "pissa_niter_4"}])
def test_adapters_of_other_kinds_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    tensors = tiny.original_tensors(tiny.model())
    base = tiny.write(tmp_path / "base", tiny.original_config(), model=tensors)
    lora, _ = lora_folder(tmp_path / "run", tensors, MODULES[:1], {}, **settings)
    with pytest.raises(ConfigError, match="peft itself"):
        stages.load(lora, base=base)


def test_an_unknown_trained_tensor_is_an_error(tmp_path: Path) -> None:
    tensors = tiny.original_tensors(tiny.model())
    base = tiny.write(tmp_path / "base", tiny.original_config(), model=tensors)
    lora, _ = lora_folder(tmp_path / "run", tensors, MODULES[:1], {"model.new_thing.weight": torch.ones(2)})
    with pytest.raises(TensorMismatch, match=r"unexpected: model\.new_thing\.weight"):
        stages.load(lora, base=base)


def test_merging_makes_one_complete_folder(tmp_path: Path) -> None:
    tensors = tiny.original_tensors(tiny.model())
    base = tiny.write(tmp_path / "base", tiny.original_config(), model=tensors)
    (base / "tokenizer.json").write_text('{"a": 1}')
    (base / "generation_config.json").write_text('{"eos_token_id": 9, "do_sample": false}')
    others = tiny.parts(tiny.original_tensors(tiny.model(seed=1)), CONNECTOR)
    lora, _ = lora_folder(tmp_path / "run", tensors, MODULES, others)
    merged = stages.merge(lora, tmp_path / "merged", base)
    assert stages.kind(merged) == "complete"
    assert (merged / "tokenizer.json").read_text() == '{"a": 1}'
    again = stages.load(merged)
    tiny.same_model(again, stages.load(lora, base))
    assert again.generation_config.eos_token_id == 9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "merged", "run"]
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        stages.merge(lora, merged, base)
    with pytest.raises(UsageError, match="nothing to merge"):
        stages.merge(merged, tmp_path / "again")


def test_the_tokenizer_is_the_topmost_one(tmp_path: Path) -> None:
    tensors = tiny.original_tensors(tiny.model())
    base = tiny.write(tmp_path / "base", tiny.original_config(), model=tensors)
    lora, _ = lora_folder(tmp_path / "run", tensors, MODULES[:1], {})
    with pytest.raises(CheckpointNotFound, match="no tokenizer in"):
        stages.tokenizer_folder(lora, base)
    (base / "tokenizer.model").write_bytes(b"x")
    assert stages.tokenizer_folder(lora, base) == base
    (lora / "tokenizer.json").write_text("{}")
    assert stages.tokenizer_folder(lora, base) == lora


def test_a_complete_folder_needs_no_base(tmp_path: Path) -> None:
    whole = tiny.model()
    folder = tiny.write(tmp_path / "whole", tiny.original_config(), model=tiny.original_tensors(whole))
    tiny.same_model(stages.load(folder), whole)
    with pytest.raises(UsageError, match="takes no base"):
        stages.load(folder, base=folder)
