"""Work folders: what a killed process leaves is removed by the next, what a living one has is not, and full disks."""

import errno
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from videollama2.errors import StorageError, WeightsError
from videollama2.storage import work_folder

pytest.importorskip("fcntl", reason="Windows has no flock")
_HOLDER = """
import sys, time
from pathlib import Path
from videollama2.storage import work_folder
with work_folder(Path(sys.argv[1])) as work:
    (work / "large").write_bytes(b"x" * 1000)
    print(work, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is writing `target`."""
    command = [sys.executable, "-c", _HOLDER, tmp_path / "target"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_killed_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    with work_folder(tmp_path / "target") as work:
        assert (left / "large").is_file() and left != work, "it is alive"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (left / "large").is_file()
    with work_folder(tmp_path / "other"):
        assert left.exists(), "another target's"
    with work_folder(tmp_path / "target") as work:
        assert [*tmp_path.iterdir()] == [work]
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("1000 requested and 24 written"),  # numpy
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
    ],
)
def test_a_full_disk(tmp_path: Path, error: Exception) -> None:
    said = r"target can't be written \(.*(No space|written).*Free some space"
    with pytest.raises(StorageError, match=said), work_folder(tmp_path / "target") as work:
        (work / "part").write_bytes(b"x")
        raise error
    assert not [*tmp_path.iterdir()]


def test_a_disk_that_is_too_small(tmp_path: Path) -> None:
    needed = shutil.disk_usage(tmp_path).free + (1 << 40)
    said = r"target takes .* GB, but .* free; free some space"
    with pytest.raises(StorageError, match=said), work_folder(tmp_path / "target", needed):
        pass
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("error", [WeightsError("damaged."), FileNotFoundError(errno.ENOENT, "x"), ValueError("x")])
def test_other_errors_pass(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as found, work_folder(tmp_path / "target"):
        raise error
    assert found.value is error and not [*tmp_path.iterdir()]
