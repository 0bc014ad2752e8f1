"""Reading the recorded fixtures: folders from the environment, tensors, metas. Nothing about the cases stands here."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

_BESIDE = Path(__file__).parents[3] / "shared"
FIXTURES = Path(os.environ.get("VIDEOLLAMA2_FIXTURES", _BESIDE / "fixtures"))
MEDIA = Path(os.environ.get("VIDEOLLAMA2_MEDIA", _BESIDE / "media"))
OFFICIAL = Path(os.environ.get("VIDEOLLAMA2_OFFICIAL", _BESIDE / "official"))
TOKENIZERS = Path(os.environ.get("VIDEOLLAMA2_TOKENIZERS", _BESIDE / "tokenizers"))


def need(folder: Path) -> Path:
    """`folder`, or a visible skip of the calling module where it does not exist."""
    if not folder.is_dir():
        pytest.skip(f"no recorded or official files at {folder}", allow_module_level=True)
    return folder


def meta(part: str) -> Any:
    """The parsed meta.json of one part of the fixtures."""
    return json.loads((need(FIXTURES / part) / "meta.json").read_text())


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file, floating ones upcast to float32 as the fixtures' README asks."""
    return {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
