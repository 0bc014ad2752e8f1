"""Short loads of benchmarks/serving.py: every request is answered or rejected at once, and memory stays flat."""

import argparse
import asyncio
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from videollama2.engine import Engine
from videollama2.serve.app import create_app
from videollama2.serve.running import in_thread
from videollama2.serve.settings import ServeSettings

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"
GROWTH_MIB = 64  # what a process may gain in some hundred questions, after the first ones


@pytest.fixture(scope="module")
def serving() -> Any:
    spec = importlib.util.spec_from_file_location("serving", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["serving"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_closed_and_open_loops_and_a_soak(serving: Any, engine: Engine) -> None:
    settings = ServeSettings(queue_size=4, queue_share=1.0, shutdown_seconds=5)
    args = argparse.Namespace(
        clients=[1, 16], rates=[], seconds=4.0, fresh=0.25, soak=10.0, soak_load=0.5, watch=0.2, key=None
    )
    app = create_app(engine, settings)
    # in a thread of its own: a browser's tests in the same process leave a loop running in this one
    with in_thread(app, settings) as (url, _), ThreadPoolExecutor(1) as pool:
        one, sixteen, soak = pool.submit(asyncio.run, serving.measure(url, args)).result()
    ends = {reply.end for run in (one, sixteen, soak) for reply in run.replies}
    assert ends <= {"answer", "429"}, ends
    assert {reply.end for reply in one.replies} == {"answer"}, "one client is never refused"
    row = sixteen.row()
    assert row["answers"] and row["refused"], "sixteen clients and a queue of four"
    assert row["refusal_s"][0] < row["answer_s"][0], "a refusal takes no turn"
    row = soak.row()
    assert row["answers"] > 10 and 0 < row["reused"] < 1
    assert soak.memory_mib[-1] - soak.memory_mib[0] < GROWTH_MIB, soak.memory_mib
