"""A small run of benchmarks/hostile.py: the server survives, and the script would notice if it did not."""

import importlib.util
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from videollama2.engine import Engine
from videollama2.serve.app import create_app
from videollama2.serve.running import in_thread
from videollama2.serve.settings import RequestLimits, ServeSettings

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "hostile.py"


@pytest.fixture(scope="module")
def hostile() -> Any:
    spec = importlib.util.spec_from_file_location("hostile", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hostile"] = module
    spec.loader.exec_module(module)
    return module


def test_forty_files_and_forty_requests(hostile: Any, engine: Engine) -> None:
    settings = ServeSettings(
        limits=RequestLimits(media_workers=2, decode_seconds=20), cache_bytes=0, shutdown_seconds=5
    )
    app = create_app(engine, settings)
    with in_thread(app, settings) as (url, _):
        report = hostile.Attack(url, seed=1).run(media=40, requests=40, every=10)
        processes = [worker._process for worker in list(app.state.server.decoding._media._free.queue)]
    assert report.good == 8 + 4 and report.passed(), report.row()
    assert sum(report.statuses["media"].values()) >= 30 and sum(map(len, report.statuses.values())) > 3
    assert not [one for one in processes if one is not None and one.poll() is None], "none is left behind"


def test_failures_would_be_noticed(hostile: Any) -> None:
    report = hostile.Report(good=3)
    assert report.passed()
    for name, what in (("wrong", ["x"]), ("failures", ["x"]), ("leaks", ["x"]), ("left", 1), ("good", 0)):
        assert not hostile.Report(**{"good": 3, name: what}).passed()
    assert not hostile.Report(good=3, memory_mib=[500.0] * 50 + [700.0] * 50).flat()
    assert hostile.Report(good=3, memory_mib=[500.0, 540.0] * 50).flat()
    attack = hostile.Attack("http://127.0.0.1:9")
    for text in (
        '{"error": "<BytesIO object at 0x7f00deadbeef>"}',
        "Traceback (most recent call last)",
        "in /usr/lib/x",
    ):
        attack._note("media", 400, text)
    attack._note("media", 500, "oops")
    assert len(attack.report.leaks) == 3 and len(attack.report.failures) == 1
    assert attack.report.statuses["media"] == Counter({400: 3, 500: 1})


def test_mutations_depend_only_on_the_seed(hostile: Any) -> None:
    data, other = bytes(range(256)) * 8, b"other" * 100
    found = [hostile.mutated(data, random.Random(i), other) for i in range(200)]
    assert found == [hostile.mutated(data, random.Random(i), other) for i in range(200)]
    assert sum(one != data for one in found) > 190
