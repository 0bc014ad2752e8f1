"""check, convert, info and merge as they are typed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videollama2.cli import main
from videollama2.weights import catalog, stages

from ..weights import tiny


def outcome(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "tiny", tiny.original_config(), model=tiny.original_tensors(tiny.model()))


@pytest.mark.parametrize("command", ["check", "convert", "info", "merge"])
def test_help_has_examples_that_parse(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    examples = [line.split("  ")[1] for line in text.splitlines() if line.startswith(f"  videollama2 {command}")]
    assert len(examples) >= 3
    from videollama2.cli import build_parser

    for example in examples:
        build_parser().parse_args(example.strip().split()[1:])


def test_check_of_a_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = outcome(capsys, "check", folder, "--dtype", "float32", "--max-new-tokens", 1)
    assert code == 4  # 1496 tokens of sound do not fit into 512 positions
    assert "problem: 1568 tokens of prompt" in out
    assert "model.safetensors" in out
    assert "fits in memory" in out


def test_check_of_a_picture_and_of_a_clip(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    code, out, _ = outcome(capsys, "check", folder, tmp_path / "a.png", "--json", "--max-new-tokens", 1)
    assert code == 0
    found = json.loads(out)
    assert found["clip"] | {"source": ""} == {
        "source": "", "kind": "image", "frames_total": 1, "frames_used": 1, "seconds": None, "width": 60,
        "height": 40, "audio": "absent", "sound_seconds": None, "protocol": "released",
    }  # fmt: skip
    assert found["tokens"]["prompt"] == found["tokens"]["image"] + found["tokens"]["text"]
    assert "audio" not in found["tokens"]

    (tmp_path / "frames").mkdir()
    for i in range(5):
        Image.fromarray(np.full((40, 60, 3), 9 * i, np.uint8)).save(tmp_path / "frames" / f"{i}.png")
    code, out, _ = outcome(capsys, "check", folder, tmp_path / "frames", "--protocol", "full", "--max-new-tokens", 1)
    assert "frames: video, 4 of 5 frames, 60×40" in out
    assert code == 0


def test_check_of_a_clip_that_is_missing(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, err = outcome(capsys, "check", folder, "absent.mp4")
    assert (code, out) == (3, "")
    assert "absent.mp4" in err


def test_check_says_when_it_does_not_fit(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from videollama2 import device

    monkeypatch.setattr(device, "ram", lambda: device.Memory("RAM", 1 << 20, 1 << 20))
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    code, out, _ = outcome(capsys, "check", folder, tmp_path / "a.png", "--max-new-tokens", 1, "--dtype", "float32")
    assert code == 1
    assert "does NOT fit" in out
    assert "--dtype bfloat16" in out


def test_an_unknown_model_is_one_line_and_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "check", "2.1-7b-audio")
    assert (code, out) == (4, "")
    assert "did you mean" in err
    assert "Traceback" not in err


def test_convert_a_malicious_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"x": subprocess.Popen}, tmp_path / "x.bin")
    code, _, err = outcome(capsys, "convert", tmp_path / "x.bin", tmp_path / "out")
    assert code == 4
    assert "It was not run" in err
    assert not (tmp_path / "out").exists()


def test_convert_then_merge_then_info(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The way of a pre-trained connector: pickle, safetensors, one folder."""
    tensors = tiny.original_tensors(tiny.model())
    base = tiny.write(tmp_path / "base", tiny.original_config(), model=tensors)
    stage = tiny.write(tmp_path / "stage", tiny.original_config(_name_or_path=str(base)))
    torch.save(tiny.parts(tensors, "model.mm_projector."), stage / "mm_projector.bin")

    code, _, err = outcome(capsys, "merge", stage, tmp_path / "merged")
    assert code == 4
    assert "videollama2 convert" in err

    code, out, _ = outcome(capsys, "convert", stage, tmp_path / "safe")
    assert code == 0
    assert "converted  mm_projector.bin → mm_projector.safetensors" in out
    code, out, _ = outcome(capsys, "convert", stage, tmp_path / "safe", "--json")
    assert json.loads(out)["already_done"]

    code, out, _ = outcome(capsys, "info", tmp_path / "safe")
    assert code == 0
    assert f"base: {base}" in out
    assert "kind: pretrain" in out

    code, out, _ = outcome(capsys, "merge", tmp_path / "safe", tmp_path / "merged", "--json")
    assert code == 0
    tiny.same_model(stages.load(json.loads(out)["folder"]), tiny.model())
    code, _, err = outcome(capsys, "merge", tmp_path / "safe", tmp_path / "merged")
    assert code == 2


def test_info_lists_and_describes_every_release(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "info")
    assert code == 0
    assert all(release.short_name in out for release in catalog.RELEASES)
    for release in catalog.RELEASES:
        code, out, _ = outcome(capsys, "info", release.short_name, "--json")
        found = json.loads(out)
        assert found["name"] == release.hub_id
        assert found["parts"]["language model"]["licence"]
        assert "Apache-2.0" in found["licence"]


def test_info_of_a_folder_shows_its_card_and_licence(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    _, out, _ = outcome(capsys, "info", folder)
    assert "licence: not stated in this folder" in out
    (folder / "README.md").write_text("# A card of ours")
    (folder / "LICENSE").write_text("text")
    _, out, _ = outcome(capsys, "info", folder)
    assert "# A card of ours" in out
    assert "licence: LICENSE" in out
    code, _, _ = outcome(capsys, "info", folder / "clip-vit-tiny" / "nothing")
    assert code == 4


def test_commands_without_torch_start_fast() -> None:
    """`--help` imports neither torch nor transformers."""
    code = "import sys; from videollama2.cli import build_parser; build_parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
