"""Jobs on a local Ray cluster of two nodes give the lines and results of jobs without Ray, whatever dies on the way."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from videollama2 import GenerateOptions, Media, Request, cli
from videollama2.engine import Engine
from videollama2.errors import CheckpointNotFound, MissingExtra, StorageError, UsageError
from videollama2.live.asking import LINES, AskWork, ask_files
from videollama2.live.manifests import find_rows
from videollama2.media.worker import WorkerLimits

from ... import tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.platform == "win32", reason="Ray's clusters of several nodes need Linux or macOS"),
]
REQUEST = Request(media=[Media(source="")], question="what?", options=GenerateOptions(max_new_tokens=2))


def needs_ray() -> Any:
    return pytest.importorskip("ray", reason="Ray is not installed: pip install 'videollama2[ray]'")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The address of a cluster of two nodes with one CPU each."""
    needs_ray()
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would starve them beside other tests
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.add_node(**node)
    yield made.address
    made.shutdown()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eight clips, and a row without a file."""
    rows = [{"id": f"r{i}", "video": f"{i}.mp4", "question": f"what {i}?"} for i in range(8)]
    for i in range(8):
        tiny.write_clip(tmp_path / f"{i}.mp4", frames=8 + i)
    rows.append({"id": "gone", "video": "gone.mp4"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "rows.jsonl"


def lines(out: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (out / LINES).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "took"} for line in found]


def spec(folder: Path) -> Any:
    from videollama2.backends.ray.spec import EngineSpec

    return EngineSpec(model=str(folder), device="cpu", dtype="float32", workers=1, limits=WorkerLimits(seconds=60))


class Deadly(AskWork):
    """Kills its process on row r3; and once, on the driver's word, on r5."""

    def __call__(self, engine: Any, row: Any, stopped: Any, *, shown: str) -> Any:
        if row.name == "r3":
            os.kill(os.getpid(), signal.SIGSEGV)
        once = Path(str(row.path)).parent / "once"
        if row.name == "r5" and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(engine, row, stopped, shown=shown)


def test_lines_are_those_without_ray_and_deaths_cost_their_rows_alone(
    cluster: str, engine: Engine, tiny_folder: Path, manifest: Path, tmp_path: Path
) -> None:
    from ray import cloudpickle

    from videollama2.backends.ray.pool import RayPool
    from videollama2.live.row_job import run_rows

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    listed = find_rows([str(manifest)])
    ask_files(engine, listed, tmp_path / "plain", REQUEST)
    with RayPool(spec(tiny_folder), address=cluster, block=2) as pool:
        assert pool.actors == 2 and pool.name == engine.name
        done = run_rows(pool, Deadly(REQUEST), listed, tmp_path / "ray", LINES)
    plain, found = lines(tmp_path / "plain"), lines(tmp_path / "ray")
    killer = found.pop(3)
    assert killer["id"] == plain.pop(3)["id"] == "r3" and killer["status"] == "failed" and killer["text"] is None
    assert "2 processes died while they worked on this row alone" in killer["error"]["message"]
    assert found == plain and (tmp_path / "once").exists()
    assert done.counts == {"done": 7, "failed": 2}


class Counted:
    """`Deaths` in this process, with the names of the methods that were called."""

    def __init__(self) -> None:
        from videollama2.backends.ray.actor import Deaths

        self.deaths, self.calls = Deaths(), list[str]()

    def __getattr__(self, name: str) -> Any:
        def remote(*args: Any) -> Any:
            self.calls.append(name)
            return getattr(self.deaths, name)(*args)

        return SimpleNamespace(remote=remote)


class Fatal:
    """Work that "kills its process" on the task "bad", as an exception that nothing catches."""

    def __call__(self, engine: Any, task: str, stopped: Any) -> str:
        if task == "bad":
            raise SystemExit
        return task

    def lost(self, task: str, error: Exception) -> str:
        return f"{task}: {error}"


def test_a_block_costs_one_call_until_a_process_dies_on_it() -> None:
    needs_ray()
    from ray import cloudpickle

    from videollama2 import __version__
    from videollama2.backends.ray.actor import EngineActor

    counted = Counted()
    spec = SimpleNamespace(load=lambda: None)
    actor = EngineActor(spec, Fatal(), counted, 1, __version__, lambda reply: reply)

    def block(first: int, tasks: list[str]) -> list[str]:
        numbers = range(first, first + len(tasks))
        found = actor({"index": numbers, "task": [cloudpickle.dumps(task) for task in tasks]})
        assert set(found["failure"]) == {b""}
        return [cloudpickle.loads(result) for result in found["result"]]

    assert block(0, ["a", "b", "c"]) == ["a", "b", "c"]
    assert counted.calls == ["begin_block"]
    for _ in range(3):  # the first death is the block's, the others are the task's
        with pytest.raises(SystemExit):
            block(3, ["d", "bad", "e"])
    d, bad, e = block(3, ["d", "bad", "e"])
    assert (d, e) == ("d", "e")
    assert bad.startswith("bad: 2 processes died while they worked on this row alone") and bad.endswith(".")


