"""Checkpoints that are damaged, or try to reach outside themselves: a clear error, whichever face meets them."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from videollama2.errors import CheckpointNotFound, ConfigError, TensorMismatch, WeightsError
from videollama2.preflight.check import check_model
from videollama2.weights import stages

from . import tiny

CONNECTOR = "model.mm_projector.readout.0.weight"


def whole(folder: Path) -> Path:
    return tiny.write(folder, tiny.original_config(audio=False), model=tiny.original_tensors(tiny.model(audio=False)))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = tiny.original_tensors(tiny.model(audio=False))
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def index(folder: Path, shard: Any) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))


def header(folder: Path, length: int, text: bytes) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + text)


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


HUGE = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()

CASES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "a tensor is missing": (
        lambda f: rewrite(f, lambda t: t.pop(CONNECTOR)),
        TensorMismatch,
        r"1 missing: model\.connector\.readout\.0\.weight",
    ),
    "a tensor is left over": (
        lambda f: rewrite(f, lambda t: t.update(extra=torch.ones(1))),
        TensorMismatch,
        "1 unexpected: extra",
    ),
    "a tensor has another shape": (
        lambda f: rewrite(f, lambda t: t.update({CONNECTOR: torch.ones(2, 2)})),
        TensorMismatch,
        r"found \[2, 2\], expected \[32, 32\]",
    ),
    "an unknown key": (lambda f: configure(f, mm_projektor_type="x"), ConfigError, "did you mean 'mm_projector_type'"),
    "an unknown connector": (lambda f: configure(f, mm_projector_type="magic"), ConfigError, "unknown connector"),
    "another width": (lambda f: configure(f, mm_hidden_size=99), ConfigError, "mm_hidden_size is 99"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), WeightsError, "JSON"),
    "truncated": (truncate, WeightsError, "not a readable safetensors"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), WeightsError, "not a readable safetensors"),
    "no header": (lambda f: header(f, 8, b"notjson!"), WeightsError, "not a readable safetensors"),
    "a header longer than the file": (lambda f: header(f, 1 << 60, b"{}"), WeightsError, "not a readable safetensors"),
    "a tensor longer than the file": (lambda f: header(f, len(HUGE), HUGE), WeightsError, "not a readable safetensors"),
    "a shard is missing": (lambda f: index(f, "model-00002-of-00002.safetensors"), TensorMismatch, "which is missing"),
    "a shard elsewhere": (
        lambda f: index(f, "../other/model.safetensors"),
        TensorMismatch,
        "no such file is next to it",
    ),
    "a shard by an absolute path": (lambda f: index(f, "/etc/hostname"), TensorMismatch, "no such file is next to it"),
    "a shard that is no name": (lambda f: index(f, 3), TensorMismatch, "no such file is next to it"),
    "only pickles": (only_pickles, CheckpointNotFound, "videollama2 convert"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), CheckpointNotFound, "neither model.safetensors nor"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_loading_refuses_it_and_says_why(tmp_path: Path, case: str) -> None:
    damage, error, message = CASES[case]
    folder = whole(tmp_path / "model")
    damage(folder)
    with pytest.raises(error, match=message) as caught:
        stages.load(folder)
    assert isinstance(caught.value, WeightsError)


@pytest.mark.parametrize("case", [c for c in CASES if "tensor" not in c or "longer" in c])
def test_checking_says_the_same(tmp_path: Path, case: str) -> None:
    damage, _, message = CASES[case]
    folder = whole(tmp_path / "model")
    damage(folder)
    try:
        found = "\n".join(check_model(folder).problems)
    except WeightsError as error:
        found = str(error)
    assert re.search(message, found)


def test_a_file_or_nothing_in_place_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    with pytest.raises(CheckpointNotFound, match="is a file; expected a checkpoint folder"):
        stages.load(file)
    with pytest.raises(CheckpointNotFound, match="did you mean"):
        stages.load("2.1-7b-avv")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointNotFound):
        stages.load(empty)
