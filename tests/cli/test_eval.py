"""`videollama2 eval` from the command line: what it asks, prints and leaves, whole, in halves, and after a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import videollama2
from videollama2 import cli
from videollama2.device import own
from videollama2.errors import UnreadableMedia
from videollama2.evals import registry
from videollama2.evals.journal import read_results

from ..evals.fake import FakeEngine, Letters, letters, outcomes

REPLIES = {"q1?": "B", "q2?": "hm", "q3?": UnreadableMedia("broken")}
NAMES = ("results.jsonl", "summary.json", "manifest.json")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """What `videollama2.load` gives; and "letters" and "letters-more" are benchmarks."""
    fake = FakeEngine(REPLIES, otherwise="A")
    monkeypatch.setattr(videollama2, "load", lambda *args, **kwargs: fake)
    known = {name: Letters(name=name) for name in ("letters", "letters-more")}
    monkeypatch.setattr(registry, "benchmarks", lambda: known)
    return fake


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], engine: FakeEngine) -> Any:
    """`run(…)` → (exit code, standard output, standard error)."""

    def call(*argv: Any) -> tuple[int, str, str]:
        try:
            code = cli.main(["eval", *map(str, argv)])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def test_a_benchmark_is_asked_and_told(run: Any, tmp_path: Path) -> None:
    code, out, err = run("letters", "--data", letters(tmp_path), "--out", tmp_path / "out")
    assert code == 0 and "25.0" in out and "1 right, 1 wrong, 1 unparsable, 1 failed" in out
    assert "q3 failed: UnreadableMedia: broken" in err and "item 4 of 4" in err and " h left" in err
    code, out, err = run("run", "letters", "--data", tmp_path, "--out", tmp_path / "out", "--json")
    assert code == 0 and json.loads(out)["letters"]["ablations"]["none"]["outcomes"]["right"] == 1 and not err


def test_several_with_columns_side_by_side(run: Any, tmp_path: Path, engine: FakeEngine) -> None:
    letters(tmp_path / "data" / "letters")
    argv = ("letters", "letters-more", "--data", tmp_path / "data", "--out", tmp_path / "out", "--quiet")
    code, out, _ = run(*argv, "--ablate", "text-only,audio", "--limit", 2, "--batch", 2)
    assert code == 0 and out.count("without audio: ") == out.count("text only: ") == 2
    assert engine.batches == [2] * 6
    assert len(read_results(tmp_path / "out" / "letters-more")) == 6
    assert run("letters-more", *argv[2:])[0] == 2, "without --limit it is another run"


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["leters", "--data", "D"], 2, "did you mean 'letters'?"),
        (["letters"], 2, "--data"),
        (["letters", "--data", "D", "--ablate", "sound"], 2, "unknown ablation sound"),
        (["letters", "--data", "D", "--shard", "2/2"], 2, "expected a share K/N"),
        (["letters", "--data", "D", "--setting", "lax"], 2, "invalid choice: 'lax'"),
        (["letters", "--data", "D", "--protocol", "papr"], 2, "did you mean 'paper'?"),
        (["letters", "--data", "D", "--frames", "0"], 2, "expected 1 or more frames, got 0"),
        (["letters", "--data", "D", "--timeout", "0"], 2, "above 0"),
        (["letters", "--data", "D", "--limt", "3"], 2, "did you mean '--limit'?"),
        (["letters", "--data", "D/nowhere"], 3, "is not a folder"),
        (["letters", "--data", "D", "--limit", "0"], 2, "expected limit of 1 or more, got 0"),
        (["letters", "--data", "D", "--batch", "0"], 2, "expected batch of 1 or more, got 0"),
        ([], 2, "required"),
    ],
)
def test_what_people_get_wrong(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], code: int, told: str
) -> None:
    letters(tmp_path)
    monkeypatch.setattr(videollama2, "load", lambda *args, **kwargs: pytest.fail("no model is loaded for this"))
    found = run(*(word.replace("D", str(tmp_path)) if word.startswith("D") else word for word in argv))
    assert (found[0], found[1]) == (code, "") and told in found[2]


def test_an_interrupt_keeps_what_was_done(run: Any, tmp_path: Path, engine: FakeEngine) -> None:
    engine.replies = {"q2?": KeyboardInterrupt()}
    argv = ("letters", "--data", letters(tmp_path), "--out", tmp_path / "out", "--threads", 1)
    code, out, err = run(*argv)
    assert code == 130 and not out and "run the same command again to resume" in err
    assert [r.id for r in read_results(tmp_path / "out" / "letters")] == ["q0", "q1"]


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own(torch.device("cuda")) == torch.device("cuda", 3) and own(torch.device("cpu")) == torch.device("cpu")


def test_the_list(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("list", "--data", letters(tmp_path))
    assert code == 0 and "Letters · choice" in out and "found  letters.jsonl: the questions" in out
    assert json.loads(run("list", "letters", "--json")[1])[0]["needs"][0]["there"] is None
    monkeypatch.undo()
    code, out, err = run("list", "--data", tmp_path)
    assert code == 0 and "music-avqa" in out and not err


def test_every_benchmark_is_whole() -> None:
    for name, benchmark in registry.benchmarks().items():
        assert name == name.lower() and " " not in name and benchmark.needs and benchmark.title and benchmark.source


# ── real processes ─────────────────────────────────────────────────────────────────────────────────────────────────

# One program that imports everything once, and forks: a whole run; two shares of one; one that is killed, and goes on.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from tests.evals.fake import FakeEngine, Letters
from tests.cli.test_eval import REPLIES
from videollama2.evals.run import evaluate
from videollama2.jobs import share_from_environment

class Slow(FakeEngine):
    def reply(self, request):
        time.sleep(0.02)
        return super().reply(request)

def start(name, rank=0, world=1):
    if (child := os.fork()):
        return child
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world))
    rank, world = share_from_environment()
    evaluate(Slow(REPLIES, otherwise="A"), Letters(), data, out / name, batch=2, rank=rank, world=world)
    os._exit(0)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

data, out = Path(sys.argv[1]), Path(sys.argv[2])
others = [start("whole"), start("halves", 0, 2), start("halves", 1, 2)]
killed, results = start("killed"), out / "killed" / "letters" / "results.jsonl"
began = time.monotonic()
while not results.exists() or results.read_bytes().count(b"\\n") < 8:
    assert time.monotonic() < began + 60
    time.sleep(0.01)
os.kill(killed, signal.SIGKILL)
assert ended(killed) == -signal.SIGKILL and results.read_bytes().count(b"\\n") < 60
assert [ended(child) for child in (*others, start("killed"))] == [0] * 4
"""


def test_a_kill_and_two_processes_leave_the_same_files(tmp_path: Path) -> None:
    data = letters(tmp_path / "data", 60)
    # without git, or another commit meanwhile would be told
    environment = {**os.environ, "GIT_DIR": str(tmp_path / "none")}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", PROGRAM, str(data), str(tmp_path)], cwd=root, env=environment, check=True)
    expected = files(tmp_path / "whole" / "letters")
    assert files(tmp_path / "killed" / "letters") == files(tmp_path / "halves" / "letters") == expected
    found = outcomes(read_results(tmp_path / "whole" / "letters"))
    assert found == ["right", "wrong", "unparsable", "failed"] + ["right"] * 56