def test_the_driver_is_killed_and_runs_again(cluster: str, tiny_folder: Path, manifest: Path, tmp_path: Path) -> None:
    words = ["ask", str(manifest), "--ray", cluster, "--block", "1", "--out", str(tmp_path / "out"), "--json"]
    words += ["--model", str(tiny_folder), "--device", "cpu", "--dtype", "float32", "--max-new-tokens", "2"]
    journal = tmp_path / "out" / LINES
    driver = subprocess.Popen([sys.executable, "-m", "videollama2", *words], stdout=subprocess.DEVNULL)
    while driver.poll() is None and (not journal.is_file() or journal.read_bytes().count(b"\n") < 2):
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    before = journal.read_bytes().count(b"\n")
    assert 2 <= before < 9, "killed in the middle"
    again = subprocess.run([sys.executable, "-m", "videollama2", *words], capture_output=True, text=True, timeout=300)
    assert again.returncode == 3, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["reused"] >= before - 1  # all but failed ones, and a torn line
    assert [line["id"] for line in lines(tmp_path / "out")] == [*(f"r{i}" for i in range(8)), "gone"]


def test_ctrl_c_and_a_full_disk(cluster: str, tiny_folder: Path, manifest: Path, tmp_path: Path) -> None:
    """What was written is kept, and the same command completes it; the disk is full where the journal can't grow."""
    out = tmp_path / "out"
    words = ["ask", str(manifest), "what?", "--ray", cluster, "--block", "1", "--out", str(out)]
    words += ["--model", str(tiny_folder), "--device", "cpu", "--dtype", "float32", "--max-new-tokens", "100"]
    command = [sys.executable, "-m", "videollama2", *words]
    journal = out / LINES
    heeded = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which shells ignore in the background
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeded)
    while driver.poll() is None and (not journal.is_file() or journal.read_bytes().count(b"\n") < 2):
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    _, interrupted = driver.communicate(timeout=120)
    assert driver.returncode == 130, interrupted
    assert f"results so far are kept in {out}; run the same command again to resume" in interrupted
    assert "Traceback" not in interrupted
    first = journal.read_bytes()
    assert 2 <= first.count(b"\n") < 9 and first.endswith(b"\n")

    old = json.dumps({"file": "old", "status": "done", "text": "x" * 200_000})  # of a row that the manifest lacks now
    journal.write_bytes(first + old.encode() + b"\n")
    limit = len(first) + len(old) + 1500  # bytes of a file: one more line or two
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1)); "
    limited += f"from videollama2.cli import main; raise SystemExit(main({words!r}))"
    full = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, timeout=300)
    assert full.returncode == StorageError.exit_code, full.stderr
    assert f"{out} can't be written" in full.stderr and "Traceback" not in full.stderr
    second = journal.read_bytes()
    assert second.startswith(first) and second.endswith(b"\n") and len(second) <= limit

    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 3, again.stderr
    assert [line["file"] for line in lines(out)] == [*(f"r{i}" for i in range(8)), "gone", "old"]


def test_a_benchmark_has_the_results_of_a_run_without_ray(
    cluster: str, engine: Engine, tiny_folder: Path, tmp_path: Path
) -> None:
    from videollama2.backends.ray.pool import RayPool
    from videollama2.evals import probe
    from videollama2.evals.manifest import all_facts
    from videollama2.evals.registry import benchmark
    from videollama2.evals.run import evaluate

    probe.make(tmp_path / "clips" / "probe", probe.built_in(), clips=1, seed=1)
    chosen = benchmark("probe")
    evaluate(engine, chosen, tmp_path / "clips" / "probe", tmp_path / "plain")
    with RayPool(spec(tiny_folder), address=cluster, describe=all_facts, threads=1) as pool:
        run = evaluate(pool, chosen, tmp_path / "clips" / "probe", tmp_path / "ray")
    assert run.left == 0
    for name in ("results.jsonl", "summary.json"):
        assert (tmp_path / "ray" / "probe" / name).read_bytes() == (tmp_path / "plain" / "probe" / name).read_bytes()


