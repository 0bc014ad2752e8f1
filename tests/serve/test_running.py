"""The life of a server: start, metrics, graceful shutdown, TLS, the command line."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from videollama2.cli import build_parser
from videollama2.cli.serve import KEYS, address_of, settings_of
from videollama2.engine import Engine
from videollama2.errors import MissingExtra, UsageError
from videollama2.serve.app import create_app
from videollama2.serve.logs import JsonLines
from videollama2.serve.running import in_thread
from videollama2.serve.settings import RequestLimits, ServeSettings

from .test_chat import ask, asking, until, video


def test_metrics(client: Any, url: str, media: Path) -> None:
    for _ in range(2):
        ask(client, asking(video(media / "clip.mp4", end=0.9)))
    text = httpx.get(f"{url}/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=")
    values = {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in text.text.splitlines() if not line.startswith("#"))
    }
    assert values['videollama2_media_cache_total{found="yes"}'] >= 1
    assert values['videollama2_media_cache_total{found="no"}'] >= 1 and values["videollama2_media_cache_bytes"] > 0
    for kind in ("text", "video", "audio", "generated"):
        assert values[f'videollama2_tokens_total{{kind="{kind}"}}'] > 0
    assert values["videollama2_first_token_seconds_count"] >= 2 and values["videollama2_waiting"] == 0
    route = 'method="POST",route="/v1/chat/completions",status="200"'
    assert values[f"videollama2_http_requests_total{{{route}}}"] >= 2
    assert values["process_resident_memory_bytes"] > 1e6
    httpx.get(f"{url}/no/such/{'x' * 50}")
    assert "xxx" not in httpx.get(f"{url}/metrics").text  # no metric per made-up route


@pytest.mark.parametrize(("grace", "tokens", "whole"), [(30.0, 200, True), (0.2, 3000, False)])
def test_shutdown_ends_streams(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, grace: float, tokens: int, whole: bool
) -> None:
    """Those that finish in time end normally, the others with an error event; all with [DONE]."""
    monkeypatch.setattr(engine.runner, "stop_ids", [])
    settings = ServeSettings(shutdown_seconds=grace, max_tokens=3000, limits=RequestLimits(media_workers=1))
    app = create_app(engine, settings)
    lines: list[str] = []
    with in_thread(app, settings) as (url, server):

        def stream() -> None:
            body = {"model": "tiny", "messages": asking(), "max_tokens": tokens, "stream": True}
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
                lines.extend(line.removeprefix("data: ") for line in answer.iter_lines() if line)

        thread = threading.Thread(target=stream)
        thread.start()
        until(lambda: app.state.server.scheduler.running == 1)
        server.handle_exit(15, None)
        thread.join(60)
    assert lines[-1] == "[DONE]" and not app.state.server.scheduler.alive
    last = json.loads(lines[-2])
    if whole:
        assert last["choices"][0]["finish_reason"] == "length" and last["receipt"]["generated_tokens"] == tokens
    else:
        error = last["error"]
        assert (error["code"], error["status"], error["type"]) == ("stopping", 503, "server_error")


def test_health_while_stopping_and_broken(engine: Engine) -> None:
    from starlette.testclient import TestClient

    app = create_app(engine, ServeSettings(limits=RequestLimits(media_workers=1)))
    with TestClient(app) as client:
        assert client.get("/health").json() == client.get("/ready").json() == {"status": "ok"}
        app.state.server.scheduler.drain()
        assert (client.get("/health").status_code, client.get("/ready").status_code) == (200, 503)
        body = {"model": "tiny", "messages": asking()}
        refused = client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 503 and refused.headers["Retry-After"]
        app.state.server.scheduler.stop()
        app.state.server.scheduler.join(10)
        assert (client.get("/health").status_code, client.get("/ready").status_code) == (503, 503)


def test_logs_have_no_content_by_default(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    from starlette.testclient import TestClient

    secret = "the heron is at the window"
    for told in (False, True):
        caplog.clear()
        caplog.set_level(logging.INFO, "videollama2.serve")
        with TestClient(
            create_app(engine, ServeSettings(log_content=told, limits=RequestLimits(media_workers=1)))
        ) as client:
            body = {"model": "tiny", "messages": asking(text=secret), "max_tokens": 3}
            answer = client.post("/v1/chat/completions", json=body, headers={"X-Request-ID": "the-number-1"})
            assert answer.status_code == 200
        lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
        assert {"request", "answer"} <= {line["message"] for line in lines}
        assert all(line["request_id"] == "the-number-1" for line in lines if line["message"] in ("request", "answer"))
        assert (secret in json.dumps(lines)) == told


def test_flags_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.write_text("from-the-file\n\n", encoding="utf-8")
    monkeypatch.setenv(KEYS, "from-the-environment, second-one")
    parse = build_parser().parse_args
    args = parse(["serve", "--api-keys", str(keys), "--allow-url-host", "m.example.org", "--queue", "9"])
    settings = settings_of(args)
    assert settings.api_keys == ("from-the-environment", "second-one", "from-the-file")
    assert settings.limits.url_hosts == ("m.example.org",) and settings.queue_size == 9
    assert settings.hosts == ("localhost", "127.0.0.1", "[::1]") and settings.cors_origins == ()
    assert settings_of(parse(["serve", "--host", "0.0.0.0"])).hosts == ()
    with pytest.raises(UsageError, match="PEM"):
        address_of(parse(["serve", "--tls-cert", str(tmp_path / "none.pem")]))
    with pytest.raises(UsageError, match="both"):
        address_of(parse(["serve", "--tls-cert", str(keys)]))
    monkeypatch.setattr("videollama2.cli.serve.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"videollama2\[serve\]"):
        settings_of(parse(["serve"]))
