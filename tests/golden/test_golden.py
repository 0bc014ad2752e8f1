"""Golden files of our own, for a clone without recordings of the public implementation.

Ids, bytes and texts must be equal; float32 within the tolerance of `tests/close.py`; decoded media within a tolerance
for other versions of FFmpeg.
"""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..close import FLOAT32, same_numbers
from . import cases, make

# What FFmpeg's versions differ by: half a level of 256, averaged over a cell of 7 × 7 pixels; and steps of 16 bits,
# which show in quiet bins of the filterbank, so it is compared where it is louder than e^-12 of its loudest.
PIXELS, LOUD = 0.01, 12
# Rounding noise of the spectrum (1e-7 of the loudest amplitude) after the logarithm of quiet bins.
FBANK = 1e-3


@pytest.mark.parametrize("name", cases.TENSORS)
def test_numbers(name: str) -> None:
    expected, found = load_file(cases.FOLDER / f"{name}.safetensors"), cases.TENSORS[name]()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        check(f"{name}.{key}", found[key], tensor)


def check(name: str, found: Tensor, expected: Tensor) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
    what = name.rpartition(".")[2]
    if not expected.is_floating_point():
        assert torch.equal(found, expected), name
    elif name.startswith("clip.") and what == "pixels":
        assert (found - expected).abs().max() <= PIXELS, name
    elif name.startswith("clip."):
        loud = expected > expected.max() - LOUD
        assert loud.double().mean() > 0.02 and (found - expected)[loud].abs().max() <= 0.05, name
    elif name == "audio.fbank":
        assert (found - expected).abs().max() <= FBANK, name
    else:
        same_numbers(found, expected, 1e-12 if expected.dtype == torch.float64 else FLOAT32)


def test_prompts() -> None:
    expected = json.loads(cases.PROMPTS.read_text(encoding="utf-8"))
    found = cases.prompts()
    assert found.keys() == expected.keys()
    assert {key for key in expected if found[key] != expected[key]} == set()


def test_recorded_numbers_can_fail() -> None:
    """They vary within each tensor; a constant would prove little."""
    for name in cases.TENSORS:
        for key, tensor in load_file(cases.FOLDER / f"{name}.safetensors").items():
            if tensor.is_floating_point() and tensor.numel() > 1 and key != "silence":
                assert tensor.double().std() > 1e-3 * tensor.double().abs().max(), f"{name}.{key}"
    model = load_file(cases.FOLDER / "whole_model.safetensors")
    assert len(set(model["generated"].tolist())) >= 4
    # no greedy choice is so close that another order of summation could change it
    assert model["margins"].min() > 100 * FLOAT32 * model["logits"].abs().max()


def test_files_are_replaced_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in cases.FOLDER.iterdir()}
    assert sum(map(len, before.values())) < 400_000, "golden files are small"
    assert make.main(["prompts", "audio"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in cases.FOLDER.iterdir()}
