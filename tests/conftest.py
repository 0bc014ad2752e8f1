"""One tiny model and one folder of generated media, shared by all tests."""

import logging
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# Set before torch is imported: waiting threads must not spin on busy cores, and no test may contact a hub.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# xdist runs one process per core; each computes with its share of the cores.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))

import numpy as np
import pytest
from PIL import Image

import videollama2
from videollama2.engine import Engine

from . import tiny
from .parity.recorded import FIXTURES, MEDIA, OFFICIAL, TOKENIZERS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what this run could not test. A summary, because `-q` shows no header."""
    for line in untested():
        terminalreporter.write_line(f"not tested here: {line}")


def untested() -> list[str]:
    folders = {"FIXTURES": FIXTURES, "MEDIA": MEDIA, "TOKENIZERS": TOKENIZERS}
    missing = [f"VIDEOLLAMA2_{name} ({path})" for name, path in folders.items() if not path.is_dir()]
    lines = []
    if missing:
        lines.append(
            f"tests/parity (in part): no folder at {', '.join(missing)}; tests/golden runs on files of our own"
        )
    if not OFFICIAL.is_dir():
        lines.append(f"the benchmarks' official files: no folder at VIDEOLLAMA2_OFFICIAL ({OFFICIAL})")
    if not find_spec("llguidance"):
        lines.append("structured output: llguidance is not installed")
    if not find_spec("deepspeed"):
        lines.append("training with --deepspeed: DeepSpeed is not installed")
    if not find_spec("vllm"):
        lines.append("the vLLM plugin: vLLM is not installed; recipes/vllm/run.sh tests it in another environment")
    browsers = ("chromium", "chromium-browser", "google-chrome", "chrome")
    if not find_spec("playwright") or not any(map(shutil.which, browsers)):
        lines.append("the web page in a browser: Chromium or playwright is not installed")
    return lines


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    """Restore the package's logger: the command line configures it for the rest of its process."""
    log = logging.getLogger("videollama2")
    before = (log.handlers[:], log.level, log.propagate)
    yield
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model in our layout, with its tokenizer."""
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny", whole_characters=True)  # answers leave out half ones


@pytest.fixture(scope="session")
def engine(tiny_folder: Path) -> Engine:
    return videollama2.load(tiny_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip.mp4 (2 s, tone), long.mp4 (4 s, tone), mute.mp4 (no sound), still.png, tone.wav."""
    folder = tmp_path_factory.mktemp("media")
    tiny.write_clip(folder / "clip.mp4")
    tiny.write_clip(folder / "long.mp4", frames=40, sound=tiny.tone(4.0, 880.0))
    tiny.write_clip(folder / "mute.mp4", sound=np.zeros(0, np.float32))
    tiny.write_clip(folder / "silent.mp4", sound=np.zeros(32000, np.float32))
    tiny.write_wave(folder / "tone.wav", tiny.tone(1.5))
    pixels = np.indices((48, 64)).sum(0).astype(np.uint8)
    Image.fromarray(np.stack([pixels, 255 - pixels, pixels // 2], -1)).save(folder / "still.png")
    return folder
