"""`videollama2 serve --engine vllm`: the same front door, the same answers and receipts."""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import videollama2
from videollama2.serve.app import create_app
from videollama2.serve.running import in_thread
from videollama2.serve.settings import ServeSettings

from . import small
from .test_server import ask, free_port, part, served

pytestmark = pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed: recipes/vllm/run.sh")
RUNS_ELSEWHERE = ("engine", "arithmetic")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save(tmp_path_factory.mktemp("behind") / "small", "qwen2", penalty=1.3)


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[Any]:
    """Our own engine behind the same server."""
    import openai

    engine = videollama2.load(folder, device="cpu", dtype="float32")
    settings = ServeSettings(shutdown_seconds=5)
    with in_thread(create_app(engine, settings), settings) as (url, _):
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def there(folder: Path) -> Iterator[Any]:
    import openai

    port = free_port()
    command = [
        sys.executable, "-m", "videollama2", "serve", "--engine", "vllm", "--model", str(folder), "--dtype", "float32",
        "--port", str(port), "--max-batch-size", "8", "--no-page",
        "--vllm-args", json.dumps({"enforce_eager": True, "max_model_len": 2048}),
    ]  # fmt: skip
    with served(command, folder.parent / "log", port, ready="/ready") as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def both(here: Any, there: Any, *parts: Any, **options: Any) -> tuple[Any, Any]:
    options = {"max_tokens": 12, **options}
    return ask(here, *parts, **options), ask(there, *parts, **options)


def comparable(receipt: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in receipt.items() if key not in (*RUNS_ELSEWHERE, "reused")}


@pytest.fixture(autouse=True)
def named(here: Any, there: Any, folder: Path) -> None:
    """Both servers call the model by its folder's name."""
    assert [m.id for m in here.models.list()] == [m.id for m in there.models.list()] == [folder.name] == ["small"]


@pytest.mark.parametrize(
    ("kind", "file", "options"),
    [
        ("image", "still.png", {}),
        ("video", "clip.mp4", {}),
        ("video", "clip.mp4", {"sound": False}),
        ("video", "mute.mp4", {}),
        ("video", "long.mp4", {"start": 1.0, "end": 3.0, "num_frames": 6}),
        ("audio", "tone.wav", {}),
    ],
)
def test_same_answers_and_receipts(
    here: Any, there: Any, media: Path, kind: str, file: str, options: dict[str, Any]
) -> None:
    """Also the second time, from the caches."""
    for round in range(2):
        one, other = both(here, there, part(kind, media / file, **options))
        assert other.choices[0].message.content == one.choices[0].message.content
        assert other.choices[0].finish_reason == one.choices[0].finish_reason
        assert comparable(other.receipt) == comparable(one.receipt)
        assert other.usage == one.usage
        assert bool(other.receipt["reused"]) == (round == 1)
    assert other.receipt["engine"] == "vllm"
    assert other.receipt["arithmetic"].startswith("vLLM 0.3")
    assert other.receipt["dtype"] == "float32"


def test_text_and_several_media(here: Any, there: Any, media: Path) -> None:
    for parts in ([], [part("image", media / "still.png"), part("video", media / "clip.mp4")]):
        one, other = both(here, there, *parts)
        assert other.choices[0].message.content == one.choices[0].message.content
        assert comparable(other.receipt) == comparable(one.receipt)


def test_streams_stop_texts_and_logprobs(here: Any, there: Any, media: Path) -> None:
    clip = part("video", media / "clip.mp4")
    one, other = both(here, there, clip, logprobs=True, top_logprobs=3)
    for a, b in zip(one.choices[0].logprobs.content, other.choices[0].logprobs.content, strict=True):
        assert a.token == b.token
        assert b.logprob == pytest.approx(a.logprob, abs=1e-3)
        assert [t.token for t in a.top_logprobs] == [t.token for t in b.top_logprobs]
    whole = one.choices[0].message.content
    stop = whole[len(whole) // 2 :][:2]
    one, other = both(here, there, clip, stop=stop)
    assert other.choices[0].message.content == one.choices[0].message.content
    assert other.choices[0].finish_reason == one.choices[0].finish_reason == "stop"
    chunks = list(ask(there, clip, stream=True, max_tokens=12))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert any(getattr(chunk, "receipt", None) for chunk in chunks)


def test_answers_in_json(here: Any, there: Any, media: Path) -> None:
    schema = {
        "type": "object", "properties": {"loud": {"type": "boolean"}, "count": {"type": "integer", "maximum": 9}},
        "required": ["loud", "count"], "additionalProperties": False,
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "sound", "schema": schema}}
    one, other = both(here, there, part("video", media / "clip.mp4"), response_format=form, max_tokens=40)
    assert other.choices[0].message.content == one.choices[0].message.content
    assert other.choices[0].message.content.startswith('{"loud": ')