def test_a_server_is_the_engine_of_every_actor(
    cluster: str, engine: Engine, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from videollama2.serve.app import create_app
    from videollama2.serve.running import in_thread
    from videollama2.serve.settings import ServeSettings

    ask_files(engine, find_rows([str(manifest)]), tmp_path / "plain", REQUEST)
    settings = ServeSettings(shutdown_seconds=5)
    with in_thread(create_app(engine, settings), settings) as (url, _):
        words = ["ask", str(manifest), "what?", "--ray", cluster, "--endpoint", f"{url}/v1", "--model", "default"]
        assert cli.main([*words, "--max-new-tokens", "2", "--out", str(tmp_path / "out"), "--json"]) == 3
    capsys.readouterr()
    plain, found = lines(tmp_path / "plain"), lines(tmp_path / "out")
    assert [(line["id"], line["status"], line["text"]) for line in found] == [
        (line["id"], line["status"], line["text"]) for line in plain
    ]


def test_a_model_that_cant_be_loaded_there(cluster: str, manifest: Path, tmp_path: Path) -> None:
    from videollama2.backends.ray.pool import RayPool

    with pytest.raises(CheckpointNotFound):
        RayPool(spec(tmp_path / "no-model"), address=cluster)


def test_an_address_where_no_cluster_answers(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_ray()
    assert cli.main(["ask", str(manifest), "what?", "--ray", "127.0.0.1:9"]) == 2
    assert "no Ray cluster answers at 127.0.0.1:9 (connection refused)" in capsys.readouterr().err


def test_without_ray(manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from videollama2.backends.ray.start import connected

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'videollama2\[ray\]'"), connected(None):
        pass
    assert cli.main(["ask", "--ray", str(manifest), "what?"]) == MissingExtra.exit_code
    assert "pip install 'videollama2[ray]'" in capsys.readouterr().err


def test_the_word_after_ray_is_an_address_or_an_argument() -> None:
    parse = cli.build_parser().parse_args
    assert parse(["ask", "--ray", "rows.jsonl", "what?"]).words == ["rows.jsonl", "what?"]
    assert parse(["ask", "--ray", "rows.jsonl", "what?"]).ray == ""
    assert parse(["caption", "clips", "--ray"]).ray == "" and parse(["caption", "clips"]).ray is None
    for address in ("auto", "local", "10.0.0.1:6379", "ray://head.example:10001", "[::1]:6379"):
        assert parse(["caption", "--ray", address, "clips"]).ray == address
    assert parse(["eval", "avqa", "--data", "D", "--ray", "auto"]).ray == "auto"


def test_what_is_no_address() -> None:
    from videollama2.backends.ray.start import connected

    needs_ray()
    with pytest.raises(UsageError, match="expected HOST:PORT"), connected("head"):
        pass


def test_where_engines_go() -> None:
    from videollama2.backends.ray.pool import _plan

    class Cluster:
        def __init__(self, *nodes: dict[str, float]) -> None:
            self._nodes = nodes

        def nodes(self) -> list[dict[str, Any]]:
            dead = {"Alive": False, "Resources": {"CPU": 64, "GPU": 8}}
            return [dead, *({"Alive": True, "Resources": node} for node in self._nodes)]

    head, gpus = {"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}
    assert _plan(Cluster(head, gpus, gpus), None, None, gpus=True) == (16, {"num_gpus": 1, "num_cpus": 1})
    assert _plan(Cluster(gpus), 4, 2, gpus=True) == (4, {"num_gpus": 1, "num_cpus": 2})
    assert _plan(Cluster(gpus), None, None, gpus=False) == (1, {"num_cpus": 64}), "--device cpu, --endpoint"
    assert _plan(Cluster(head, {"CPU": 8.0}), None, None, gpus=True) == (2, {"num_cpus": 4})
    assert _plan(Cluster(head), 3, None, gpus=True) == (3, {"num_cpus": 1})
    with pytest.raises(UsageError, match="no CPUs"):
        _plan(Cluster({"memory": 1.0}), None, None, gpus=True)


def test_an_engine_is_the_same_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from videollama2.backends.ray.spec import EngineSpec

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "lm.gguf").touch()
    assert EngineSpec(model="nano").anywhere().model == "nano"
    assert EngineSpec(model="mine").anywhere().model == str(tmp_path / "mine")
    assert EngineSpec(model="2.1-7b-av").anywhere().model == "2.1-7b-av"
    assert EngineSpec(model="mine", gguf="lm.gguf").anywhere().gguf == str(tmp_path / "lm.gguf")
    assert EngineSpec(model="mine", gguf="Q4_K_M").anywhere().gguf == "Q4_K_M"
