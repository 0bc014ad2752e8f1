"""Pickles become safetensors, and nothing in a pickle ever runs."""

import json
import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from videollama2.errors import CheckpointNotFound, TensorMismatch, UnsafeFile, UsageError, WeightsError
from videollama2.weights import stages
from videollama2.weights.convert import RECEIPT, convert

from . import tiny


def tensors(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model.mm_projector.0.weight": torch.randn(4, 3, generator=generator).to(dtype),
        "model.mm_projector.0.bias": torch.randn(4, generator=generator).to(dtype),
    }


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[k], expected[k]) and found[k].dtype == expected[k].dtype for k in expected
    )


class Evil:
    """What an attacker puts into a pickle: it writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_survive_exactly_in_both_formats(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    expected = tensors(dtype=dtype)
    torch.save(expected, tmp_path / "mm_projector.bin", _use_new_zipfile_serialization=zipped)
    result = convert(tmp_path / "mm_projector.bin", tmp_path / "out")
    assert result.converted == {"mm_projector.bin": "mm_projector.safetensors"}
    assert result.tensors == 2
    assert same(load_file(tmp_path / "out" / "mm_projector.safetensors"), expected)


def test_views_and_shared_tensors_become_tensors_of_their_own(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"a": whole, "b": whole, "transposed": whole.T, "row": whole[1]}, tmp_path / "x.bin")
    convert(tmp_path / "x.bin", tmp_path / "out")
    found = load_file(tmp_path / "out" / "x.safetensors")
    assert same(found, {"a": whole, "b": whole, "transposed": whole.T.contiguous(), "row": whole[1]})


def payloads(trace: Path) -> dict[str, Any]:
    return {
        "bare": Evil(trace),
        "beside tensors": {**tensors(), "extra": Evil(trace)},
        "nested": {"state_dict": OrderedDict(a=[{"b": (1, Evil(trace))}])},
        "as beats": {"cfg": Evil(trace), "model": tensors()},
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", list(payloads(Path())))
@pytest.mark.parametrize("name", ["mm_projector.bin", "BEATs.pt", "weights.pth"])
def test_a_malicious_pickle_does_not_run(tmp_path: Path, kind: str, zipped: bool, name: str) -> None:
    trace = tmp_path / "ran"
    torch.save(payloads(trace)[kind], tmp_path / name, _use_new_zipfile_serialization=zipped)
    allowed = torch.serialization.get_safe_globals()
    with pytest.raises(UnsafeFile, match="It was not run"):
        convert(tmp_path / name, tmp_path / "out")
    assert not trace.exists()
    assert not (tmp_path / "out").exists()
    assert torch.serialization.get_safe_globals() == allowed


def test_the_payload_would_run_where_pickles_are_trusted(tmp_path: Path) -> None:
    """The tests above would pass with a harmless payload too; this one shows that it is not harmless."""
    trace = tmp_path / "ran"
    torch.save({"x": Evil(trace)}, tmp_path / "x.bin")
    torch.load(tmp_path / "x.bin", weights_only=False)
    assert trace.exists()


def test_a_trusting_environment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"x": Evil(tmp_path / "ran")}, tmp_path / "x.bin")
    with pytest.raises(UnsafeFile):
        convert(tmp_path / "x.bin", tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_a_malicious_file_in_a_folder_spoils_the_whole(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    torch.save(tensors(), source / "a.bin")
    torch.save(payloads(tmp_path / "ran")["beside tensors"], source / "b.bin")
    with pytest.raises(UnsafeFile, match=r"b\.bin"):
        convert(source, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["src"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "program.pt"))
    with pytest.raises(UnsafeFile, match="TorchScript"):
        convert(tmp_path / "program.pt", tmp_path / "out")


def test_a_small_file_that_claims_much_data_is_refused(tmp_path: Path) -> None:
    torch.save({"huge": torch.zeros(1).expand(1 << 40)}, tmp_path / "x.bin")
    with pytest.raises(UnsafeFile, match="claims"):
        convert(tmp_path / "x.bin", tmp_path / "out")
    one = torch.zeros(1 << 18)
    torch.save({f"copy{i}": one for i in range(100)}, tmp_path / "y.bin")
    with pytest.raises(UnsafeFile, match="claims"):
        convert(tmp_path / "y.bin", tmp_path / "out")


def _zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def _cut(path: Path) -> None:
    torch.save({"a": torch.zeros(10_000)}, path)
    path.write_bytes(path.read_bytes()[:9_000])


@pytest.mark.parametrize(
    "make",
    [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"hello world"), _zip_of_text, _cut],
    ids=["empty", "text", "zip of text", "truncated"],
)
def test_what_is_no_checkpoint_is_refused_with_its_name(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "x.bin")
    with pytest.raises(WeightsError, match=r"x\.bin"):
        convert(tmp_path / "x.bin", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_entries_that_are_no_tensors_are_named(tmp_path: Path) -> None:
    torch.save({**tensors(), "epoch": 3}, tmp_path / "x.bin")
    with pytest.raises(WeightsError, match="epoch"):
        convert(tmp_path / "x.bin", tmp_path / "out")


def beats_file(path: Path, **changes: Any) -> dict[str, torch.Tensor]:
    state = {"layer_norm.weight": torch.ones(8), "encoder.layers.0.self_attn.grep_a": torch.ones(1, 2, 1, 1)}
    bias = torch.randn(16, 2)
    state |= {f"encoder.layers.{i}.self_attn.relative_attention_bias.weight": bias for i in range(2)}
    torch.save({"cfg": {"encoder_layers": 2, "embed_dim": 8, **changes}, "model": state}, path)
    return state


def test_beats_becomes_a_folder_with_its_settings(tmp_path: Path) -> None:
    state = beats_file(tmp_path / "BEATs_iter3.pt")
    convert(tmp_path / "BEATs_iter3.pt", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "beats_config.json").read_text()) == {"encoder_layers": 2, "embed_dim": 8}
    found = load_file(tmp_path / "out" / "audio_tower.safetensors")
    assert same(found, {f"model.audio_tower.{k}": v for k, v in state.items()})


def folder_of_everything(source: Path) -> None:
    source.mkdir()
    shards = {
        "pytorch_model-00001-of-00002.bin": tensors(1),
        "pytorch_model-00002-of-00002.bin": {"lm_head.weight": torch.ones(2)},
    }
    weight_map = {}
    for name, shard in shards.items():
        torch.save(shard, source / name)
        weight_map |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": 3}, "weight_map": weight_map}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    torch.save({"base_model.model.x": torch.ones(1)}, source / "non_lora_trainables.bin")
    torch.save(object, source / "training_args.bin")
    save_file({"kept": torch.ones(1)}, source / "other.safetensors")
    (source / "config.json").write_text("{}")
    (source / "modeling_evil.py").write_text("raise SystemExit")
    (source / "LICENSE").write_text("text")
    (source / ".git").mkdir()
    (source / ".git" / "config.json").write_text("{}")
    (source / "tower").mkdir()
    (source / "tower" / "config.json").write_text("{}")


def test_a_folder_is_converted_whole(tmp_path: Path) -> None:
    source, out = tmp_path / "src", tmp_path / "out"
    folder_of_everything(source)
    before = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}
    result = convert(source, out)
    assert {p.name for p in out.iterdir()} == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "non_lora_trainables.safetensors",
        "other.safetensors",
        "config.json",
        "LICENSE",
        "tower",
        RECEIPT,
    }
    assert (out / "tower" / "config.json").is_file()
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert set(result.left_out) == {"training_args.bin", "modeling_evil.py"}
    assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == before
    assert str(tmp_path) not in (out / RECEIPT).read_text()


def test_converting_twice_does_nothing_and_a_changed_source_is_converted_anew(tmp_path: Path) -> None:
    source, out = tmp_path / "src", tmp_path / "out"
    source.mkdir()
    torch.save(tensors(1), source / "a.bin")
    assert not convert(source, out).already_done
    stamp = (out / "a.safetensors").stat().st_mtime_ns
    assert convert(source, out).already_done
    assert (out / "a.safetensors").stat().st_mtime_ns == stamp

    torch.save(tensors(2), source / "a.bin")
    assert not convert(source, out).already_done
    assert same(load_file(out / "a.safetensors"), tensors(2))

    (out / "a.safetensors").write_bytes(b"damaged")
    assert not convert(source, out).already_done
    assert same(load_file(out / "a.safetensors"), tensors(2))


def test_an_earlier_result_survives_a_failure(tmp_path: Path) -> None:
    source, out = tmp_path / "src", tmp_path / "out"
    source.mkdir()
    torch.save(tensors(1), source / "a.bin")
    convert(source, out)
    torch.save({"x": Evil(tmp_path / "ran")}, source / "b.bin")
    with pytest.raises(UnsafeFile):
        convert(source, out)
    assert same(load_file(out / "a.safetensors"), tensors(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "src"]


def test_targets_that_would_lose_something_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    torch.save(tensors(), source / "a.bin")
    for target in (source, source / "inside"):
        with pytest.raises(UsageError, match="never written to"):
            convert(source, target)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        convert(source, tmp_path / "full")
    with pytest.raises(UsageError, match="is a file"):
        convert(source, source / ".." / "full" / "precious.txt")
    assert (tmp_path / "full" / "precious.txt").read_text() == "x"


def test_sources_without_anything_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="does not exist"):
        convert(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointNotFound, match="nothing to convert"):
        convert(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize("shard", ["../elsewhere.bin", "/etc/passwd", "absent.bin", 7])
def test_an_index_that_names_other_files_is_refused(tmp_path: Path, shard: Any) -> None:
    source = tmp_path / "src"
    source.mkdir()
    torch.save(tensors(), tmp_path / "elsewhere.bin")
    torch.save(tensors(), source / "pytorch_model-00001-of-00001.bin")
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(TensorMismatch, match="no such file is next to it"):
        convert(source, tmp_path / "out")


def test_two_files_that_would_become_one_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    torch.save(tensors(1), source / "a.bin")
    torch.save(tensors(2), source / "a.pt")
    with pytest.raises(WeightsError, match="one by one"):
        convert(source, tmp_path / "out")


def test_a_safetensors_file_that_is_there_already_wins(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    torch.save(tensors(1), source / "mm_projector.bin")
    save_file(tensors(2), source / "mm_projector.safetensors")
    result = convert(source, tmp_path / "out")
    assert "already" in result.left_out["mm_projector.bin"]
    assert same(load_file(tmp_path / "out" / "mm_projector.safetensors"), tensors(2))


@pytest.mark.parametrize("family", ["qwen2", "mixtral"])
def test_a_complete_model_changes_its_names_there_and_back(tmp_path: Path, family: str) -> None:
    made = tiny.model(family)
    source = tiny.write(tmp_path / "src", tiny.original_config(family))
    torch.save(tiny.original_tensors(made), source / "pytorch_model.bin")
    (source / "tokenizer.model").write_bytes(b"words")

    ours = convert(source, tmp_path / "ours", layout="native")
    assert ours.layout == "native"
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == "videollama2"
    names = load_file(tmp_path / "ours" / "model.safetensors").keys()
    assert any(n.startswith("model.language_model.") for n in names)
    assert not any(n.startswith("model.layers.") for n in names)
    tiny.same_model(stages.load(tmp_path / "ours"), made)
    assert convert(source, tmp_path / "ours", layout="native").already_done

    convert(tmp_path / "ours", tmp_path / "theirs", layout="original")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["model_type"] == f"videollama2_{family}"
    names = load_file(tmp_path / "theirs" / "model.safetensors").keys()
    copy = "model.audio_tower.encoder.layers.1.self_attn.relative_attention_bias.weight"
    assert names == tiny.original_tensors(made).keys() | {copy}
    tiny.same_model(stages.load(tmp_path / "theirs"), made)
    assert (tmp_path / "theirs" / "tokenizer.model").read_bytes() == b"words"


def test_results_are_readable_as_other_files_are(tmp_path: Path) -> None:
    torch.save(tensors(), tmp_path / "a.bin")
    convert(tmp_path / "a.bin", tmp_path / "out")
    assert (tmp_path / "out" / "a.safetensors").stat().st_mode & 0o444 == 0o444
    assert (tmp_path / "out").stat().st_mode & 0o555 == 0o555