def test_the_front_door_rejects_as_before(here: Any, there: Any, media: Path) -> None:
    import openai

    wrong: list[tuple[Any, dict[str, Any]]] = [
        (part("video", media / "mute.mp4"), {"extra_body": {"strict": True}}),
        (part("video", media / "clip.mp4", start=9), {}),
        (part("video", media / "clip.mp4", num_frames=0), {}),
        ({"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}, {}),
        ({"type": "video_url", "video_url": {"url": "https://example.org/clip.mp4"}}, {}),
        (part("image", media / "still.png"), {"frequency_penalty": 1}),
    ]
    for bad, options in wrong:
        errors = []
        for client in (here, there):
            with pytest.raises(openai.APIStatusError) as caught:
                ask(client, bad, **options)
            errors.append((caught.value.status_code, str(caught.value)))
        assert errors[0] == errors[1]
    one, other = both(here, there, part("image", media / "still.png"))
    assert other.choices[0].message.content == one.choices[0].message.content


def test_many_at_once_and_metrics(here: Any, there: Any, media: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    files = [("image", "still.png"), ("video", "clip.mp4"), ("audio", "tone.wav"), ("video", "mute.mp4")] * 3
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda file: both(here, there, part(file[0], media / file[1])), files))
    for one, other in found:
        assert other.choices[0].message.content == one.choices[0].message.content
        assert comparable(other.receipt) == comparable(one.receipt)
    base = str(there.base_url).removesuffix("/v1/")
    with urllib.request.urlopen(f"{base}/metrics") as response:
        text = response.read().decode()
    assert 'tokens_total{kind="generated"}' in text or "generated" in text
    with urllib.request.urlopen(f"{base}/health") as response:
        assert json.load(response)["status"] == "ok"


def running(there: Any) -> float:
    """Requests being answered."""
    with urllib.request.urlopen(f"{str(there.base_url).removesuffix('/v1/')}/metrics") as response:
        lines = response.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("videollama2_running ")))


def test_clients_that_disconnect_free_their_slots(here: Any, there: Any, media: Path) -> None:
    streams = [ask(there, part("image", media / "still.png"), stream=True, max_tokens=1500) for _ in range(8)]
    for stream in streams:
        next(iter(stream))
    assert running(there) == 8  # all that --max-batch-size allows
    for stream in streams:
        stream.response.close()
    until = time.monotonic() + 60
    while running(there):
        assert time.monotonic() < until
        time.sleep(0.1)
    one, other = both(here, there, part("video", media / "clip.mp4"))
    assert other.choices[0].message.content == one.choices[0].message.content


def test_the_end_of_vllms_process_is_reported(there: Any, media: Path) -> None:
    """The last test of this server: a request in progress, and later ones, end with an error."""
    import openai

    stream = iter(ask(there, part("image", media / "still.png"), stream=True, max_tokens=1500))
    next(stream)
    os.kill(engine_core(there.base_url.port), signal.SIGKILL)
    with pytest.raises(openai.APIError, match="vLLM's engine process ended"):
        for _ in stream:
            pass
    with pytest.raises(openai.APIStatusError, match="vLLM's engine process ended") as caught:
        ask(there, part("image", media / "still.png"))
    assert caught.value.status_code == 503
    for path in ("health", "ready"):
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{str(there.base_url).removesuffix('/v1/')}/{path}")


def engine_core(port: int) -> int:
    """The number of vLLM's process behind our server at this port."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and b"EngineCore" in (process / "cmdline").read_bytes():
            parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
            if str(port).encode() in Path("/proc", parent, "cmdline").read_bytes().split(b"\0"):
                return int(process.name)
    raise AssertionError(f"no engine core behind port {port}")
