"""Items asked by engines of a pool, in other processes: the results are those of a run with one engine."""

import json
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from videollama2.engine import Engine
from videollama2.errors import UnreadableMedia, UsageError
from videollama2.evals import probe
from videollama2.evals.manifest import all_facts
from videollama2.evals.registry import benchmark
from videollama2.evals.run import evaluate
from videollama2.jobs import EnginePool, backend_of
from videollama2.weights.digest import weights_of


class Elsewhere(EnginePool):
    """As a pool of other processes: what goes there and back is pickled, and the working folder is another."""

    elsewhere = True

    def __init__(self, engine: Engine, lost: Callable[[int], bool] = lambda number: False) -> None:
        self._engine, self._lost = engine, lost
        self.name, self.protocol, self.facts = engine.name, engine.protocol, all_facts(engine)
        self.backend, self.weights_sha256 = backend_of(engine), weights_of(engine)
        self.tasks = 0

    def map(self, work: Any, tasks: Sequence[Any]) -> Any:
        for number, task in enumerate(tasks):
            self.tasks += 1
            there, its = pickle.loads(pickle.dumps((work, task)))  # noqa: S301  our own
            here = Path.cwd()
            os.chdir("/")
            try:
                gone = self._lost(number)
                found = there.lost(its, UnreadableMedia("it died")) if gone else there(self._engine, its, lambda: False)
            finally:
                os.chdir(here)
            for _ in range(2):  # a pool may repeat a task of a node that it lost
                yield pickle.loads(pickle.dumps(found))  # noqa: S301  our own


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small probe, under a relative path."""
    monkeypatch.chdir(tmp_path)
    probe.make(Path("clips") / "probe", probe.built_in(), clips=1, seed=1)
    yield Path("clips") / "probe"


def test_results_are_those_of_one_engine(engine: Engine, clips: Path) -> None:
    chosen = benchmark("probe")
    evaluate(engine, chosen, clips, Path("plain"), ablations=("none", "audio"), batch=2)
    pool = Elsewhere(engine)
    evaluate(pool, chosen, clips, Path("pool"), ablations=("none", "audio"), batch=2)
    for name in ("results.jsonl", "summary.json", "manifest.json"):
        assert (Path("pool") / "probe" / name).read_bytes() == (Path("plain") / "probe" / name).read_bytes(), name
    assert pool.tasks > 1
    assert evaluate(pool, chosen, clips, Path("pool"), ablations=("none", "audio"), batch=2).left == 0


def test_another_file_of_weights_is_another_run(engine: Engine, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp's weights have no hash."""
    chosen = benchmark("probe")
    for name in ("lm.Q8_0.gguf", "lm.Q4_K_M.gguf"):
        pool = Elsewhere(engine)
        pool.backend = {"engine": "llama.cpp", "weights": name}
        if name == "lm.Q8_0.gguf":
            evaluate(pool, chosen, clips, Path("pool"))
            continue
        with pytest.raises(UsageError, match=r"weights was lm.Q8_0.gguf, now lm.Q4_K_M.gguf"):
            evaluate(pool, chosen, clips, Path("pool"))


def test_the_default_batches_give_the_results_of_single_questions(engine: Engine, clips: Path) -> None:
    """In float32, replies and what receipts note are the same, byte for byte."""
    chosen, file = benchmark("probe"), clips / "probe.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()][:4]
    asked = [{**row, "question": f"{row['question']} {k}?"} for k in range(3) for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in asked))
    assert engine.model.dtype == torch.float32
    for name, batch in (("default", None), ("single", 1)):
        run = evaluate(engine, chosen, clips, Path(name), ablations=("none", "text-only"), batch=batch)
        assert run.manifest["run"]["batch"] == ("by clip" if batch is None else 1)
    assert len({result.media for result in run.results}) == 4 and len(run.results) == 4 * 3 * 2
    default, single = (Path(name) / "probe" / "results.jsonl" for name in ("default", "single"))
    assert default.read_bytes() == single.read_bytes()


def test_an_interrupted_run_and_a_lost_clip(engine: Engine, clips: Path) -> None:
    chosen = benchmark("probe")
    seen = 0

    def stop(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(Elsewhere(engine), chosen, clips, Path("pool"), on_progress=stop)
    pool = Elsewhere(engine, lost=lambda number: number == 0)
    run = evaluate(pool, chosen, clips, Path("pool"))
    failed = [result for result in run.results if result.error is not None]
    assert failed and all("UnreadableMedia: it died" in (result.error or "") for result in failed)
    assert len({(r.ablation, r.id) for r in run.results}) == len(run.results) and run.left == 0
